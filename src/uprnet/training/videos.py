"""A folder of videos as training data: clips that are cut into triples x < y < z."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uprnet.errors import TrainingError
from uprnet.training.augmentation import AugmentationConfig, draw_scale, resize_square
from uprnet.training.clips import CELL, IMAGE_SUFFIXES, Clip, load_clip
from uprnet.training.dis_flow import with_dis_flow
from uprnet.training.limits import check_limits
from uprnet.training.sample import Sample

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".264", ".h264", ".hevc", ".gif"}
)

CLIP_EXPONENT = 0.75  # a clip is drawn with probability ~ activity ** 0.75: many short scenes beat one long one
HELD_OUT_EVERY = 20  # clips, of which one is kept for validation if none is named
MAX_DRAWS = 8  # triples tried until one moves as wanted
MAX_WINDOWS = 6  # windows looked at, of which one that moves is preferred


@dataclass(frozen=True)
class VideoConfig:
    """Which videos, and which triples of their frames.

    Args:
        root: Folder of video files and of folders of frames; empty for none.
        weight: Share of the samples of a run that come from here, relative to the other sources.
        cache: Folder for the decoded frames (raw, about 0.7 MB a frame).
        exclude: Names (with * and ?) that are left out.
        held_out: Names (with * and ?) kept for validation; empty keeps every 20th.
        max_side: Longer side to which frames are shrunk at least, in pixels.
        max_stride: Largest distance between two neighbours of a triple, in frames.
        max_motion: Largest motion from the first to the last frame, as a share of the crop.
        middle: Share of triples whose target is half way; the others are at any frame between.
        dis_flow: Take OpenCV's DIS flow for the true motion, at pixels where both directions agree.
    """

    root: str = ""
    weight: float = 0.0
    cache: str = "runs/cache"
    exclude: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    max_side: int = 720
    max_stride: int = 4
    max_motion: float = 0.35
    middle: float = 0.8
    dis_flow: bool = False

    def __post_init__(self) -> None:
        check_limits("data.video", self, max_stride=1, max_side=1)


class VideoFolder:
    """Random triples of frames from a folder of videos.

    Expected::

        root/
          street.mp4          any video file
          toys/               or a folder of frames of one size, in the order of their names
            0001.png
            0002.png

    Each video is decoded once, shrunk if it was compressed hard, and kept raw in the cache together with its
    motion. Triples never span a cut or a repeated frame. ``t`` follows the frames' time stamps.

    Args:
        config: Which videos and which triples.
        held_out: Take the clips kept for validation instead of the others.

    Raises:
        TrainingError: If the folder is missing or holds no usable video.
    """

    def __init__(self, config: VideoConfig, held_out: bool = False) -> None:
        self.config = config
        self._has_flow = config.dis_flow and not held_out  # it teaches, it does not judge
        root = Path(config.root)
        if not config.root or not root.is_dir():
            raise TrainingError(
                f"data.video.root must be a folder of videos, got {config.root!r}, which is not a folder"
            )
        names = [path for path in sorted(root.iterdir()) if _is_clip(path) and not _matches(path, config.exclude)]
        kept = [path for index, path in enumerate(names) if _is_held_out(path, index, config, len(names)) == held_out]
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding leaves Python's lock to others
            clips = pool.map(self._load, kept)
            self.clips = [clip for clip in clips if clip is not None and clip.starts]
        if not self.clips:
            part = "for validation" if held_out else "for training"
            raise TrainingError(
                f"{root} must hold videos or folders of frames with three usable frames in a row, found none {part}"
            )
        weights = np.array([clip.activity**CLIP_EXPONENT for clip in self.clips])
        self._shares = weights / weights.sum()

    def draw(self, size: int, augmentation: AugmentationConfig, rng: np.random.Generator) -> Sample:
        """Draw a triple and cut a square from it.

        Args:
            size: Side of the result, in pixels.
            augmentation: The range of the random scale.
            rng: Source of all randomness.

        Returns:
            A sample, without flow unless `VideoConfig.dis_flow` asks for it.

        Raises:
            TrainingError: If the frames are smaller than ``size``.
        """
        clip = self.clips[int(rng.choice(len(self.clips), p=self._shares))]
        _check_fit(clip, size)
        height, width = clip.frames.shape[1:3]
        span = self._draw_span(clip, rng)
        for _ in range(MAX_DRAWS):
            side = min(max(round(size / draw_scale(augmentation, rng)), 8), height, width)
            first = int(rng.choice(clip.starts[span]))
            motion = clip.motion[first : first + span].sum(axis=0)
            top, left, moved = _draw_window(motion, (height, width), side, rng)
            if moved <= self.config.max_motion * side:
                break
            span = max(2, span // 2)  # too far to be found: look for a shorter triple
        middle = first + span // 2
        if span % 2 or rng.random() >= self.config.middle:
            middle = first + int(rng.integers(1, span))
        three, window = (first, middle, first + span), (slice(top, top + side), slice(left, left + side))
        x, y, z = (clip.times[index] for index in three)
        img0, target, img1 = (np.array(clip.frames[index][window]) for index in three)
        sample = resize_square(Sample(img0, img1, target, float((y - x) / (z - x))), size)
        return with_dis_flow(sample) if self._has_flow else sample

    def _load(self, path: Path) -> Clip | None:
        config = self.config
        return load_clip(path, Path(config.cache), config.max_side, 2 * config.max_stride)

    def check_fit(self, size: int) -> None:
        """Check that a square fits into every clip.

        Raises:
            TrainingError: If it does not.
        """
        for clip in self.clips:
            _check_fit(clip, size)

    def _draw_span(self, clip: Clip, rng: np.random.Generator) -> int:
        """Frames from the first to the last of a triple."""
        longest = max(clip.starts)
        if rng.random() < self.config.middle:
            return 2 * int(rng.integers(1, longest // 2 + 1))
        return int(rng.integers(2, longest + 1))


def _check_fit(clip: Clip, size: int) -> None:
    height, width = clip.frames.shape[1:3]
    if min(height, width) < size:
        raise TrainingError(
            f"the crop of {size}x{size} must fit into the images, {clip.name} is {height}x{width} in the cache; "
            "take a smaller crop, or leave it out (data.video.exclude)"
        )


def _draw_window(
    motion: NDArray[np.float32], frame: tuple[int, int], side: int, rng: np.random.Generator
) -> tuple[int, int, float]:
    """Draw a square, rather where something moves: top, left, and the motion in it."""
    tops = rng.integers(0, frame[0] - side + 1, MAX_WINDOWS)
    lefts = rng.integers(0, frame[1] - side + 1, MAX_WINDOWS)
    means, largest = np.empty(MAX_WINDOWS), np.empty(MAX_WINDOWS)
    for index, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        cells = motion[top // CELL : -(-(top + side) // CELL), left // CELL : -(-(left + side) // CELL)]
        means[index], largest[index] = cells.mean(), cells.max()
    wanted = np.clip(means, 0.3, 12.0)  # still windows are rare, and fast ones no rarer than moving ones
    chosen = int(rng.choice(MAX_WINDOWS, p=wanted / wanted.sum()))
    return int(tops[chosen]), int(lefts[chosen]), float(largest[chosen])


def _is_clip(path: Path) -> bool:
    if path.is_dir():
        return any(child.suffix.lower() in IMAGE_SUFFIXES for child in path.iterdir())
    return path.suffix.lower() in VIDEO_SUFFIXES


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def _is_held_out(path: Path, index: int, config: VideoConfig, count: int) -> bool:
    if config.held_out:
        return _matches(path, config.held_out)
    return count >= HELD_OUT_EVERY and index % HELD_OUT_EVERY == 0
