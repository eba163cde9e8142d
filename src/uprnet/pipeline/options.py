"""What can be asked of `interpolate_video` beyond the times; the command line shows the same, group by group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.tracks import Policy
from uprnet.pipeline.shots import AtCut, Duplicates


@dataclass(frozen=True)
class SceneOptions:
    """What happens where pictures change too much, or not at all, for motion between them.

    Attributes:
        cuts: auto finds the cuts, none takes none, else a text file with their times: 12.5 or 1:02:03.5 on each line.
        cut_threshold: How many times more than its neighbours a frame must change to be a cut; higher finds fewer.
        at_cut: hold shows the picture before a cut until the cut, blend fades into the one after. Frame count and
            times are the same.
        duplicates: keep leaves repeated frames where they are; retime interpolates the real drawings of an animation
            on twos or threes, or of a telecine, over the time that they are shown. The duration is the same.
    """

    cuts: str | Path = "auto"
    cut_threshold: float = 2.0
    at_cut: AtCut = "hold"
    duplicates: Duplicates = "keep"

    def __post_init__(self) -> None:
        if not self.cut_threshold > 1:
            raise InvalidInputError(f"cut_threshold must be above 1, got {self.cut_threshold:g}")
        _check("at_cut", self.at_cut, get_args(AtCut))
        _check("duplicates", self.duplicates, get_args(Duplicates))

    @property
    def identity(self) -> str:
        """All that decides what is made, the contents of a list of cuts included."""
        if self.cuts in ("auto", "none"):
            return str(self)
        try:
            return f"{self} {Path(self.cuts).read_text('utf-8-sig')}"
        except (OSError, UnicodeDecodeError) as error:
            raise MediaError(f"cannot read the list of cuts {self.cuts}: {error}") from error


@dataclass(frozen=True)
class SoundOptions:
    """What goes along with the picture.

    Attributes:
        tracks: all copies every sound and subtitle track, and refuses a container that cannot hold one; fitting leaves
            out what it cannot hold; none copies none.
        slow_audio: Stretch the sound along with slower time, with its pitch kept; without it, slow motion is silent.
    """

    tracks: Policy = "all"
    slow_audio: bool = False


def _check(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
