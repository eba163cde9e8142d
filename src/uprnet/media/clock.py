"""From the time stamps of a decoder to exact times: what is missing, repeated, rounded or spliced."""

from fractions import Fraction

from uprnet.media.timeline import common_tick

BACKWARDS = Fraction(1)
"""Seconds by which a time stamp must lie before the last one to begin a new count, as in spliced recordings."""


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


def well_known(rate: Fraction) -> Fraction:
    """Give the whole rate N or N * 1000/1001 that ``rate`` is up to rounding, else ``rate`` itself.

    Matroska keeps nanoseconds per frame; of 60000/1001 libav makes 19001/317.
    """
    for known in (Fraction(round(rate)), Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)):
        if abs(rate - known) <= rate / 1_000_000:
            return known
    return rate
