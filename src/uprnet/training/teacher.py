"""A finished network that another one learns from.

What a network makes of a sample depends a little on how the sample is turned, mirrored, or played: the mean over all
these views is better than each of them, and has none of the noise of a true frame. A large network teaches a small one
so, and a network itself.

Reference:
    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Laine and Aila, "Temporal Ensembling for
    Semi-Supervised Learning", ICLR 2017.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from uprnet.engines import attach, choose
from uprnet.errors import TrainingError
from uprnet.network.weights import load_model
from uprnet.training.limits import check_limits
from uprnet.training.sample import Batch
from uprnet.training.views import VIEWS, View


@dataclass(frozen=True)
class TeacherConfig:
    """Who teaches; `LossConfig.teacher` says how much its frames count, `LossConfig.flow` how much its motion.

    Args:
        weights: Weights of the teacher (a name or a file), of any size; empty for none.
        motion: Learn its motion too, of the samples whose true motion nobody knows: it keeps that of real clips while
            synthetic motion is learned.
        views: Views of a part of a batch, out of 16 and drawn anew for each, of which the teacher's mean is learned.
    """

    weights: str = ""
    motion: bool = False
    views: int = 1

    def __post_init__(self) -> None:
        check_limits("teacher", self, views=1)
        if self.views > VIEWS:
            raise TrainingError(f"teacher.views must be at most {VIEWS}, got {self.views}")


class Teacher:
    """Makes the frames, and the motion, that shall be learned.

    Args:
        config: Who teaches.
        num_levels: Levels of the pyramid.
        device: Where batches are.
        autocast: Makes the context in which a network on a GPU computes.
        frames: Whether frames are learned, or motion alone.

    Raises:
        InvalidInputError, WeightsError: If the weights cannot be loaded.

    Example:
        >>> teacher = Teacher(TeacherConfig("base"), 3, torch.device("cpu"), nullcontext)  # doctest: +SKIP
        >>> batch = teacher(batch)  # doctest: +SKIP
    """

    def __init__(
        self,
        config: TeacherConfig,
        num_levels: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]],
        frames: bool = True,
    ) -> None:
        network = load_model(config.weights, device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = attach(network, choose("auto", device))
        self._num_levels = num_levels
        self._config = config
        self._autocast = autocast
        self._frames = frames

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Return a batch with its lesson.

        Args:
            batch: Samples, square.
            generator: What views are drawn with; None takes torch's own.

        Returns:
            The same, with the teacher's frames, and its motion where none was known, as far as these are learned.
        """
        unknown = (batch.has_flow == 0).nonzero().flatten()
        rows = torch.arange(len(batch.t), device=batch.t.device) if self._frames else unknown
        if not len(rows):
            return batch
        views = [View(number) for number in torch.randperm(VIEWS, generator=generator)[: self._config.views].tolist()]
        seen = [self._look(batch.img0[rows], batch.img1[rows], batch.t[rows], view) for view in views]
        if self._frames:
            lesson = torch.stack([frame for frame, _ in seen]).mean(dim=0)
            batch = replace(batch, lesson=lesson)
        if self._config.motion:
            found = torch.stack([flow for _, flow in seen]).mean(dim=0)
            flow = batch.flow.index_copy(0, unknown, found[unknown] if self._frames else found)
            batch = replace(batch, flow=flow, has_flow=torch.ones_like(batch.has_flow))
        return batch

    def _look(self, img0: Tensor, img1: Tensor, t: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """Frames ``(B, 3, H, W)``, empty if none are learned, and flow ``(B, 4, H, W)``, as seen in a view."""
        network = self._network
        with self._autocast():
            features0, features1 = (network.encode(image, self._num_levels) for image in view.pair(img0, img1))
            motion = network.estimate_motion(features0, features1)
            frame = img0[:0]
            if self._frames:
                frame = network.synthesize(features0, features1, motion, view.time(t)).frame
            flow = torch.cat(motion.full_resolution(), dim=1)
        return view.back.frame(frame), view.back.flow(flow.float())
