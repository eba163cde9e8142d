"""Two images, and all that can be asked of them: frames at any time, motion, masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map_only

from uprnet.arrays import channels_of, copied, size_of
from uprnet.errors import InvalidInputError
from uprnet.network.config import PADDING_VALUE, size_multiple
from uprnet.network.model import Features, Motion, Synthesis
from uprnet.network.ops import splat_average
from uprnet.network.striping import Plan

if TYPE_CHECKING:
    from uprnet.interpolate import Interpolator

#: Frames at several times of a pair whose coarser levels a CPU makes at once: those of four are as large as the finest.
COARSE_AT_ONCE = 4


class Pair:
    """Two images and what is known of them; made by `Interpolator.pair`."""

    def __init__(self, interpolator: Interpolator, img0: Any, img1: Any) -> None:
        self._interpolator = interpolator
        self._images = (img0, img1)
        self._known: tuple[Features, Features, Motion] | None = None

    def frame(self, t: float) -> Any:
        """Return the frame at time ``t`` in [0, 1], in the type, size and range of the images."""
        return self.frames([t])[0]

    def frames(self, times: Iterable[float]) -> list[Any]:
        """Return the frames at ``times``, several of which are made at once where that is faster."""
        checked = [_time(t) for t in times]
        between = [t for t in checked if t not in (0, 1)]
        with self._interpolator._at_work(), torch.inference_mode():
            made = iter(self._start(between))
            return [copied(self._images[int(t)]) if t in (0, 1) else next(made)() for t in checked]

    def _times_at_once(self) -> int:
        """Return how many frames are made at once: more than one only of single images without alpha.

        All of them must fit into memory without being cut into stripes.
        """
        image = self._images[0]
        height, width = size_of(image)
        count = self._interpolator._pixels_at_once // (height * width)
        if count < 2 or channels_of(image) == 4 or not self._is_single():
            return 1
        padded = self._estimate()[0].level(0).image
        while count > 1 and self._interpolator._plan(count, *padded.shape[-2:]) != Plan():
            count //= 2
        return count

    def _is_single(self) -> bool:
        image = self._images[0]
        return not isinstance(image, Tensor) or image.ndim == 3

    def _start(self, times: list[float]) -> list[Callable[[], Any]]:
        """Start to make frames, several at once where that is faster; what is returned waits for one of them each."""
        at_once = self._times_at_once() if len(times) > 1 else 1
        if len(times) > at_once == 1 and self._interpolator.engine == "numba" and self._is_single():
            padded = self._estimate()[0].level(0).image
            if self._interpolator._plan(1, *padded.shape[-2:]) == Plan():
                return self._start_from_coarse(times)
        groups = [times[first : first + at_once] for first in range(0, len(times), at_once)]
        return [waiting for group in groups for waiting in self._start_at_once(group)]

    def _start_from_coarse(self, times: list[float]) -> list[Callable[[], Any]]:
        """Start to make frames one by one, after the coarser levels of several: small pictures leave cores idle."""
        started = []
        network = self._interpolator._planned(self._estimate()[0].level(0).image)
        for first in range(0, len(times), COARSE_AT_ONCE):
            group = times[first : first + COARSE_AT_ONCE]
            coarse = network.synthesize_coarse(*self._expanded(len(group)), self._as_tensor(group))
            for number, t in enumerate(group):
                started += self._start_at_once([t], None if coarse is None else coarse[number : number + 1])
        return started

    def _start_at_once(self, times: Sequence[float], coarse: Tensor | None = None) -> list[Callable[[], Any]]:
        """Start to make frames all at once; ``coarse`` is what `UPRNet.synthesize_coarse` made for the only one."""
        has_alpha = channels_of(self._images[0]) == 4
        t = times[0] if len(times) == 1 else self._as_tensor(times)
        synthesis = self._synthesis(t, with_details=has_alpha, coarse=coarse)
        frame = synthesis.frame
        if has_alpha:
            frame = torch.cat([frame, self._alpha(synthesis, times[0])], dim=1)
        single = [frame] if len(times) == 1 else [frame[i : i + 1] for i in range(len(times))]
        return [self._interpolator._transfers.fetch_image(part, self._images[0]) for part in single]

    @torch.inference_mode()
    def synthesis(self, t: float | Tensor, *, with_details: bool = True) -> Synthesis:
        """Return the network's whole result at time ``t`` in (0, 1): frame, masks, residual, cropped to the images.

        Several times, ``(N,)``, of single images give ``N`` results side by side in the batch. Without details, masks
        and so on may have no channels: at 8K they take more than a gigabyte.
        """
        if not isinstance(t, Tensor) or t.ndim == 0:
            t = _time(t)
        else:
            for one in t.tolist():
                _time(one)
        with self._interpolator._at_work():
            return self._synthesis(t, with_details=with_details)

    def _synthesis(self, t: float | Tensor, *, with_details: bool, coarse: Tensor | None = None) -> Synthesis:
        """Do what `synthesis` does, for checked times, while no other thread is at work."""
        known = self._estimate()
        if isinstance(t, Tensor):
            known, t = self._expanded(len(t)), t.to(self._interpolator.device)
        network = self._interpolator._planned(known[0].level(0).image, with_details=with_details)
        synthesis = network.synthesize(*known, t, *([] if coarse is None else [coarse]))
        height, width = size_of(self._images[0])
        frame, merged, raw = (part[..., :height, :width] for part in synthesis[:3])
        return Synthesis(frame, merged, raw, frames=[])

    def flow(self) -> tuple[Tensor, Tensor]:
        """Return ``flow_01`` and ``flow_10``, ``(B, 2, H, W)`` each, ``(dx, dy)`` in pixels of the images."""
        height, width = size_of(self._images[0])
        with self._interpolator._at_work(), torch.inference_mode():
            flow_01, flow_10 = self._estimate()[2].full_resolution()
        return copied(flow_01[..., :height, :width]), copied(flow_10[..., :height, :width])

    @torch.inference_mode()
    def _estimate(self) -> tuple[Features, Features, Motion]:
        if self._known is None:
            features0, features1 = (self._interpolator._features(self._padded(image)) for image in self._images)
            network = self._interpolator._planned(features0.level(0).image)
            self._known = features0, features1, network.estimate_motion(features0, features1)
        return self._known

    def _as_tensor(self, times: Sequence[float]) -> Tensor:
        return torch.tensor(times, dtype=torch.float32, device=self._interpolator.device)

    def _expanded(self, count: int) -> tuple[Features, Features, Motion]:
        """Return what is known of the pair as a batch of so many of it."""
        known = tree_map_only(Tensor, lambda tensor: tensor.expand(count, -1, -1, -1), self._estimate())
        return cast("tuple[Features, Features, Motion]", known)

    def _padded(self, image: Any) -> Tensor:
        tensor = self._interpolator._transfers.send_image(image)[:, :3]
        height, width = tensor.shape[-2:]
        multiple = size_multiple(self._interpolator.levels_for(height, width)[0])
        mode = self._interpolator.padding
        value = PADDING_VALUE if mode == "constant" else None
        padding = [0, -width % multiple, 0, -height % multiple]
        padded = F.pad(tensor, padding, mode=mode, value=value) if any(padding) else tensor.clone()
        return padded.contiguous(memory_format=torch.channels_last)

    def _alpha(self, synthesis: Synthesis, t: float) -> Tensor:
        """Warp the alpha of both images as their colours were, and merge it by the same masks.

        Where nothing arrived the masks know nothing, and unlike colour there is no residual to fill the gap: the
        plain blend of the two serves there.
        """
        alpha0, alpha1 = (self._interpolator._transfers.send_image(image)[:, 3:] for image in self._images)
        flow_01, flow_10 = self.flow()
        ones = torch.ones_like(alpha0)
        warped0 = splat_average(torch.cat([alpha0, ones], dim=1), t * flow_01)
        warped1 = splat_average(torch.cat([alpha1, ones], dim=1), (1 - t) * flow_10)
        weight0 = synthesis.mask0 * (1 - t) * warped0[:, 1:]
        weight1 = synthesis.mask1 * t * warped1[:, 1:]
        weights = weight0 + weight1
        merged = (warped0[:, :1] * weight0 + warped1[:, :1] * weight1) / torch.where(weights == 0, 1, weights)
        return torch.where(weights == 0, (1 - t) * alpha0 + t * alpha1, merged)


def _time(t: Any) -> float:
    """Return a time of any type that is a number in [0, 1]."""
    try:
        time = float(t)
    except (TypeError, ValueError):
        time = math.nan
    if not 0 <= time <= 1:
        raise InvalidInputError(f"t must be in [0, 1], got {t}")
    return time
