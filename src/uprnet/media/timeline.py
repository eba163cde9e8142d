"""Exact time: which source frames, and which moment between them, make every output frame.

All times are seconds as `fractions.Fraction`; nothing is rounded. Three rules, combined by :class:`Timing`:

- ``factor`` f: output frame k lies at place k / f, counted in source frames. Place i + t means moment t
  between source frames i and i + 1, and its time is as far between theirs. So a steady source of rate r
  gives a steady output of rate r * f, and a source of variable rate stays variable: with a whole f every
  source frame keeps its time and f - 1 new ones are spread evenly up to the next. n source frames give
  ceil(n * f), and the output ends when the input ends.
- ``fps``: output frame k is shown at start + k / fps, whatever the source's times. A source of duration d
  gives ceil(d * fps) frames: the output is as long as the input, or longer by less than one output frame.
- ``slow`` s: time runs s times slower: every source time first moves to start + (time - start) * s. Without
  ``factor`` and ``fps`` the factor is s as well, so that the output keeps the rate of the source.

Convention:
    A frame is shown from its time until the time of the next one. The last frame has no right neighbour: it
    is held for its own duration, and outputs that fall into that duration repeat it (``t == 0``).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from uprnet.errors import InvalidInputError

Rational = int | float | str | Fraction

DEFAULT_FACTOR = Fraction(2)
"""One new frame per pair, when neither a factor, nor a rate, nor slow motion is asked for."""

DEFAULT_RATE = Fraction(25)
"""Frames per second of a source that does not say (raw streams): the value that libav assumes, too."""

MAX_TIME_SCALE = 2**31 - 1
"""Largest number of ticks per second: MP4 and libav keep it in 32 signed bits."""

MICROSECOND = Fraction(1, 1_000_000)
"""Tick that is used, with rounding, where no tick within ``MAX_TIME_SCALE`` fits all times."""


class Timed(Protocol):
    """Anything that is shown from ``pts`` on, for ``duration`` seconds where that is known."""

    @property
    def pts(self) -> Fraction:
        """Time at which it appears, in seconds."""

    @property
    def duration(self) -> Fraction | None:
        """How long it is shown, in seconds; None where nobody says."""


F = TypeVar("F", bound=Timed)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutputFrame(Generic[F]):
    """One frame of the output: its time, and what makes it.

    Attributes:
        pts: Time at which it appears, in seconds.
        duration: How long it is shown: until the next output frame, or the end.
        index: Number of the source frame on the left.
        t: Moment between the two source frames, in [0, 1); 0 is the left frame itself, untouched.
        left: The source frame at or before this moment.
        right: The source frame after it; None past the last one, and then ``t`` is 0.
    """

    pts: Fraction
    duration: Fraction
    index: int
    t: Fraction
    left: F
    right: F | None


@dataclass(frozen=True)
class Timing:
    """What the user asked for: more frames, another rate, slower time.

    Attributes:
        factor: Output frames per source frame, above 0; None with ``fps``.
        fps: Constant rate of the output in frames per second, above 0; None with ``factor``.
        slow: How many times slower time runs, above 0; 1 leaves it.
        keep_timestamps: Whether every frame of the source must appear at its own time stamp: needs a whole factor.
    """

    factor: Fraction | None = None
    fps: Fraction | None = None
    slow: Fraction = Fraction(1)
    keep_timestamps: bool = False

    def __post_init__(self) -> None:
        if (self.factor is None) == (self.fps is None):
            raise InvalidInputError("exactly one of factor and fps is needed; use Timing.choose for defaults")
        for name, value in (("factor", self.factor), ("fps", self.fps), ("slow", self.slow)):
            if value is not None and value <= 0:
                raise InvalidInputError(f"{name} must be above 0, got {value}")
        if self.keep_timestamps and (self.factor is None or self.factor.denominator != 1 or self.slow != 1):
            asked = f"factor {self.factor}" if self.fps is None else f"fps {self.fps}"
            asked += f" and slow {self.slow}" if self.slow != 1 else ""
            raise InvalidInputError(f"keeping time stamps needs a whole factor and no slower time, got {asked}")

    @classmethod
    def choose(
        cls,
        factor: Rational | None = None,
        fps: Rational | None = None,
        slow: Rational | None = None,
        *,
        keep_timestamps: bool = False,
    ) -> "Timing":
        """Make a timing from what was given, each a whole number, a decimal or ``"60000/1001"``.

        Raises:
            InvalidInputError: If a value is no number, not above 0, both ``factor`` and ``fps`` are given, or
                ``keep_timestamps`` does not go with the others.

        Example:
            >>> Timing.choose(fps=29.97).fps, Timing.choose(slow=4).factor, Timing.choose().factor
            (Fraction(30000, 1001), Fraction(4, 1), Fraction(2, 1))
        """
        if factor is not None and fps is not None:
            raise InvalidInputError(f"give factor or fps, not both, got factor={factor} and fps={fps}")
        stretch = Fraction(1) if slow is None else as_rational(slow, "slow")
        if fps is not None:
            return cls(None, as_rate(fps), stretch, keep_timestamps)
        if factor is not None:
            return cls(as_rational(factor, "factor"), None, stretch, keep_timestamps)
        return cls(DEFAULT_FACTOR if slow is None else stretch, None, stretch, keep_timestamps)

    def output_rate(self, source_rate: Fraction) -> Fraction:
        """Give the rate of the output, in frames per second; an average if the source's is one."""
        return self.fps or source_rate * self._factor / self.slow

    def count(self, frames: int, duration: Fraction) -> int:
        """Give the number of output frames of ``frames`` source frames that last ``duration`` seconds."""
        if self.fps is not None:
            return math.ceil(duration * self.slow * self.fps)
        return math.ceil(frames * self._factor)

    def constant(self, source_rate: Fraction) -> "Timing":
        """Give the same frames of a steady source by their rate, so that the gaps in one are filled at that rate."""
        return Timing(fps=self.output_rate(source_rate), slow=self.slow)

    def time_base(self, start: Fraction, source_tick: Fraction) -> Fraction:
        """Give the coarsest tick of which every output time is a whole multiple.

        Args:
            start: Time of the first source frame.
            source_tick: Tick of which all source times are whole multiples.

        Returns:
            Seconds per tick. Where that would need more than ``MAX_TIME_SCALE`` ticks per second, a
            microsecond: times must then be rounded to it.
        """
        step = source_tick * self.slow / self._factor.numerator if self.fps is None else 1 / self.fps
        tick = common_tick(start, step)
        return tick if tick.denominator <= MAX_TIME_SCALE else MICROSECOND

    @property
    def _factor(self) -> Fraction:
        return DEFAULT_FACTOR if self.factor is None else self.factor


def plan(frames: Iterable[F], timing: Timing, nominal: Fraction = 1 / DEFAULT_RATE) -> Iterator[OutputFrame[F]]:
    """Decide for every output frame which source frames make it, and the moment between them.

    Reads one source frame ahead and keeps no more than the two, so it serves a stream of any length.

    Args:
        frames: Source frames in order, with strictly increasing ``pts`` (see `uprnet.media.clock`).
        timing: What is asked for.
        nominal: Duration of a single frame that has none, in seconds.

    Yields:
        The output frames, in order, each until the next without a gap.

    Example:
        >>> class Shot:
        ...     def __init__(self, pts):
        ...         self.pts, self.duration = Fraction(pts), Fraction(1)
        >>> [(out.index, str(out.t)) for out in plan([Shot(0), Shot(1)], Timing.choose(factor="3/2"))]
        [(0, '0'), (0, '2/3'), (1, '0')]
    """
    pending: OutputFrame[F] | None = None
    start, end, count = Fraction(0), Fraction(0), 0
    for index, (left, right, span) in enumerate(_pairs(frames, nominal)):
        start = left.pts if index == 0 else start
        begin = start + (left.pts - start) * timing.slow
        end = begin + span * timing.slow
        while True:
            if timing.fps is not None:
                pts = start + count / timing.fps
                t = (pts - begin) / (end - begin)
            else:
                t = count / timing._factor - index
                pts = begin + t * (end - begin)
            if t >= 1:
                break
            if pending is not None:
                yield _shown_until(pending, pts)
            moment = t if right is not None else Fraction(0)
            pending = OutputFrame(pts, Fraction(0), index, moment, left, right)
            count += 1
    if pending is not None:
        yield _shown_until(pending, end if timing.fps is None else pending.pts + 1 / timing.fps)


def _shown_until(output: OutputFrame[F], end: Fraction) -> OutputFrame[F]:
    return OutputFrame(output.pts, end - output.pts, output.index, output.t, output.left, output.right)


def _pairs(frames: Iterable[F], nominal: Fraction) -> Iterator[tuple[F, F | None, Fraction]]:
    """Yield each frame with the next one (None after the last) and how long it is shown."""
    span = nominal
    for left, right in with_next(frames):
        span = right.pts - left.pts if right is not None else left.duration or span
        yield left, right, span


def with_next(items: Iterable[T]) -> Iterator[tuple[T, T | None]]:
    """Yield each item with the one after it, None after the last."""
    held: list[T] = []
    for item in items:
        if held:
            yield held.pop(), item
        held.append(item)
    for last in held:
        yield last, None


def common_tick(first: Fraction, second: Fraction) -> Fraction:
    """Give the largest time of which both times are whole multiples."""
    denominator = math.lcm(first.denominator, second.denominator)
    return Fraction(math.gcd(int(first * denominator), int(second * denominator)), denominator)


def as_rational(value: Rational, name: str) -> Fraction:
    """Read a number exactly: a whole number, a decimal (0.1 is 1/10) or ``"60000/1001"``.

    Raises:
        InvalidInputError: If it is no finite number.
    """
    try:
        return Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    except (ValueError, ZeroDivisionError, TypeError) as error:
        raise InvalidInputError(f'{name} must be a number such as 2, 1.5 or "60000/1001", got {value!r}') from error


def as_rate(value: Rational, name: str = "fps") -> Fraction:
    """Read a frame rate; the decimals of broadcast (23.976, 29.97, 59.94) mean N * 1000/1001 exactly.

    Raises:
        InvalidInputError: If it is no number.

    Reference:
        SMPTE ST 12-1: the NTSC rates are 24000/1001, 30000/1001 and 60000/1001 frames per second.
    """
    rate = as_rational(value, name)
    whole = round(rate * Fraction(1001, 1000))
    exact = Fraction(whole * 1000, 1001)
    # Two or three decimals are written: 23.98, 23.976, 59.94. A fraction is meant as it stands.
    is_decimal = isinstance(value, float) or (isinstance(value, str) and "/" not in value)
    if is_decimal and rate.denominator != 1 and abs(rate - exact) < Fraction(1, 200):
        return exact
    return rate
