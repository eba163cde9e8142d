"""The part of a source that is worked on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from uprnet.errors import InvalidInputError
from uprnet.media.stream import VideoInfo
from uprnet.media.video import SkippedFrame, SourceFrame

Time = str | float | Fraction
"""Seconds as a number, or text such as ``12.5`` or ``1:02:03.5``.

Text comes first: the command line takes the first type that fits, and 1.5 must not become a whole number.
"""

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d+(?:\.\d+)?)")
_RANGE = re.compile(r"(?:(\d+):)?(\d+)")


@dataclass(frozen=True)
class SectionOptions:
    """Which part of the source is worked on; its times count from the first frame of the source.

    Attributes:
        start: Begin here: seconds, or 1:02:03.5.
        end: End here.
        frames: The first so many source frames (from start on), as 240, or those from one number to before another,
            counted from 0, as 100:340.
        preview: Only so many seconds from the middle, side by side with the source.
    """

    start: Time | None = None
    end: Time | None = None
    frames: str | int | None = None
    preview: float | None = None


@dataclass(frozen=True)
class Section:
    """A part of a source: the frames that pass all three bounds.

    Attributes:
        start: Time from which on frames count, from the first frame of the source, in seconds.
        end: Time before which they count; None for the end of the source.
        first: Number of frames at the start of the source that do not count.
        count: Frames that count at most; None for all.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    first: int = 0
    count: int | None = None

    @classmethod
    def of(cls, options: SectionOptions, info: VideoInfo) -> Section:
        """Read what was asked for.

        Raises:
            InvalidInputError: If it makes no sense, or nothing would be left.
        """
        if options.preview is not None:
            return cls._middle(options, info)
        start = Fraction(0) if options.start is None else as_time(options.start, "start")
        end = None if options.end is None else as_time(options.end, "end")
        if end is not None and end <= start:
            raise InvalidInputError(f"end must be after start, got {options.end} and {options.start or 0}")
        if info.duration is not None and start >= info.duration:
            raise InvalidInputError(f"start must be before the end, {float(info.duration):.3f} s, got {options.start}")
        if options.frames is None:
            return cls(start, end)
        match = _RANGE.fullmatch(str(options.frames))
        if match is None:
            raise InvalidInputError(
                f"frames must be a number such as 240 or a range such as 100:340, got {options.frames}"
            )
        first, last = int(match[1] or 0), int(match[2])
        if last <= first:
            raise InvalidInputError(f"frames must leave one or more, got {options.frames}")
        return cls(start, end, first, last - first)

    @classmethod
    def _middle(cls, options: SectionOptions, info: VideoInfo) -> Section:
        length = as_time(options.preview or 0, "preview")
        if length <= 0 or not (options.start is None and options.end is None and options.frames is None):
            raise InvalidInputError("preview needs a length above 0, such as 3, and no start, end or frames beside it")
        if info.duration is None:
            raise InvalidInputError("the source does not say how long it is; give start and end instead of preview")
        start = max(Fraction(0), (info.duration - length) / 2)
        return cls(start, start + length)

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole source."""
        return self == Section()

    def times(self, info: VideoInfo) -> tuple[Fraction, Fraction | None] | None:
        """Give about where it begins and ends in the source; None if it is the whole."""
        if self.is_whole:
            return None
        begin = info.start + max(self.start, self.first / info.rate)
        length = self.extent(info)[1]
        return begin, None if length is None else begin + length

    def extent(self, info: VideoInfo) -> tuple[int | None, Fraction | None]:
        """Estimate how many frames and seconds there are; None where the source does not say."""
        if info.frames is None or info.duration is None or self.is_whole:
            return info.frames, info.duration
        end = info.duration if self.end is None else min(self.end, info.duration)
        start = max(self.start, self.first / info.rate)
        frames = max(0, round((end - start) * info.rate))
        if self.count is not None:
            frames = min(frames, self.count)
        return frames, frames / info.rate

    def of_frames(
        self, frames: Iterable[SourceFrame | SkippedFrame], begin: Fraction
    ) -> Iterator[SourceFrame | SkippedFrame]:
        """Yield the frames that count; what follows is not read.

        Args:
            frames: All frames of the source.
            begin: Time of the first one.
        """
        if self.is_whole:
            yield from frames
            return
        taken, last = 0, None
        for number, frame in enumerate(frames):
            if number < self.first or frame.pts - begin < self.start:
                continue
            is_over = self.end is not None and frame.pts - begin >= self.end
            if last is not None:  # it is shown until this one comes, whatever the file says of its length
                yield replace(last, duration=frame.pts - last.pts) if is_over or taken == self.count else last
            if is_over or taken == self.count:
                return
            taken += 1
            last = frame
        if last is not None:
            yield last


def as_time(value: float | str | Fraction, name: str) -> Fraction:
    """Read a time exactly: a number of seconds, or text such as ``12.5`` or ``1:02:03.5``.

    Raises:
        InvalidInputError: If it is neither, or negative.
    """
    if isinstance(value, Fraction | int):
        seconds = Fraction(value)
    else:
        match = _CLOCK.fullmatch(str(value).strip())
        if match is None:
            raise InvalidInputError(f"{name} must be a time such as 12.5 or 1:02:03.5, got {value!r}")
        hours, minutes, rest = match.groups()
        seconds = int(hours or 0) * 3600 + int(minutes or 0) * 60 + Fraction(rest)
    if seconds < 0:
        raise InvalidInputError(f"{name} must not be negative, got {value}")
    return seconds
