"""What of a source goes along to the output besides its picture, decided before work starts.

Sound, subtitles and data are copied packet by packet, attachments (fonts), cover pictures, chapters and metadata as
they are. Nothing is converted without being said: a container that cannot hold a track is refused, and the
message names those that can. Only with ``slow`` something new is made: the sound, stretched with its pitch kept,
where that is asked for.

Convention:
    Times are seconds as `fractions.Fraction`. A time s of the source lies in the output at
    ``origin + (s - start) * slow``, where ``origin`` is the time of the first output frame and ``start`` the source
    time that it shows. Without a section ``start`` is ``origin``, so that nothing moves unless ``slow`` is asked for.
"""

import logging
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Literal, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.clock import BACKWARDS
from uprnet.media.output import CONTAINERS
from uprnet.media.slow_sound import add_slow_track
from uprnet.media.timeline import Timing
from uprnet.media.video import STANDARD_INPUT, open_container

logger = logging.getLogger(__name__)

Policy = Literal["all", "fitting", "none"]
"""Which tracks go along: all, or the work is refused; those that the container can hold; none."""

Section = tuple[Fraction, Fraction | None]
"""Source times of the first frame that is shown and of the end, None for the end of the source."""

LOSSLESS = ("pcm_", "flac", "alac", "truehd", "mlp", "tta", "wavpack")
"""How libav's names of lossless audio codecs begin."""

ENCODERS = {"opus": "libopus", "vorbis": "libvorbis", "mp3": "libmp3lame"}
"""libav's encoder of a codec, where its own one is missing or experimental."""

STALE_OF_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""Metadata that say how the source file was made; the output gets its own."""

ITUNES_KEYS = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"),
    *(
        "lyrics",
        "description",
        "synopsis",
        "show",
        "episode_id",
        "network",
        "keywords",
        "episode_sort",
        "track",
        "disc",
    ),
    *("season_number", "media_type", "hd_video", "gapless_playback", "compilation", "encoder", "creation_time"),
}
"""Metadata that libav writes to MP4 and MOV in the form that all players know; others need Apple's free form."""


@dataclass(frozen=True)
class Track:
    """One track of the source that goes along.

    Attributes:
        index: Number of the track in the source, from 0.
        kind: What it is.
        codec: libav's name of its codec.
        encoder: libav's encoder for slowed sound; empty where packets are copied.
    """

    index: int
    kind: Literal["audio", "subtitle", "data", "attachment", "cover"]
    codec: str
    encoder: str = ""


@dataclass(frozen=True)
class TrackPlan:
    """What goes along with the picture; the plain ``TrackPlan()`` is nothing at all.

    Attributes:
        source: File that the tracks, chapters and metadata come from; None for none.
        video: Number of the track in the source that holds the picture.
        tracks: The tracks, in the order of the source.
        slow: How many times slower time runs.
        start: Source time that the first output frame shows; None if source and output share their times.
        end: Source time at which the tracks end; None for the end of the source.
        has_free_metadata: Whether the source has metadata that MP4 and MOV keep in Apple's free form only.
        splices: Seconds by which the times of the source were moved at each place where its clock jumped back, see
            `Clock.splices`; known only when the picture has been read.
        warnings: What is left out and why, one line each.
    """

    source: Path | None = None
    video: int = 0
    tracks: tuple[Track, ...] = ()
    slow: Fraction = Fraction(1)
    start: Fraction | None = None
    end: Fraction | None = None
    has_free_metadata: bool = False
    splices: tuple[Fraction, ...] = ()
    warnings: tuple[str, ...] = ()

    def output_time(self, time: Fraction, origin: Fraction) -> Fraction:
        """Give the output time of a source time, where ``origin`` is the time of the first output frame."""
        start = origin if self.start is None else self.start
        return origin + (time - start) * self.slow

    def follow_splices(self) -> "SpliceFollower":
        """Give what finds the places in one track at which the clock of the source jumped back."""
        return SpliceFollower(self.splices)


class SpliceFollower:
    """Shift the times of one track as those of the picture were where the clock of the source jumped back.

    Args:
        splices: By how much the picture was moved at each jump. At one of which nothing is known, the track goes on
            where its last packet ended.
    """

    def __init__(self, splices: tuple[Fraction, ...]) -> None:
        self._left = list(splices)
        self._shift = Fraction(0)
        self._last: Fraction | None = None
        self._end = Fraction(0)

    def shift(self, stamp: Fraction, length: Fraction) -> Fraction:
        """Give the seconds to add to a stamp of the track; stamps come in the order of the file."""
        if self._last is not None and stamp < self._last - BACKWARDS:
            self._shift += self._left.pop(0) if self._left else self._end - stamp - self._shift
        self._last, self._end = stamp, stamp + length + self._shift
        return self._shift


def plan_tracks(
    source: Path,
    ending: str,
    timing: Timing,
    *,
    slow_audio: bool = False,
    section: Section | None = None,
    policy: Policy = "all",
) -> TrackPlan:
    """Decide which tracks of ``source`` go along to a file with ``ending``.

    What is left out is said in ``warnings`` and logged: sound of slower time, unless ``slow_audio``; a second video
    track; data and attachments that the container cannot hold; tracks whose codec libav does not know.

    Args:
        source: Video file.
        ending: Ending of the output file, such as ``.mkv``.
        timing: Of its speed, ``slow`` counts.
        slow_audio: Whether sound is stretched, with its pitch kept, where time runs slower.
        section: The part of the source that is shown; None for all.
        policy: What happens to sound and subtitles that the container cannot hold.

    Raises:
        InvalidInputError: If ``slow_audio`` is asked for and time does not run slower, or ``policy`` is unknown.
        MediaError: If the container cannot hold a sound or subtitle track and ``policy`` is ``"all"``, or the source
            cannot be read.

    Example:
        >>> plan_tracks(Path("film.mkv"), ".mkv", Timing.choose(fps=60)).tracks  # doctest: +SKIP
        (Track(index=1, kind='audio', codec='aac', encoder=''),)
    """
    if policy not in ("all", "fitting", "none"):
        raise InvalidInputError(f'tracks must be "all", "fitting" or "none", got {policy!r}')
    if slow_audio and timing.slow == 1:
        raise InvalidInputError("slowed sound is asked for, but not slower time; give slow, such as 2, too")
    if source == STANDARD_INPUT:
        return TrackPlan()  # it is read once, for the picture
    with open_container(source) as container:
        video = _picture(container)
        choice = _Choice(source, container, ending, policy)
        for stream in container.streams:
            if stream.index != video:
                choice.consider(stream, slow_audio, timing.slow != 1)
        known = (*ITUNES_KEYS, *STALE_OF_FILE)
        free = sorted(key for key in container.metadata if key.lower() not in known)
    choice.refuse()
    is_apple = CONTAINERS[ending.lower()] in ("mp4", "mov")
    if is_apple and free and any(track.kind == "cover" for track in choice.tracks):
        choice.warnings.append(f"{ending} cannot hold {', '.join(free)} beside a cover picture; they are left out")
        free = []
    for text in choice.warnings:
        logger.warning("%s: %s", source.name, text)
    start, end = section or (None, None)
    return TrackPlan(
        source=source,
        video=video,
        tracks=tuple(choice.tracks),
        slow=timing.slow,
        start=start,
        end=end,
        has_free_metadata=bool(free),
        warnings=tuple(choice.warnings),
    )


class _Choice:
    """Go through the tracks of a source, and collect what goes along, what is left out and what forbids the work."""

    def __init__(self, source: Path, container: InputContainer, ending: str, policy: Policy) -> None:
        self.tracks: list[Track] = []
        self.warnings: list[str] = []
        self._source, self._ending, self._policy = source, ending.lower(), policy
        self._has_chapters = bool(container.chapters())
        self._homeless: list[tuple[str, set[str]]] = []

    def consider(self, stream: Stream, slow_audio: bool, is_slow: bool) -> None:
        """Add the track, or say why not."""
        kind, codec = _kind(stream), _codec(stream)
        name = f"{codec} {'sound' if kind == 'audio' else 'subtitles' if kind == 'subtitle' else kind}"
        if kind == "data" and (self._is_kept_elsewhere(stream) or self._policy == "none"):
            return
        if kind in ("audio", "subtitle"):
            if self._policy == "none":
                self._leave_out(stream, name, "as asked for")
            elif stream.codec_context is None:
                self._leave_out(stream, name, "libav cannot read it")
            elif kind == "audio" and is_slow and not slow_audio:
                self._leave_out(stream, name, "time runs slower; --slow-audio stretches it")
            elif kind == "audio" and is_slow:
                encoder = _encoder_for(cast(AudioStream, stream), CONTAINERS[self._ending])
                self.tracks.append(Track(stream.index, "audio", codec, encoder))
            elif self._holds(stream):
                self.tracks.append(Track(stream.index, kind, codec))
            elif self._policy == "fitting":
                self._leave_out(stream, name, f"{self._ending} cannot hold it")
            else:
                others = {ending for ending, form in CONTAINERS.items() if _holds(form, stream)}
                self._homeless.append((f"the {name} (track {stream.index})", others))
        elif kind in ("attachment", "cover", "data") and self._policy != "none":
            # Unknown data has a description of its own in the source, which libav would not write again.
            is_known = kind != "data" or codec != "unknown"
            if is_known and self._holds(stream):
                self.tracks.append(Track(stream.index, kind, codec))
            else:
                self._leave_out(stream, name, f"{self._ending} cannot hold it" if is_known else "its kind is unknown")
        elif kind == "video":
            self._leave_out(stream, name, "only the first video track gets more frames")

    def refuse(self) -> None:
        """Raise the one error that names everything for which there is no room."""
        if not self._homeless:
            return
        what = " and ".join(text for text, _ in self._homeless)
        others = sorted(set(CONTAINERS).intersection(*(endings for _, endings in self._homeless)))
        advice = f"{', '.join(others)} can" if others else "no container can"
        raise MediaError(
            f"{self._ending} cannot hold {what} of {self._source.name}; {advice}; "
            "or leave out what does not fit with --tracks fitting"
        )

    def _is_kept_elsewhere(self, stream: Stream) -> bool:
        """Say whether the data come from what is copied anyway: the titles of chapters, the time code."""
        is_title = self._has_chapters and _codec(stream) == "bin_data"
        return is_title or (_codec(stream) == "unknown" and "timecode" in stream.metadata)

    def _holds(self, stream: Stream) -> bool:
        if _kind(stream) == "attachment":
            return self._ending == ".mkv"
        form = CONTAINERS[self._ending]
        return form in ("mp4", "matroska") if _kind(stream) == "cover" else _holds(form, stream)

    def _leave_out(self, stream: Stream, name: str, why: str) -> None:
        self.warnings.append(f"track {stream.index} ({name}) is left out: {why}")


def _picture(container: InputContainer) -> int:
    """Give the number of the track with the picture: the first that is no cover."""
    for stream in container.streams.video:
        if _kind(stream) == "video":
            return stream.index
    raise MediaError(f"there is no video track in {container.name}")


def _kind(stream: Stream) -> Literal["video", "audio", "subtitle", "data", "attachment", "cover"]:
    if stream.type == "video" and stream.disposition & Disposition.attached_pic:
        return "cover"
    return "data" if stream.type == "unknown" else stream.type


def _codec(stream: Stream) -> str:
    """Give libav's name of the codec; "unknown" where it has none."""
    if stream.type == "attachment":
        return str(stream.metadata.get("mimetype", "unknown"))
    if stream.codec_context is not None:
        return stream.codec_context.codec.canonical_name
    return getattr(stream, "name", None) or "unknown"


def _holds(container: str, stream: Stream) -> bool:
    """Say whether libav writes a header for this track: tables of codecs say yes too often."""
    with av.open(BytesIO(), "w", format=container) as trial:
        try:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
        except (ValueError, av.FFmpegError):
            return False
    return True


def _encoder_for(stream: AudioStream, container: str) -> str:
    """Choose the encoder of slowed sound: the codec of the source if possible, else what the container is used to."""
    codec = _codec(stream)
    is_lossless = codec.startswith(LOSSLESS)
    for wanted in (codec, *(["flac", "alac"] if is_lossless else []), "aac", "opus"):
        encoder = ENCODERS.get(wanted, wanted)
        try:
            with av.open(BytesIO(), "w", format=container) as trial:
                add_slow_track(trial, encoder, stream)
                trial.start_encoding()
        except (ValueError, av.FFmpegError):
            continue
        return encoder
    raise MediaError(f"libav has no audio encoder for {container}; slow sound cannot be written")
