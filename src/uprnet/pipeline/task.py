"""One source and what is asked of it, up to the decision how each frame of the output is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from uprnet.media.timeline import Timing, plan
from uprnet.media.video import VideoReader
from uprnet.pipeline.duplicates import MAX_HELD
from uprnet.pipeline.options import SceneOptions
from uprnet.pipeline.section import Section
from uprnet.pipeline.shots import Decision, as_shots, decide, evened
from uprnet.pipeline.sources import Frame, Reader, marked, read_frames

SEGMENT = 120
"""Output frames per segment, about: what an interruption costs at most. Each begins with a key frame."""


@dataclass
class Task:
    """A source that is open, and what is asked of it.

    Attributes:
        reader: The source.
        timing: Which frames are wanted.
        section: Which part of the source counts.
        scenes: What happens at cuts and with repeated frames.
        has_alpha: Whether transparency is wanted.
        read: Source frames that counted so far.
        cuts: Times at which scenes began so far, from the first frame of the source.
        begin: Time of the first source frame that counted; None before it is read.
        end: Time at which the last one ends.
    """

    reader: Reader
    timing: Timing
    section: Section
    scenes: SceneOptions
    has_alpha: bool = False
    read: int = 0
    cuts: list[Fraction] = field(default_factory=list)
    begin: Fraction | None = None
    end: Fraction = Fraction(0)

    @property
    def start(self) -> Fraction:
        """Time of the first output frame: 0 if it is only a part of the source."""
        return self.reader.info.start if self.section.is_whole else Fraction(0)

    @property
    def rate(self) -> Fraction:
        """Output frames per second, on average if it varies."""
        return self.timing.output_rate(self.reader.info.rate)

    @property
    def tick(self) -> Fraction:
        """Seconds of which all output times are whole multiples."""
        return self.timing.time_base(self.start, self.reader.info.tick)

    @property
    def segment_length(self) -> int:
        """Source frames per segment."""
        per_source_frame = self.rate * self.timing.slow / self.reader.info.rate
        return max(1, round(SEGMENT / per_source_frame))

    @property
    def total(self) -> int | None:
        """Output frames, an estimate where the source does not count its own; None if nothing is known."""
        frames, duration = self.section.extent(self.reader.info)
        return None if frames is None or duration is None else self.timing.count(frames, duration)

    @property
    def splices(self) -> tuple[Fraction, ...]:
        """Seconds by which the times of the source were moved where its clock jumped back, as far as it was read."""
        return self.reader.splices if isinstance(self.reader, VideoReader) else ()

    def decisions(self, skip: int = 0) -> Iterator[Decision]:
        """Yield how each output frame is made; those of the first ``skip`` source frames come without pictures."""
        info = self.reader.info
        # The drawings before the first frame whose picture is wanted may have a part in it.
        skip = max(0, skip - 2 * MAX_HELD)
        frames = read_frames(self.reader, self.section, skip, has_alpha=self.has_alpha)
        shots = as_shots(self._noted(marked(frames, self.scenes, info.start)), self.scenes.duplicates)
        if self.scenes.duplicates == "retime":
            shots = evened(shots)
        return decide(plan(shots, self.timing, 1 / info.rate), self.scenes.at_cut)

    def _noted(self, frames: Iterable[tuple[Frame, bool]]) -> Iterator[tuple[Frame, bool]]:
        """Take notes of what passes, and let the times of a part of the source begin at 0."""
        for frame, is_cut in frames:
            self.read += 1
            if is_cut:
                self.cuts.append(frame.pts - self.reader.info.start)
            self.begin = frame.pts if self.begin is None else self.begin
            self.end = frame.pts + (frame.duration or 1 / self.reader.info.rate)
            yield (frame if self.section.is_whole else replace(frame, pts=frame.pts - self.begin)), is_cut
