"""Arrays in, arrays out: the frames between two images, whatever their type, size and device.

Convention:
    numpy images are ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA; torch images are ``(C, H, W)`` or ``(B, C, H, W)``.
    Integers span their type's range, floats are in [0, 1]. Flow is ``(dx, dy)`` in pixels.
    ``t`` is 0 at ``img0`` and 1 at ``img1``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uprnet.errors import InvalidInputError
from uprnet.network.allocator import reuse_freed_memory
from uprnet.network.config import default_num_levels, default_skip_finest, size_multiple
from uprnet.network.model import Features, Motion, Synthesis, UPRNet
from uprnet.network.ops import splat_average
from uprnet.network.weights import load_model

#: Height and width, in pixels, that an image must have at least.
MIN_SIDE = 16

#: Value of the ``constant`` padding: the reference's choice, and that of the published benchmark numbers.
PADDING_VALUE = 0.5

#: How images are filled up on the right and bottom; the result there is cropped away.
Padding = Literal["replicate", "constant"]

#: How far, in units of full scale, float images may leave [0, 1]: filters overshoot, 0-to-255 floats are a mistake.
RANGE_TOLERANCE = 0.05

Array = TypeVar("Array", "NDArray[Any]", Tensor)


class Interpolator:
    """Make frames between two images.

    Padding, the number of levels, types and the reuse of work are taken care of: motion is estimated once a pair,
    and a frame that was the second of the last pair and is the first of this one is not encoded again.

    Args:
        model: ``base`` or ``small`` (inside the package), the path of a weights file, or a network.
        device: ``auto`` (CUDA, then Apple's MPS, then the CPU), or any torch device.
        num_levels: Levels of the pyramid; by default as many as the size needs, see `default_num_levels`.
        skip_finest: Finest levels without motion estimation; by default as `default_skip_finest` says.
        padding: How images are filled up to a size that the network takes: ``replicate`` repeats the last row and
            column; ``constant`` puts grey there, as the reference does, which shows at edges that things move over.

    Raises:
        InvalidInputError: If there is no such device or padding.
        WeightsError: If the weights cannot be read.

    Example:
        >>> interpolator = Interpolator("small", device="cpu")
        >>> black, grey = np.zeros((32, 48, 3), np.uint8), np.full((32, 48, 3), 99, np.uint8)
        >>> interpolator(black, grey, t=0.5).shape
        (32, 48, 3)
    """

    def __init__(
        self,
        model: str | Path | UPRNet = "base",
        device: str | torch.device = "auto",
        *,
        num_levels: int | None = None,
        skip_finest: int | None = None,
        padding: Padding = "replicate",
    ) -> None:
        if padding not in get_args(Padding):
            raise InvalidInputError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")
        self.device = pick_device(device)
        if self.device.type == "cpu":
            reuse_freed_memory()
        network = model.eval() if isinstance(model, UPRNet) else load_model(model)
        network = network.to(self.device)
        self.model: UPRNet = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.num_levels = num_levels
        self.skip_finest = skip_finest
        self.padding: Padding = padding
        self._recent: deque[Features] = deque(maxlen=2)

    def __call__(self, img0: Array, img1: Array, t: float = 0.5) -> Array:
        """Return the frame at time ``t``, in the type, size and range of the images."""
        return self.between(img0, img1, [t])[0]

    def between(self, img0: Array, img1: Array, times: Sequence[float]) -> list[Array]:
        """Return one frame for each of ``times``; motion is estimated once for all.

        Args:
            img0: First image.
            img1: Second image, of the same type and size.
            times: Times in [0, 1]; at 0 and 1 the image itself comes back, exactly.

        Raises:
            InvalidInputError: If the images or a time do not fit.
        """
        pair = self.pair(img0, img1)
        return [cast("Array", pair.frame(t)) for t in times]

    def pair(self, img0: Array, img1: Array) -> Pair:
        """Prepare a pair: its motion is estimated when first needed, then shared by all that is asked of it."""
        _check_images(img0, img1)
        return Pair(self, img0, img1)

    @torch.inference_mode()
    def _features(self, image: Tensor) -> Features:
        """Encode a padded image, unless it is one of the two that were used last."""
        for features in self._recent:
            if torch.equal(features.level(0).image, image):
                return features
        features = self.model.encode(image, *self.levels_for(*image.shape[-2:]))
        self._recent.append(features)
        return features

    def levels_for(self, height: int, width: int) -> tuple[int, int]:
        """Return ``num_levels`` and ``skip_finest`` for an image of this size."""
        num_levels = self.num_levels or default_num_levels(height, width)
        skip_finest = default_skip_finest(num_levels) if self.skip_finest is None else self.skip_finest
        return num_levels, skip_finest


class Pair:
    """Two images and what is known of them; made by `Interpolator.pair`."""

    def __init__(self, interpolator: Interpolator, img0: Any, img1: Any) -> None:
        self._interpolator = interpolator
        self._images = (img0, img1)
        self._known: tuple[Features, Features, Motion] | None = None

    def frame(self, t: float) -> Any:
        """Return the frame at time ``t`` in [0, 1], in the type, size and range of the images."""
        _check_time(t)
        if t in (0, 1):
            image = self._images[int(t)]
            return image.clone() if isinstance(image, Tensor) else image.copy()
        synthesis = self.synthesis(t)
        frame = synthesis.frame
        if _channels(self._images[0]) == 4:
            frame = torch.cat([frame, self._alpha(synthesis, t)], dim=1)
        return _from_network(frame, self._images[0])

    @torch.inference_mode()
    def synthesis(self, t: float) -> Synthesis:
        """Return the network's whole result at time ``t`` in (0, 1): frame, masks, residual, cropped to the images."""
        synthesis = self._interpolator.model.synthesize(*self._estimate(), t)
        height, width = _size(self._images[0])
        frame, merged, residual, mask0, mask1 = (part[..., :height, :width] for part in synthesis[:5])
        return Synthesis(frame, merged, residual, mask0, mask1, frames=[])

    @torch.inference_mode()
    def flow(self) -> tuple[Tensor, Tensor]:
        """Return ``flow_01`` and ``flow_10``, ``(B, 2, H, W)`` each, ``(dx, dy)`` in pixels of the images."""
        height, width = _size(self._images[0])
        flow_01, flow_10 = self._estimate()[2].full_resolution()
        return flow_01[..., :height, :width], flow_10[..., :height, :width]

    @torch.inference_mode()
    def _estimate(self) -> tuple[Features, Features, Motion]:
        if self._known is None:
            features0, features1 = (self._interpolator._features(self._padded(image)) for image in self._images)
            self._known = features0, features1, self._interpolator.model.estimate_motion(features0, features1)
        return self._known

    def _padded(self, image: Any) -> Tensor:
        tensor = _to_network(image, self._interpolator.device)[:, :3]
        height, width = tensor.shape[-2:]
        multiple = size_multiple(self._interpolator.levels_for(height, width)[0])
        mode = self._interpolator.padding
        value = PADDING_VALUE if mode == "constant" else None
        padded = F.pad(tensor, [0, -width % multiple, 0, -height % multiple], mode=mode, value=value)
        return padded.contiguous(memory_format=torch.channels_last)

    def _alpha(self, synthesis: Synthesis, t: float) -> Tensor:
        """Warp the alpha of both images as their colours were, and merge it by the same masks.

        Where nothing arrived the masks know nothing, and unlike colour there is no residual to fill the gap: the
        plain blend of the two serves there.
        """
        alpha0, alpha1 = (_to_network(image, self._interpolator.device)[:, 3:] for image in self._images)
        flow_01, flow_10 = self.flow()
        ones = torch.ones_like(alpha0)
        warped0 = splat_average(torch.cat([alpha0, ones], dim=1), t * flow_01)
        warped1 = splat_average(torch.cat([alpha1, ones], dim=1), (1 - t) * flow_10)
        weight0 = synthesis.mask0 * (1 - t) * warped0[:, 1:]
        weight1 = synthesis.mask1 * t * warped1[:, 1:]
        weights = weight0 + weight1
        merged = (warped0[:, :1] * weight0 + warped1[:, :1] * weight1) / torch.where(weights == 0, 1, weights)
        return torch.where(weights == 0, (1 - t) * alpha0 + t * alpha1, merged)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device that ``device`` names; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InvalidInputError: If there is no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"device must be auto, cpu, cuda or another of torch's here, got {device}: {reason}"
        ) from None
    return picked


def _check_time(t: float) -> None:
    if not 0 <= t <= 1:
        raise InvalidInputError(f"t must be in [0, 1], got {t}")


def _channels(image: NDArray[Any] | Tensor) -> int:
    return image.shape[-3] if isinstance(image, Tensor) else image.shape[-1]


def _size(image: NDArray[Any] | Tensor) -> tuple[int, int]:
    height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
    return height, width


def _check_images(img0: Any, img1: Any) -> None:
    for name, image in (("img0", img0), ("img1", img1)):
        shape = tuple(getattr(image, "shape", ()))
        if isinstance(image, Tensor):
            good = image.ndim in (3, 4) and shape[-3] in (3, 4)
        else:
            good = isinstance(image, np.ndarray) and image.ndim == 3 and shape[2] in (3, 4)
        if not good:
            raise InvalidInputError(
                f"{name} must be a numpy array (H, W, 3 or 4) or a torch tensor (3 or 4, H, W), "
                f"got {type(image).__name__} {shape}"
            )
        if min(_size(image)) < MIN_SIDE:
            raise InvalidInputError(f"{name} must be at least {MIN_SIDE} x {MIN_SIDE} pixels, got {_size(image)}")
    if _size(img0) != _size(img1):
        raise InvalidInputError(f"img0 and img1 must have the same size, got {_size(img0)} and {_size(img1)}")
    if type(img0) is not type(img1) or img0.shape != img1.shape or img0.dtype != img1.dtype:
        raise InvalidInputError(
            f"img0 and img1 must be alike, got {img0.dtype} {tuple(img0.shape)} and {img1.dtype} {tuple(img1.shape)}"
        )


def _full_scale(image: NDArray[Any] | Tensor) -> float:
    """The value of white: 1 for floats, the largest number of an unsigned integer type."""
    name = str(image.dtype).removeprefix("torch.")
    if name.startswith(("float", "bfloat")):
        return 1.0
    if name in ("uint8", "uint16"):
        return float(np.iinfo(name).max)
    raise InvalidInputError(f"images must be uint8, uint16 or floating in [0, 1], got {name}")


def _to_network(image: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Convert an image to float32 in [0, 1], ``(B, C, H, W)``."""
    white = _full_scale(image)
    if isinstance(image, Tensor):
        tensor = image if image.ndim == 4 else image[None]
    else:
        # The batch comes first: torch takes a tensor for channels-last only if the strides of all axes say so.
        tensor = torch.from_numpy(np.ascontiguousarray(image)[None]).permute(0, 3, 1, 2)
    tensor = tensor.to(device).float()
    if white != 1:
        return tensor / white
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # true for NaN, too
        raise InvalidInputError(
            f"floating images must be in [0, 1], got values from {low:g} to {high:g}; scale them first"
        )
    return tensor


def _from_network(frame: Tensor, like: NDArray[Any] | Tensor) -> Any:
    """Convert a frame back to the type, shape and device of ``like``; integers are rounded, not truncated."""
    white = _full_scale(like)
    if white != 1:
        frame = (frame * white).round().clamp(0, white)
    if isinstance(like, Tensor):
        return frame.to(like.device, like.dtype).view(like.shape).clone()
    return np.ascontiguousarray(frame[0].permute(1, 2, 0).cpu().numpy().astype(like.dtype))
