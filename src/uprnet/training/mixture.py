"""All sources of a run, mixed by weight, as one deterministic stream of samples."""

import logging
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from uprnet.errors import MediaError, TrainingError
from uprnet.network.allocator import reuse_freed_memory
from uprnet.training.augmentation import AugmentationConfig, augment
from uprnet.training.limits import check_limits
from uprnet.training.sample import Sample, collate
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion
from uprnet.training.trees import X4K, SeptupletConfig, Septuplets, TripletConfig, Triplets, X4KConfig
from uprnet.training.videos import VideoConfig, VideoFolder

logger = logging.getLogger(__name__)

MAX_BAD_IN_A_ROW = 20  # unreadable samples after which the data set, not a file, is at fault
START_MOTION = 0.25  # factor on synthetic motion at the start of a curriculum


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from. Sources with a weight above 0 are mixed.

    Args:
        crop: Side of the square that is cut, in pixels.
        workers: Processes that prepare samples, for each training process; 0 prepares them in the training process.
        echoes: Steps that each sample is learned in, each time turned, mirrored or played backwards at random: for a
            GPU that learns faster than the cores make samples. 1 takes each once, as it is.
        on_bad_sample: ``skip`` names, skips and counts an unreadable sample, ``stop`` ends the run.
        curriculum: Share of the run over which synthetic motion grows to its full size; 0 starts with it.
        augmentation: Variations of each sample.
        synthetic: Synthetic motion with exact flow.
        video: A folder of videos.
        triplets: Vimeo90K triplets.
        septuplets: Vimeo90K septuplets.
        x4k: X4K1000FPS training clips.
    """

    crop: int = 128
    workers: int = 1
    echoes: int = 1
    on_bad_sample: str = "skip"
    curriculum: float = 0.0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    triplets: TripletConfig = field(default_factory=TripletConfig)
    septuplets: SeptupletConfig = field(default_factory=SeptupletConfig)
    x4k: X4KConfig = field(default_factory=X4KConfig)

    def __post_init__(self) -> None:
        check_limits("data", self, crop=1, workers=0, echoes=1)
        check_limits("data.augmentation", self.augmentation, padding=0)
        if self.augmentation.padding >= self.crop:
            raise TrainingError(
                f"data.augmentation.padding must be below data.crop, got {self.augmentation.padding} and {self.crop}"
            )


class Source(Protocol):
    """Anything that samples can be drawn from."""

    def draw(self, size: int, augmentation: AugmentationConfig, rng: np.random.Generator) -> Sample:
        """Draw a sample and cut a square of ``size`` from it."""
        ...


def open_sources(config: DataConfig, held_out: bool = False) -> dict[str, tuple[Source | SyntheticMotion, float]]:
    """Open each source that has a weight.

    Args:
        config: The sources.
        held_out: Open the parts kept for validation.

    Returns:
        Each source and its weight, by name.

    Raises:
        TrainingError: If no source has a weight, a weight is negative, or a source cannot be opened.
    """
    settings = (config.synthetic, config.video, config.triplets, config.septuplets, config.x4k)
    if any(setting.weight < 0 for setting in settings) or not any(setting.weight > 0 for setting in settings):
        weights = ", ".join(f"{setting.weight:g}" for setting in settings)
        raise TrainingError(f"the weights of the sources must be at least 0 and one above 0, got {weights}")
    sources: dict[str, tuple[Source | SyntheticMotion, float]] = {}
    if config.synthetic.weight > 0:
        sources["synthetic"] = (SyntheticMotion(config.synthetic, held_out), config.synthetic.weight)
    if config.video.weight > 0:
        sources["video"] = (VideoFolder(config.video, held_out), config.video.weight)
    if config.triplets.weight > 0:
        sources["triplets"] = (Triplets(config.triplets, held_out), config.triplets.weight)
    if config.septuplets.weight > 0:
        sources["septuplets"] = (Septuplets(config.septuplets, held_out), config.septuplets.weight)
    if config.x4k.weight > 0:
        sources["x4k"] = (X4K(config.x4k, held_out), config.x4k.weight)
    return sources


class TrainingStream(Dataset[Sample]):
    """The samples of a run: number ``i`` is a pure function of the seed and ``i``.

    So it does not matter how many workers or processes prepare them, and a run that is resumed at step ``n`` sees
    what it would have seen.

    Args:
        config: The sources.
        seed: Seed of the run.
        length: Samples in the whole run, over which the curriculum is laid.

    Raises:
        TrainingError: If a source cannot be opened.
    """

    def __init__(self, config: DataConfig, seed: int, length: int) -> None:
        if config.on_bad_sample not in ("skip", "stop"):
            raise TrainingError(f"data.on_bad_sample must be skip or stop, got {config.on_bad_sample!r}")
        self._config = config
        self._seed = seed
        self._length = length
        opened = open_sources(config)
        self._sources = [source for source, _ in opened.values()]
        for source in self._sources:
            if isinstance(source, VideoFolder):
                source.check_fit(config.crop)  # now, and not when the clip's turn comes
        weights = np.array([weight for _, weight in opened.values()])
        self._shares = weights / weights.sum()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self._seed, index))
        for bad in range(MAX_BAD_IN_A_ROW):
            source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
            try:
                sample = self._draw(source, index, rng)
            except MediaError as error:
                if self._config.on_bad_sample == "stop":
                    raise TrainingError(f"sample {index} cannot be read: {error}") from error
                logger.warning("skipped a sample: %s", error)
                continue
            return Sample(**{**vars(sample), "skipped": bad})
        raise TrainingError(f"{MAX_BAD_IN_A_ROW} samples in a row cannot be read; the data set is damaged")

    def _draw(self, source: Source | SyntheticMotion, index: int, rng: np.random.Generator) -> Sample:
        config = self._config
        if isinstance(source, SyntheticMotion):
            sample = source.sample(config.crop, rng, motion_scale(index / self._length, config.curriculum))
        else:
            sample = source.draw(config.crop, config.augmentation, rng)
        return augment(sample, config.augmentation, rng)


class Positions(Sampler[list[int]]):
    """Which samples one process takes at each step, in order.

    Args:
        first_step: Step to begin with.
        last_step: Step before which to end.
        batch_size: Samples of a step over all processes and parts.
        parts: Parts that a process accumulates gradients over in a step.
        rank: Number of this process.
        processes: Number of processes.
    """

    def __init__(self, first_step: int, last_step: int, batch_size: int, parts: int, rank: int, processes: int) -> None:
        self._steps = range(first_step, last_step)
        self._batch_size = batch_size
        self._parts = parts
        self._rank = rank
        self._processes = processes

    def __len__(self) -> int:
        return len(self._steps) * self._parts

    def __iter__(self) -> Iterator[list[int]]:
        size = self._batch_size // (self._processes * self._parts)
        for step in self._steps:
            for part in range(self._parts):
                first = step * self._batch_size + (self._rank * self._parts + part) * size
                yield list(range(first, first + size))


def open_loader(stream: TrainingStream, positions: Positions, workers: int, pin_memory: bool) -> DataLoader[Any]:
    """Prepare the samples of a run ahead.

    Args:
        stream: The samples.
        positions: Which of them, and in which order.
        workers: Processes that prepare them; 0 prepares them when they are asked for.
        pin_memory: Leave them where a GPU reads fast.

    Returns:
        The batches, as `PackedBatch`.
    """
    # Forked workers share the photos of this process; where that is not possible they are copied.
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    return DataLoader(
        stream,
        batch_sampler=positions,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_prepare_worker,
        multiprocessing_context="fork" if workers and can_fork else None,
    )


def motion_scale(progress: float, curriculum: float) -> float:
    """Factor on synthetic motion at a point of the run: grows linearly, then stays 1.

    Args:
        progress: Share of the run that is done.
        curriculum: Share of the run over which motion grows.

    Returns:
        From 0.25 to 1.
    """
    if curriculum <= 0:
        return 1.0
    return min(1.0, START_MOTION + (1 - START_MOTION) * progress / curriculum)


def _prepare_worker(_: int) -> None:
    """Keep a data worker to one thread and the memory that it has, and out of the way of Ctrl-C.

    The cores belong to the network; and signals that reach a whole group of processes must not end the workers
    before the training process has finished its step and written its checkpoint. So a worker gets a group of its own.
    It still heeds a signal sent to it alone: that is how the training process ends it.
    """
    cv2.setNumThreads(0)
    reuse_freed_memory()
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)
