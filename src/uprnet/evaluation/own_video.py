"""How good is this on *my* footage: frames of a video are dropped, made again, and compared with the true ones."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from uprnet.errors import InvalidInputError
from uprnet.evaluation.baselines import FILTER_BLOCK, Minterpolate, blend, dis_flow, has_minterpolate, repeat
from uprnet.evaluation.loop import FrameResult, evaluate, network_facts, network_methods
from uprnet.evaluation.progress import BenchmarkProgress, Counter
from uprnet.evaluation.report import Report
from uprnet.evaluation.samples import Sample
from uprnet.media.video import SourceFrame, VideoReader
from uprnet.options import NetworkOptions
from uprnet.pipeline.cuts import with_cuts

FACTORS = (2, 4, 8)

STILL_DIFFERENCE = 0.25
"""Mean difference of neighbours, in steps of 8 bit, below which a frame is a repetition, or nothing moves."""

CUTS, STILL, ENDS = (
    "pairs across a cut",
    "pairs with still or repeated frames",
    "last pairs (minterpolate has no frames)",
)
"""Why pairs are left out."""


@dataclass(frozen=True)
class VideoBenchmarkOptions:
    """Which videos, and how they are measured.

    Attributes:
        clips: Video files.
        factor: Every 2nd, 4th or 8th frame is given, those between are made.
        network: Which network, where it runs, and how.
        limit: Measure the first so many pairs of each clip; all if None.
        longer_side: Shrink frames to this many pixels first, by averaging areas; None keeps their size.
        minterpolate: Measure ffmpeg's filter, too, on frames of 32 x 32 pixels or more.
    """

    clips: tuple[Path, ...]
    factor: int = 2
    network: NetworkOptions = field(default_factory=NetworkOptions)
    limit: int | None = None
    longer_side: int | None = None
    minterpolate: bool = True


def run_video_benchmark(
    options: VideoBenchmarkOptions, progress: Callable[[BenchmarkProgress], None] | None = None
) -> Report:
    """Drop frames of videos, make them again by the network and by simpler means, and compare with the true ones.

    The time of a frame is what the video says, so frames need not be evenly spaced (ffmpeg's filter takes them as
    if they were). Pairs across a cut and pairs with still or repeated frames are left out and counted. A group of
    the report is a clip, an item is a pair, named by the number of its first frame.

    Args:
        options: Which videos, and how.
        progress: Called after every pair; the total counts pairs that will be left out until their clip has ended.

    Raises:
        InvalidInputError: If the request makes no sense, or nothing is left to measure.
        MediaError: If a video cannot be read.

    Example:
        >>> report = run_video_benchmark(VideoBenchmarkOptions((Path("clip.mp4"),), limit=20))  # doctest: +SKIP
        >>> {mean.method: round(mean.scores["psnr"], 2) for mean in report.means()}  # doctest: +SKIP
        {'uprnet': 34.1, 'repeat': 27.9, 'blend': 30.2, 'DIS flow': 32.8, 'minterpolate': 32.0}
    """
    _check(options)
    interpolator = options.network.interpolator()
    methods = {**network_methods(interpolator), "repeat": repeat, "blend": blend, "DIS flow": dis_flow}
    left_out: Count[str] = Count()
    pairs = [_pairs_of(clip, options) for clip in options.clips]
    counter = Counter(sum(pairs), progress)
    found: list[FrameResult] = []
    for number, clip in enumerate(options.clips, 1):
        for results in evaluate(_samples(clip, options, left_out), methods, device=interpolator.device):
            found += results
            counter.count(results)
        counter.expect(sum(pairs[number:]))
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the clips are too short"
        raise InvalidInputError(f"no pair of frames is left to measure at factor {options.factor}: {reasons}")
    settings = {
        "clips": [str(clip) for clip in options.clips],
        "factor": options.factor,
        "model": options.network.model,
        "limit": options.limit,
        "longer_side": options.longer_side,
        **network_facts(options.network, interpolator),
    }
    title = f"own video x{options.factor} {options.network.model}"
    return Report(title, settings, tuple(found), size=interpolator.model.config.size, left_out=dict(left_out))


def _check(options: VideoBenchmarkOptions) -> None:
    if options.factor not in FACTORS:
        raise InvalidInputError(f"factor must be one of {', '.join(map(str, FACTORS))}, got {options.factor}")
    if options.limit is not None and options.limit < 1:
        raise InvalidInputError(f"limit must be at least 1, got {options.limit}")
    if options.longer_side is not None and options.longer_side < 32:
        raise InvalidInputError(f"longer_side must be at least 32 pixels, got {options.longer_side}")
    names = [clip.stem for clip in options.clips]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise InvalidInputError(
            f"clips must have names of their own, got {f'two named {twice[0]}' if twice else 'none'}"
        )


def _pairs_of(clip: Path, options: VideoBenchmarkOptions) -> int:
    with VideoReader(clip) as reader:
        pairs = max(((reader.info.frames or 1) - 1) // options.factor, 1)
    return min(pairs, options.limit or pairs)


def _samples(clip: Path, options: VideoBenchmarkOptions, left_out: Count[str]) -> Iterator[Sample]:
    """Yield the pairs of a clip that can be measured; ffmpeg's frames come one pair late, so that one waits."""
    factor, taken = options.factor, 0
    filtered: Minterpolate | None = None
    ready: dict[int, np.ndarray] = {}
    waiting: tuple[int, Sample] | None = None
    with VideoReader(clip) as reader:
        for start, window, is_cut in _windows(reader, options):
            height, width = window[0].image.shape[:2]
            if options.minterpolate and has_minterpolate() and min(height, width) >= FILTER_BLOCK:
                if filtered is None:
                    filtered = Minterpolate(height, width, factor)
                    filtered.push(window[0].image)
                ready |= filtered.push(window[-1].image)
            if waiting is not None:
                yield _with_filtered(*waiting, ready)
                waiting, taken = None, taken + 1
                if taken == options.limit:
                    return
            ready = {number: image for number, image in ready.items() if number > start}
            if is_cut or _is_still(window):
                left_out[CUTS if is_cut else STILL] += 1
                continue
            sample = _sample(clip, start, window)
            if filtered is None:
                yield sample
                taken += 1
                if taken == options.limit:
                    return
            else:
                waiting = (start, sample)
    if waiting is not None:
        left_out[ENDS] += 1


def _windows(reader: VideoReader, options: VideoBenchmarkOptions) -> Iterator[tuple[int, list[SourceFrame], bool]]:
    """Yield the number of the first frame, ``factor + 1`` frames, and whether there is a cut among them."""
    window: list[SourceFrame] = []
    cut = False
    frames = (replace(frame, image=_shrunk(frame.image[..., :3], options.longer_side)) for frame in reader)
    for index, (frame, is_cut) in enumerate(with_cuts(frames, lambda frame: frame.image)):
        cut = cut or (is_cut and bool(window))
        window.append(frame)
        if len(window) == options.factor + 1:
            yield index - options.factor, window, cut
            window, cut = window[-1:], False


def _sample(clip: Path, start: int, window: list[SourceFrame]) -> Sample:
    first, *middle, last = window
    times = tuple(Fraction(frame.pts - first.pts, last.pts - first.pts) for frame in middle)
    targets = tuple(frame.image for frame in middle)
    return Sample(f"{clip.stem}/{start:06d}", clip.stem, first.image, last.image, targets, times)


def _with_filtered(start: int, sample: Sample, ready: dict[int, np.ndarray]) -> Sample:
    """Add the frames of ffmpeg's filter, which counts them as the video did before frames were dropped."""
    numbers = range(start + 1, start + 1 + len(sample.targets))
    return replace(sample, predictions={"minterpolate": tuple(ready[number] for number in numbers)})


def _is_still(window: list[SourceFrame]) -> bool:
    white = np.iinfo(window[0].image.dtype).max
    differences = (cv2.absdiff(before.image, after.image).mean() for before, after in pairwise(window))
    return bool(min(differences) * 255 / white < STILL_DIFFERENCE)


def _shrunk(image: np.ndarray, longer_side: int | None) -> np.ndarray:
    height, width = image.shape[:2]
    if longer_side is None or max(height, width) <= longer_side:
        return np.ascontiguousarray(image)
    scale = longer_side / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
