"""What a step learns: samples on the device, with what a teacher makes of them, in one step or in several.

A GPU may learn faster than the cores beside it can make samples. Each of them can then be learned several times,
seen from another side each time.

Reference:
    Choi et al., "Faster Neural Network Training with Data Echoing", 2019.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from uprnet.errors import TrainingError
from uprnet.training.sample import Batch, PackedBatch
from uprnet.training.teacher import Teacher
from uprnet.training.views import VIEWS, View


class Supply:
    """Prepares the samples of each part of a step.

    What it draws depends on nothing but the seed and the place in the run, so a run can be resumed at any step.

    Args:
        device: Where the network is.
        channels_last: Lay images out with channels side by side.
        teacher: Who teaches, if anybody.
        echoes: Steps that each sample is learned in.
        seed: Seed of the run, and what else tells processes apart.
    """

    def __init__(
        self, device: torch.device, channels_last: bool, teacher: Teacher | None, echoes: int, seed: tuple[int, ...]
    ) -> None:
        self._device = device
        self._channels_last = channels_last
        self._teacher = teacher
        self._echoes = echoes
        self._seed = seed
        self._taught: list[Batch] = []  # what the parts of the last step were made of

    def __call__(self, step: int, part: int, batches: Iterator[PackedBatch]) -> Batch:
        """The samples of a part of a step: new ones, or those of the step before as seen from another side.

        Args:
            step: Steps before this one.
            part: Parts of the step before this one.
            batches: Where new samples come from.

        Returns:
            The samples, on the device.

        Raises:
            TrainingError: If no sample can be made; in one line, without the traceback of the worker that says so.
        """
        echo = step % self._echoes
        if echo == 0 or part >= len(self._taught):  # new ones, or just resumed
            drawn = self._generator(step // self._echoes, part, 0)
            self._taught[part:] = [self.prepare(_next(batches), drawn)]
        taught = self._taught[part]
        if self._echoes == 1:
            return taught
        view = View(int(torch.randint(VIEWS, (), generator=self._generator(step, part, 1))))
        return view.batch(taught if echo == 0 else replace(taught, skipped=torch.zeros_like(taught.skipped)))

    def prepare(self, packed: PackedBatch, generator: torch.Generator | None = None) -> Batch:
        """Bring samples to the device, and add what the teacher makes of them if there is one.

        Args:
            packed: Samples.
            generator: What the teacher's views are drawn with.

        Returns:
            The samples, on the device.
        """
        batch = packed.unpack(self._device, channels_last=self._channels_last)
        return self._teacher(batch, generator) if self._teacher is not None else batch

    def _generator(self, *place: int) -> torch.Generator:
        numbers = np.random.SeedSequence((*self._seed, *place))
        return torch.Generator().manual_seed(int(numbers.generate_state(1)[0]))


def _next(batches: Iterator[PackedBatch]) -> PackedBatch:
    try:
        return next(batches)
    except TrainingError as error:
        raise TrainingError(
            str(error).strip().splitlines()[-1].removeprefix("uprnet.errors.TrainingError: ")
        ) from error
