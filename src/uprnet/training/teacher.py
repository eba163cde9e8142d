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

VIEWS = 16  # four turns, mirrored or not, forwards or backwards


@dataclass(frozen=True)
class TeacherConfig:
    """Who teaches; `LossConfig.teacher` says how much that counts.

    Args:
        weights: Weights of the teacher (a name or a file), of any size; empty for none.
        views: Views of a part of a batch, out of 16 and drawn anew for each, of which the teacher's mean is learned.
    """

    weights: str = ""
    views: int = 1

    def __post_init__(self) -> None:
        check_limits("teacher", self, views=1)
        if self.views > VIEWS:
            raise TrainingError(f"teacher.views must be at most {VIEWS}, got {self.views}")


class Teacher:
    """Makes the frames that shall be learned.

    Views are drawn from torch's own random state, which checkpoints hold.

    Args:
        config: Who teaches.
        num_levels: Levels of the pyramid.
        device: Where batches are.
        autocast: Makes the context in which a network on a GPU computes.

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
    ) -> None:
        network = load_model(config.weights, device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = attach(network, choose("auto", device))
        self._num_levels = num_levels
        self._views = config.views
        self._autocast = autocast

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """Return a batch with its lesson.

        Args:
            batch: Samples, square.

        Returns:
            The same, with the teacher's frames.
        """
        views = torch.randperm(VIEWS)[: self._views].tolist()
        lesson = torch.zeros_like(batch.target)
        for view in views:
            lesson += self._frame(batch, view) / len(views)
        return replace(batch, lesson=lesson)

    def _frame(self, batch: Batch, view: int) -> Tensor:
        turns, is_mirrored, is_backwards = view % 4, view // 4 % 2, view // 8
        images, t = [batch.img0, batch.img1], batch.t
        if is_backwards:
            images, t = images[::-1], 1 - t
        images = [torch.rot90(image, turns, (2, 3)) for image in images]
        if is_mirrored:
            images = [image.flip(3) for image in images]
        with self._autocast():
            frame = self._network(*images, t, self._num_levels).frame
        if is_mirrored:
            frame = frame.flip(3)
        return torch.rot90(frame, -turns, (2, 3))
