"""A folder of videos as training data: decoded once, measured, then cut into triples x < y < z."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uprnet.errors import MediaError, TrainingError
from uprnet.files import write_whole
from uprnet.media.video import VideoReader
from uprnet.training.augmentation import AugmentationConfig, draw_scale, resize_square
from uprnet.training.dis_flow import with_dis_flow
from uprnet.training.limits import check_limits
from uprnet.training.sample import Image, Sample, read_picture

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".264", ".h264", ".hevc", ".gif"}
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
CACHE_VERSION = 1  # raised when what a cache file holds changes

THUMBNAIL_SIDE = 192  # pixels of the longer side at which motion is measured
FINGERPRINT_BYTES = 65_536  # of the start of each file, which tell clips of one name and size apart
CELL = 32  # pixels of a cached frame for which one motion is kept
CUT_RESIDUAL = 12.0  # of 255: mean difference that motion does not explain, above which a cut is suspected
CUT_RATIO = 3.0  # times the median of its neighbours that the difference at a cut is
STILL_DIFFERENCE = 2.0  # of 255: 99th percentile of difference below which a frame repeats the one before
SOFT_BITS = ((0.02, 3.0), (0.15, 2.0))  # bits per pixel below which a clip is so soft that it is shrunk, by this
MIN_SIDE = 144  # pixels of the shorter side that shrinking leaves
CLIP_EXPONENT = 0.75  # a clip is drawn with probability ~ activity ** 0.75: many short scenes beat one long one
ACTIVE_MOTION = (0.2, 4.0)  # pixels: what a pair of frames counts for in its clip's activity, at least and at most
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


@dataclass(frozen=True)
class Clip:
    """One decoded video and what was measured in it.

    Args:
        name: Name of the file.
        frames: ``(N, H, W, 3)`` RGB uint8, mapped from the cache.
        times: Time of each frame, in seconds, ``(N,)``.
        motion: Mean length of motion in each cell from each frame to the next, in pixels, ``(N - 1, h, w)``.
        usable: Whether each pair of neighbours is neither a cut nor a repeated frame, ``(N - 1,)``.
        longest: Largest span that is asked for, in frames.
    """

    name: str
    frames: Image
    times: NDArray[np.float64]
    motion: NDArray[np.float32]
    usable: NDArray[np.bool_]
    longest: int

    @cached_property
    def activity(self) -> float:
        """How much happens: the motion of each usable pair's liveliest cells, within `ACTIVE_MOTION`, summed up."""
        liveliest = np.percentile(self.motion[self.usable], 95, axis=(1, 2))
        return float(liveliest.clip(*ACTIVE_MOTION).sum())

    @cached_property
    def starts(self) -> dict[int, NDArray[np.int64]]:
        """For each span, the frames from which that many usable pairs follow."""
        # unusable[i] = how many of the first i pairs are unusable
        unusable = np.concatenate(([0], np.cumsum(~self.usable)))
        found = {}
        for span in range(2, min(len(self.usable), self.longest) + 1):
            first = np.flatnonzero(unusable[span:] == unusable[:-span])
            if not len(first):
                break
            found[span] = first
        return found


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
            clips = pool.map(lambda path: _load(path, config), kept)
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


def _load(path: Path, config: VideoConfig) -> Clip | None:
    """Map a clip from the cache, after putting it there if needed; None if it cannot be read."""
    cache = Path(config.cache)
    key = _fingerprint(path, config.max_side)
    pixels, measured = cache / f"{path.name}-{key}.rgb", cache / f"{path.name}-{key}.npz"
    if not (measured.is_file() and pixels.is_file()):
        cache.mkdir(parents=True, exist_ok=True)
        try:
            _decode(path, config.max_side, pixels, measured)
        except MediaError as error:
            logger.warning("%s is left out: %s", path, error)
            return None
    with np.load(measured) as facts:
        shape = tuple(int(value) for value in facts["shape"])
        if shape[0] < 3:
            logger.warning("%s is left out: it has %d frames, a triple needs 3", path, shape[0])
            return None
        frames = np.memmap(pixels, dtype=np.uint8, mode="r", shape=shape)
        usable = _usable(facts["difference"], facts["residual"])
        return Clip(
            path.name, frames, facts["times"], facts["motion"].astype(np.float32), usable, 2 * config.max_stride
        )


def _fingerprint(path: Path, max_side: int) -> str:
    """Name what a cache entry is made from: not by path and date, so that moved or copied data keep their cache."""
    identity = hashlib.sha256(f"{CACHE_VERSION} {max_side}".encode())
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        identity.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as content:
            identity.update(content.read(FINGERPRINT_BYTES))
    return identity.hexdigest()[:12]


def _decode(path: Path, max_side: int, pixels: Path, measured: Path) -> None:
    """Write the shrunk frames of a clip and its statistics; the statistics last, as a sign that all is there."""
    times: list[float] = []
    thumbnails: list[Image] = []
    shape: tuple[int, int] = (0, 0)
    with write_whole(pixels, overwrite=True) as temporary, temporary.open("wb") as file:
        for time, image, size in _shrunk_frames(path, max_side):
            shape = size
            file.write(np.ascontiguousarray(image).tobytes())
            times.append(time)
            thumbnails.append(_thumbnail(image))
    cells = (-(-shape[0] // CELL), -(-shape[1] // CELL))
    facts = [_measure(before, after, shape, cells) for before, after in pairwise(thumbnails)]
    with write_whole(measured, overwrite=True) as temporary:
        np.savez(
            temporary,
            shape=np.array((len(times), *shape, 3)),
            times=np.array(times),
            motion=np.array([fact[0] for fact in facts], dtype=np.float16).reshape(-1, *cells),
            difference=np.array([fact[1] for fact in facts]),
            residual=np.array([fact[2] for fact in facts]),
        )


def _shrunk_frames(path: Path, max_side: int) -> Iterator[tuple[float, Image, tuple[int, int]]]:
    """Time, picture and its ``(height, width)`` of each frame."""
    size: tuple[int, int] | None = None
    for time, image, bits in _frames(path):
        if size is None:
            height, width = image.shape[:2]
            softness = next((factor for limit, factor in SOFT_BITS if bits < limit), 1.0)
            scale = min(1 / softness, max_side / max(height, width))
            scale = min(1.0, max(scale, MIN_SIDE / min(height, width)))
            size = (round(height * scale), round(width * scale))
        if image.shape[:2] != size:
            image = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
        yield time, image, size


def _frames(path: Path) -> Iterator[tuple[float, Image, float]]:
    """Time, picture ``(H, W, 3)`` and the clip's bits per pixel, of a video file or a folder of frames."""
    if path.is_dir():
        names = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
        for index, name in enumerate(names):
            yield float(index), read_picture(name), np.inf
        return
    with VideoReader(path) as reader:
        info = reader.info
        count = info.frames or float((info.duration or 0) * info.rate) or 1.0
        bits = 8 * path.stat().st_size / (count * info.height * info.width)
        for frame in reader:
            image = frame.image[:, :, :3]
            if image.dtype != np.uint8:
                image = (image >> 8).astype(np.uint8)
            yield float(frame.pts), image, bits


def _thumbnail(image: Image) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, THUMBNAIL_SIDE / max(grey.shape))
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _measure(
    before: Image, after: Image, shape: tuple[int, int], cells: tuple[int, int]
) -> tuple[NDArray[np.float32], float, float]:
    """Motion in each cell, in pixels of ``shape``; difference; and the difference that motion leaves."""
    height, width = before.shape
    zero = np.zeros((height, width, 2), dtype=np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(before, after, zero)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(after, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    residual = float(cv2.absdiff(before, np.asarray(moved, dtype=np.uint8)).mean())
    difference = float(np.percentile(cv2.blur(cv2.absdiff(before, after), (4, 4)), 99))
    length = np.hypot(flow[..., 0], flow[..., 1]) * (shape[1] / width)
    motion = cv2.resize(length, cells[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(motion, dtype=np.float32), difference, residual


def _usable(difference: NDArray[np.float64], residual: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs of neighbours are neither a cut nor a repetition."""
    usable = difference >= STILL_DIFFERENCE
    for index in np.flatnonzero(residual > CUT_RESIDUAL):
        around = residual[max(0, index - 8) : index + 9]
        if residual[index] > CUT_RATIO * np.median(around):
            usable[index] = False
    return usable
