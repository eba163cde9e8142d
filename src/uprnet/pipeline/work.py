"""Decoding, network and encoding at the same time: from decisions to segments that are written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby

import numpy as np

from uprnet.errors import MediaError, UprnetError
from uprnet.files import NO_ROOM
from uprnet.media.colour import Image
from uprnet.pipeline.interpolator import BATCH, PairInterpolator, frames_between
from uprnet.pipeline.overlap import ahead, behind
from uprnet.pipeline.shots import Decision
from uprnet.pipeline.targets import LastFrame, SegmentWriter, Target

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 2
"""Batches that are decoded while the network works."""

FRAMES_BEHIND = 4
"""Frames that wait for the encoder."""


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        done: Output frames written, those of an earlier run included.
        total: Output frames in all, an estimate where the source does not count its frames; None if unknown.
        time: Time of the last frame written, in seconds.
        kept: Output frames that are kept from an earlier run, of those done.
    """

    done: int
    total: int | None
    time: Fraction
    kept: int = 0


@dataclass
class Tally:
    """What was written, counted while it is.

    Attributes:
        frames: Output frames by the way in which they were made.
        kept: Output frames kept from an earlier run.
        start: Time of the first output frame.
        end: Time at which the last one ends.
        segments: The last frame of each segment, by the segment's number, in order.
    """

    frames: dict[str, int] = field(default_factory=lambda: {"source": 0, "network": 0, "blend": 0})
    kept: int = 0
    start: Fraction | None = None
    end: Fraction = Fraction(0)
    segments: dict[int, LastFrame] = field(default_factory=dict)

    def count(self, decision: Decision, segment: int, is_kept: bool) -> None:
        """Count one frame."""
        self.frames[decision.way] += 1
        self.kept += is_kept
        self.start = decision.pts if self.start is None else self.start
        self.end = decision.pts + decision.duration
        self.segments[segment] = LastFrame(decision.number, decision.pts)


@dataclass(frozen=True, eq=False)
class _Made:
    """A frame on its way to the encoder; no image where its segment is there already."""

    decision: Decision
    segment: int
    image: Image | None


def write_segments(
    decisions: Iterable[Decision],
    target: Target,
    interpolator: PairInterpolator,
    *,
    length: int,
    compose: Callable[[Decision, Image], Image] | None = None,
    report: Callable[[Tally, Decision], None] | None = None,
) -> Tally:
    """Make the frames that are decided on, and write them to ``target`` segment by segment.

    Decisions are made in one thread, frames in this one, segments written in a third. An error in any of them, and
    Ctrl-C, ends all three; finished segments stay.

    Args:
        decisions: What to make, in order.
        target: Where to.
        interpolator: What makes new frames.
        length: Source frames per segment.
        compose: Makes the picture to be written of a decision and its frame; the frame itself if None.
        report: Called after every frame.

    Raises:
        UprnetError: If anything fails; it says at which time of the output.
    """
    tally = Tally()

    def consume(items: Iterator[_Made | None]) -> None:
        with _placed("writing", lambda: tally.end if tally.segments else None), ExitStack() as stack:
            writer: SegmentWriter | None = None
            for item in items:
                if item is None:
                    stack.close()
                    writer = None
                    continue
                if item.image is not None:
                    if writer is None:
                        writer = stack.enter_context(target.segment(item.segment, item.decision.number))
                    writer.write(item.image, item.decision.pts, item.decision.duration)
                tally.count(item.decision, item.segment, is_kept=item.image is None)
                if report is not None:
                    report(tally, item.decision)
                del item

    def segment_of(batch: list[Decision]) -> int:
        return batch[0].index // length

    with ahead(_batches(decisions, length), BATCHES_AHEAD) as batches, behind(consume, FRAMES_BEHIND) as put:
        for segment, group in groupby(batches, segment_of):
            is_done = target.is_done(segment)
            for batch in group:
                images: Sequence[Image | None] = [None] * len(batch) if is_done else _make(batch, interpolator)
                for decision, image in zip(batch, images, strict=True):
                    picture = image if image is None or compose is None else compose(decision, image)
                    put(_Made(decision, segment, picture))
            put(None)  # this segment is complete
    return tally


def _make(batch: list[Decision], interpolator: PairInterpolator) -> list[Image]:
    """Make the frames of one batch, all between the same two pictures or all of the same kind."""
    first = batch[0]
    left = _wanted(first.left.image)
    if first.right is None:
        return [left] * len(batch)
    right = _wanted(first.right.image)
    if first.way == "blend":
        return [_blend(left, right, float(decision.t)) for decision in batch]
    with _placed("making a frame", lambda: first.pts):
        return frames_between(interpolator, left, right, [float(decision.t) for decision in batch])


def _blend(left: Image, right: Image, t: float) -> Image:
    mixed = left.astype(np.float32) * (1 - t) + right.astype(np.float32) * t
    return (mixed if left.dtype.kind == "f" else np.rint(mixed)).astype(left.dtype)


def _wanted(image: Image | None) -> Image:
    assert image is not None, "frames whose segments are wanted come with their images"
    return image


def _batches(decisions: Iterable[Decision], length: int) -> Iterator[list[Decision]]:
    """Group the frames of one pair, so that its motion is estimated once; ``BATCH`` at most, within one segment.

    The groups are the same wherever the work begins, so that the network's rounding is, too.
    """
    batch: list[Decision] = []
    for decision in decisions:
        if batch and (_kind(decision, length) != _kind(batch[0], length) or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append(decision)
    if batch:
        yield batch


def _kind(decision: Decision, length: int) -> tuple[object, ...]:
    return decision.index // length, decision.way, id(decision.left), id(decision.right)


@contextmanager
def _placed(doing: str, time: Callable[[], Fraction | None]) -> Iterator[None]:
    """Say in errors what was being done, and at which time."""
    try:
        yield
    except UprnetError as error:
        at = time()
        if at is None:
            raise
        raise type(error)(f"{error} ({doing} at {float(at):.3f} s)") from error
    except OSError as error:
        at = time()
        place = "" if at is None else f" at {float(at):.3f} s"
        reason = "no space left on the disk" if error.errno in NO_ROOM else error.strerror or error
        raise MediaError(f"{reason} while {doing}{place}") from error
