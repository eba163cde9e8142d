"""From source frames to decisions: which frame of the output is made of what.

The chain is a chain of generators, each a few frames ahead of the next: frames of the source, whether each begins a
scene or repeats the one before, the times of the output (`uprnet.media.timeline.plan`), and for every output frame a
`Decision`. All of it is found from times and thumbnails alone, so that it is the same whether or not the pictures are
wanted: work that goes on after an interruption decides as it would have without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from uprnet.media.colour import Image
from uprnet.media.timeline import OutputFrame
from uprnet.media.video import SkippedFrame, SourceFrame
from uprnet.pipeline.duplicates import MAX_HELD, REPEATED, SAME, difference

Duplicates = Literal["keep", "retime"]
AtCut = Literal["hold", "blend"]
Way = Literal["source", "network", "blend"]


@dataclass(eq=False)
class Drawing:
    """A picture of the source, from the first frame that shows it.

    Attributes:
        pts: Time to which it belongs, in seconds: from which it is shown, or a little beside it (`evened`).
        image: ``(H, W, 3 or 4)``; None if it is not wanted.
        is_cut: Whether a scene begins with it.
        is_same: Whether it is the same as the one before.
        following: The next one; None at the end.
        previous: The one before, as long as it may be needed.
        held: Frames that show it.
    """

    pts: Fraction
    image: Image | None
    is_cut: bool = False
    is_same: bool = False
    following: Drawing | None = None
    previous: Drawing | None = None
    held: int = 1


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame of the source, and the drawing that it shows."""

    pts: Fraction
    duration: Fraction | None
    drawing: Drawing


@dataclass(frozen=True, eq=False)
class Decision:
    """How to make one frame of the output.

    Attributes:
        number: Its number, from 0.
        pts: Time at which it is shown, in seconds.
        duration: How long it is shown, in seconds.
        index: Number of the source frame at or before it.
        way: ``source`` takes ``left`` as it is, ``network`` and ``blend`` make a frame between ``left`` and ``right``.
        t: Moment between the two, in [0, 1); 0 with ``source``.
        left: The drawing before.
        right: The drawing after; None with ``source``.
        shown: The picture of the source at this time.
    """

    number: int
    pts: Fraction
    duration: Fraction
    index: int
    way: Way
    t: Fraction
    left: Drawing
    right: Drawing | None
    shown: Drawing


def as_shots(frames: Iterable[tuple[SourceFrame | SkippedFrame, bool]], duplicates: Duplicates) -> Iterator[Shot]:
    """Find repeated frames; with ``retime`` let a run of them be one drawing, as long as a motion may hold it.

    Args:
        frames: Frames with thumbnails, and whether a scene begins with each.
        duplicates: ``keep`` takes every frame for a drawing of its own.

    Yields:
        The frames, each when the drawing after its own is known.
    """
    limit = REPEATED if duplicates == "retime" else SAME
    longest = MAX_HELD if duplicates == "retime" else 1
    run: list[Shot] = []
    sample: Image | None = None
    is_long = False
    for frame, is_cut in frames:
        thumbnail = frame.thumbnail
        assert thumbnail is not None, "the reader gives thumbnails"
        is_same = sample is not None and not is_cut and difference(sample, thumbnail) <= limit
        if is_same and not is_long and len(run) < longest:
            run.append(Shot(frame.pts, frame.duration, run[0].drawing))
            run[0].drawing.held += 1
            continue
        # From a still scene on, every frame stands for itself, until one differs.
        if is_same and not is_long and longest > 1:
            run = _each_for_itself(run)
        is_long = is_same
        drawing = Drawing(frame.pts, frame.image, is_cut, is_same)
        if run:
            run[-1].drawing.following = drawing
        yield from run
        run = [Shot(frame.pts, frame.duration, drawing)]
        # A run is compared with its first frame, so that slow motion adds up; plain repetition with the frame before.
        sample = thumbnail if not is_same or longest == 1 else sample
    yield from run


def _each_for_itself(run: list[Shot]) -> list[Shot]:
    """Turn the frames of one drawing into drawings of the same picture."""
    first = run[0].drawing
    first.held = 1
    drawings = [first, *(Drawing(shot.pts, first.image, is_same=True) for shot in run[1:])]
    for before, after in pairwise(drawings):
        before.following = after
    return [Shot(shot.pts, shot.duration, drawing) for shot, drawing in zip(run, drawings, strict=True)]


def evened(shots: Iterable[Shot]) -> Iterator[Shot]:
    """Give drawings that are held for unequal times, such as 2, 3, 2, 3 frames, the even times that they came from.

    Drawings of a steady slower rate last one frame more or less in turn (24 in a file of 60: 2, 3, 2, 3; 24 in one of
    30: 1, 1, 1, 2). Where one is held a frame longer than the one before, its time is a quarter of a frame later,
    where it is held a frame shorter, earlier: 2, 3, 2, 3 becomes 2.5 throughout. Equal times, as on twos, stay.

    Args:
        shots: As `as_shots` yields them with ``retime``.

    Yields:
        The same, each when the time of the drawing after its own is final.
    """
    waiting: list[Shot] = []
    begun = Fraction(0)
    for shot in shots:
        if waiting and shot.drawing is not waiting[0].drawing:
            before, drawing, after = waiting[0].drawing, shot.drawing, shot.drawing.following
            drawing.previous = before
            if before.previous is not None and before.previous.previous is not None:
                before.previous.previous.previous = None  # it is needed no more, and large
            is_uneven = abs(drawing.held - before.held) == 1 and not (before.is_same or drawing.is_same)
            if is_uneven and after is not None and not (drawing.is_cut or after.is_cut or after.is_same):
                drawing.pts += ((after.pts - shot.pts) - (shot.pts - begun)) / 4
            yield from waiting
            waiting = []
        if not waiting:
            begun = shot.pts
        waiting.append(shot)
    yield from waiting


def decide(outputs: Iterable[OutputFrame[Shot]], at_cut: AtCut) -> Iterator[Decision]:
    """Say for every output frame how it is made.

    No motion leads across a cut: there the picture before the cut stays, or with ``blend`` fades into the one after.
    """
    for number, out in enumerate(outputs):
        way: Way = "source"
        # Drawings may be several frames apart, so the moment is measured anew.
        moment = out.left.pts + (out.t * (out.right.pts - out.left.pts) if out.right is not None else 0)
        left = _drawing_at(moment, out.left.drawing)
        right = left.following
        t = Fraction(0) if right is None else (moment - left.pts) / (right.pts - left.pts)
        if t > 0 and right is not None and not right.is_same:
            way = "network" if not right.is_cut else "blend" if at_cut == "blend" else "source"
        if way == "source":
            t, right = Fraction(0), None
        yield Decision(number, out.pts, out.duration, out.index, way, t, left, right, out.left.drawing)


def _drawing_at(moment: Fraction, drawing: Drawing) -> Drawing:
    """Give the drawing to which a moment belongs: ``drawing``, which is shown then, or one beside it."""
    if moment < drawing.pts and drawing.previous is not None:
        return drawing.previous
    if drawing.following is not None and moment >= drawing.following.pts:
        return drawing.following
    return drawing
