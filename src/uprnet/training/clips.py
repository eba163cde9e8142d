"""A video decoded once into a cache: its frames, when they are shown, and what moves in them."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uprnet.errors import MediaError
from uprnet.files import write_whole
from uprnet.media.video import VideoReader
from uprnet.training.sample import Image, read_picture

logger = logging.getLogger(__name__)

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
ACTIVE_MOTION = (0.2, 4.0)  # pixels: what a pair of frames counts for in its clip's activity, at least and at most


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


def load_clip(path: Path, cache: Path, max_side: int, longest: int) -> Clip | None:
    """Map a clip from the cache, after putting it there if needed.

    Args:
        path: Video file or folder of frames.
        cache: Folder of the cache.
        max_side: Longer side to which frames are shrunk at least, in pixels.
        longest: Largest span that is asked for, in frames.

    Returns:
        The clip; None, and a line in the log, if it cannot be read or has too few frames.
    """
    key = _fingerprint(path, max_side)
    pixels, measured = cache / f"{path.name}-{key}.rgb", cache / f"{path.name}-{key}.npz"
    if not (measured.is_file() and pixels.is_file()):
        cache.mkdir(parents=True, exist_ok=True)
        try:
            _decode(path, max_side, pixels, measured)
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
        return Clip(path.name, frames, facts["times"], facts["motion"].astype(np.float32), usable, longest)


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
