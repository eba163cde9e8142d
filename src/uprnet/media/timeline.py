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


BACKWARDS = Fraction(1)
"""Seconds by which a time stamp must lie before the last one to begin a new count, as in spliced recordings."""


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
        frames: Source frames in order, with strictly increasing ``pts`` (see :class:`Clock`).
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


class Clock:
    """Turn the time stamps of a decoder into exact, strictly increasing times.

    - A missing stamp is one nominal frame after the previous frame (0 for the first).
    - A frame whose stamp is not after that of the previous one could never be shown: it is left out, and
      counted in ``repeated``. All later frames keep their times, so the duration does not change.
    - Stamps that jump back by more than `BACKWARDS` begin a new count: recordings were joined. The first frame of
      the new count comes one nominal frame after the previous one, and all later ones move with it; by how many
      seconds is in ``splices``, one entry for each jump.
    - A container with a coarse tick (Matroska: a millisecond) rounds the times of a steady rate such as
      24000/1001 unevenly. While every stamp is less than one tick away from the steady time, the steady time
      is used; from the first one that is not, the stamps themselves count. Times move by less than a tick.

    Args:
        rate: Nominal frames per second of the source.
        tick: Seconds per unit of the stamps.
        keeps_stamps: Whether every stamp counts as it stands, even where it looks like a rounded one.
    """

    def __init__(self, rate: Fraction, tick: Fraction, *, keeps_stamps: bool = False) -> None:
        self.missing = 0
        self.repeated = 0
        self.splices: list[Fraction] = []
        self._shift = Fraction(0)
        self._tick = tick
        self._step = 1 / rate
        # Only a well-known rate explains rounded stamps, and only if a tick is short against a frame.
        self._is_steady = not keeps_stamps and (
            rate.denominator in (1, 2, 1001) and self._step >= 4 * tick and (self._step / tick).denominator != 1
        )
        self._counts_frames = self._is_steady
        self._last: Fraction | None = None
        self._anchor, self._since_anchor = Fraction(0), 0

    @property
    def tick(self) -> Fraction:
        """Seconds of which all times are whole multiples; final once the first time was asked for."""
        return common_tick(self._tick, self._step) if self._counts_frames else self._tick

    def time(self, stamp: int | None) -> Fraction | None:
        """Give the time of the next frame in seconds, or None if the frame must be left out."""
        last = self._last
        if stamp is None:
            self.missing += 1
            self._counts_frames |= last is None
            time = Fraction(0) if last is None else self._after(last)
        else:
            time = stamp * self._tick + self._shift
            if last is not None and time < last - BACKWARDS:
                self.splices.append(self._after(last) - time)
                self._shift += self.splices[-1]
                time = self._after(last)
        if last is not None and time <= last:
            self.repeated += 1
            return None
        self._since_anchor += 1
        steady = self._anchor + self._since_anchor * self._step
        if self._is_steady and last is not None and abs(time - steady) < self._tick:
            time = steady
        else:
            self._anchor, self._since_anchor = time, 0
        self._last = time
        return time

    def _after(self, time: Fraction) -> Fraction:
        """Give the time one nominal frame later, in whole ticks unless frames are counted."""
        return time + (self._step if self._counts_frames else max(round(self._step / self._tick), 1) * self._tick)

    def duration(self, ticks: int | None) -> Fraction | None:
        """Give the length of a frame in seconds, None where the decoder does not know it."""
        if not ticks or ticks < 0:
            return None
        span = ticks * self._tick
        return self._step if self._is_steady and abs(span - self._step) < self._tick else span


def common_tick(first: Fraction, second: Fraction) -> Fraction:
    """Give the largest time of which both times are whole multiples."""
    denominator = math.lcm(first.denominator, second.denominator)
    return Fraction(math.gcd(int(first * denominator), int(second * denominator)), denominator)


def well_known(rate: Fraction) -> Fraction:
    """Give the whole rate N or N * 1000/1001 that ``rate`` is up to rounding, else ``rate`` itself.

    Matroska keeps nanoseconds per frame; of 60000/1001 libav makes 19001/317.
    """
    for known in (Fraction(round(rate)), Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)):
        if abs(rate - known) <= rate / 1_000_000:
            return known
    return rate


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
