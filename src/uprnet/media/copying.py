"""Copy what goes along with the picture: packets as they are, chapters, metadata, attachments.

Only times are touched, and only where a section, slower time or a clock that jumped back asks for it.
"""

import logging
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from heapq import merge
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Stream
from av.video.stream import VideoStream

from uprnet.media.slow_sound import add_slow_track, slow_packets
from uprnet.media.tracks import LOSSLESS, STALE_OF_FILE, Track, TrackPlan
from uprnet.media.video import open_container

if TYPE_CHECKING:
    from av.container.core import Chapter

logger = logging.getLogger(__name__)

TimedPacket = tuple[Fraction, "Packet[Stream]"]
"""A packet for the output, after the time in seconds by which it is put in order."""

LOOK_AHEAD = Fraction(10)
"""Seconds by which packets of one time may lie apart in a file: libav interleaves within ten seconds."""

FINE_TICK = Fraction(1, 1_000_000)
"""Tick in which packets that share a rounded time are told apart."""

STALE_OF_PICTURE = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS", "ENCODER")
"""Beginnings of metadata that count or name what the new picture no longer has (Matroska's statistics tags)."""

TIMECODE = re.compile(r"(\d+:\d+:\d+[:;.])(\d+)")
"""Hours, minutes and seconds, and then frames (SMPTE ST 12-1)."""

MATROSKA_CODECS = {"aac": b"A_AAC", "mp3": b"A_MPEG/L3", "ac3": b"A_AC3", "eac3": b"A_EAC3"}
"""Matroska's names of codecs whose encoders put silence in front, by libav's names."""

QUICKTIME_LANGUAGES = {
    **{"cym": "wel", "cze": "ces", "deu": "ger", "ell": "gre", "eus": "baq", "fas": "per", "fre": "fra", "hye": "arm"},
    **{"isl": "ice", "kat": "geo", "mkd": "mac", "msa": "may", "mya": "bur", "nld": "dut", "nob": "nor", "rum": "ron"},
    **{"bod": "tib", "slo": "slk", "sqi": "alb", "zho": "chi"},
}
"""Languages that have two codes in ISO 639-2: the one that libav finds in QuickTime's table, by the other."""

IMAGE_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif"}
"""Media types of cover pictures by libav's codec names."""


class TrackCopy:
    """What is copied from a source to one output file; a context manager that keeps the source open.

    Args:
        plan: What goes along.
        source: ``plan.source``, which must be given here.
        origin: Time of the first output frame, in seconds.
    """

    def __init__(self, plan: TrackPlan, source: Path, origin: Fraction) -> None:
        self._plan, self._origin = plan, origin
        self._open = ExitStack()
        self._path = source
        self._source = self._open.enter_context(open_container(source))
        self._targets: dict[int, Stream] = {}
        self._from_zero: set[int] = set()  # lossless sounds, of which nothing may lie before 0: libav would move all
        self._covers: list[TimedPacket] = []
        self._slowed: list[Iterator[TimedPacket]] = []

    def __enter__(self) -> "TrackCopy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def ticks(self) -> list[Fraction]:
        """Seconds per unit of the times of each track."""
        ticks = [self._source.streams[track.index].time_base for track in self._plan.tracks]
        return [tick for tick in ticks if tick]

    def add_tracks(self, output: OutputContainer, *, before_picture: bool) -> None:
        """Add the tracks that come before the picture in the source, or those that come after it, to an output."""
        for track in self._plan.tracks:
            if (track.index < self._plan.video) is before_picture:
                self._add(track, output)

    def describe(self, output: OutputContainer, picture: Stream) -> None:
        """Copy the metadata of the file and of its picture, and the chapters."""
        old = self._source.streams[self._plan.video]
        output.metadata.update({k: v for k, v in self._source.metadata.items() if k.lower() not in STALE_OF_FILE})
        _label(output, picture, old, STALE_OF_PICTURE)
        for place in (output.metadata, picture.metadata):
            for key in [key for key in place if key.lower() == "timecode"]:
                self._count_anew(place, key, old, picture)
        output.set_chapters(list(self._chapters()))

    def _count_anew(self, metadata: dict[str, str], key: str, old: Stream, picture: Stream) -> None:
        """Let a time code count the frames of the new rate, or drop one that would be wrong."""
        before, now = (cast(VideoStream, stream).codec_context.framerate for stream in (old, picture))
        match = TIMECODE.fullmatch(metadata[key])
        is_moved = self._plan.start is not None or self._plan.slow != 1
        if match is None or is_moved or not before or not now or now % before:
            logger.warning(
                "%s: the time code %s is dropped: it counts other frames", self._path.name, metadata.pop(key)
            )
        else:
            metadata[key] = f"{match[1]}{int(match[2]) * int(now / before):02d}"

    def packets(self) -> Iterator[TimedPacket]:
        """Give the packets of all tracks with their output times, nearly in order of time."""
        return merge(self._covers, self._copied(), *self._slowed, key=lambda timed: timed[0])

    def _add(self, track: Track, output: OutputContainer) -> None:
        stream = self._source.streams[track.index]
        is_whole = self._plan.start is None and self._plan.slow == 1
        stale = STALE_OF_PICTURE[-1:] if is_whole else STALE_OF_PICTURE
        is_matroska = output.format.name == "matroska"
        if isinstance(stream, AttachmentStream):
            self._attach(
                output, stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data, stream
            )
        elif track.kind == "cover" and is_matroska:
            kind = IMAGE_TYPES.get(track.codec, "image/jpeg")
            name = stream.metadata.get("filename", f"cover.{kind.removeprefix('image/').replace('jpeg', 'jpg')}")
            self._attach(output, name, stream.metadata.get("mimetype", kind), bytes(self._first_packet(stream)), stream)
        elif track.encoder:
            slowed = add_slow_track(output, track.encoder, cast(AudioStream, stream))
            self._slowed.append(slow_packets(self._path, track.index, slowed, self._plan, self._origin))
            _label(output, slowed, stream, stale)
        else:
            target = output.add_stream_from_template(self._template(stream, is_matroska), opaque=True)
            _label(output, target, stream, stale)
            if track.kind == "cover":
                cover = self._first_packet(stream)
                cover.stream, cover.pts, cover.dts = target, 0, 0
                self._covers.append((self._origin, cover))
            else:
                self._targets[track.index] = target
                if is_matroska and track.codec.startswith(LOSSLESS):
                    self._from_zero.add(track.index)

    def _attach(self, output: OutputContainer, name: str, kind: str, data: bytes, stream: Stream) -> None:
        attachment = output.add_attachment(name, kind, data)
        attachment.metadata.update({key: stream.metadata[key] for key in ("title",) if key in stream.metadata})

    def _template(self, stream: Stream, is_matroska: bool) -> Stream:
        """Give the stream whose parameters the output gets.

        MP4 says by an edit list how much of the start of a sound is silence that the encoder put there; its packets
        lie before time 0. Matroska has no such times: without being told of the silence, libav would move all other
        tracks instead. It takes the length from the parameters of the stream, where its reader of MP4 does not put it.
        """
        codec = MATROSKA_CODECS.get(stream.codec_context.codec.canonical_name) if stream.codec_context else None
        if not is_matroska or codec is None or not isinstance(stream, AudioStream) or self._plan.start is not None:
            return stream
        first = self._first_packet(stream)
        if not first.has_sidedata("skip_samples") or first.pts is None or first.pts >= 0:
            return stream
        header = BytesIO(_matroska_sound(codec, stream, -first.pts * first.time_base))
        silent = self._open.enter_context(av.open(header, "r", format="matroska"))
        return cast(Stream, silent.streams.audio[0])

    def _first_packet(self, stream: Stream) -> "Packet[Stream]":
        with open_container(self._path) as again:
            return next(packet for packet in again.demux(again.streams[stream.index]) if packet.size)

    def _copied(self) -> Iterator[TimedPacket]:
        wanted = [self._source.streams[index] for index in self._targets]
        clocks = {stream.index: _TrackClock(self._plan, self._origin, _declared_end(stream)) for stream in wanted}
        end = self._plan.end
        try:
            for packet in self._source.demux(*wanted) if wanted else ():  # without a name, all tracks are meant
                if not packet.size or (packet.dts is None and packet.pts is None):
                    continue
                target, clock = self._targets[packet.stream_index], clocks[packet.stream_index]
                time = clock.move(packet)
                if packet.stream_index in self._from_zero and _is_before_zero(packet):
                    continue
                if time is not None:
                    packet.stream = target
                    yield time, packet
                elif end is not None and clock.time > end + LOOK_AHEAD:
                    return
        except av.FFmpegError as error:
            logger.warning("%s: the tracks break off (%s); what could be read is kept", self._path.name, error.strerror)

    def _chapters(self) -> "Iterator[Chapter]":
        plan, source = self._plan, self._source
        for chapter in source.chapters():
            tick = chapter["time_base"] or FINE_TICK
            start, end = chapter["start"] * tick, chapter["end"] * tick
            if plan.start is not None:
                start = max(start, plan.start)
            if plan.end is not None:
                end = min(end, plan.end)
            if start < end:
                moved = [max(0, round(plan.output_time(time, self._origin) / tick)) for time in (start, end)]
                if moved[0] < moved[1]:  # slow motion may move what comes before the picture to before 0
                    yield cast("Chapter", {**chapter, "start": moved[0], "end": moved[1], "time_base": tick})


class _TrackClock:
    """Give the packets of one track their output times.

    Args:
        plan: Section, speed, and where the clock of the source jumped back.
        origin: Time of the first output frame.
        end: Source time at which the track ends, maybe within a packet; None if it does not say.

    Attributes:
        time: Source time of the last packet.
    """

    def __init__(self, plan: TrackPlan, origin: Fraction, end: Fraction | None) -> None:
        self.time = Fraction(0)
        self._plan, self._origin, self._end = plan, origin, end
        self._splices = plan.follow_splices()
        self._last_output: Fraction | None = None

    def move(self, packet: "Packet[Stream]") -> Fraction | None:
        """Change the stamps of a packet to output times; give its decoding time, None if it is not in the section."""
        plan, tick = self._plan, packet.time_base
        stamp = (packet.pts if packet.dts is None else packet.dts or 0) * tick  # type: ignore[operator]
        shown = stamp if packet.pts is None else packet.pts * tick
        length = (packet.duration or 0) * tick
        if self._end is not None and stamp < self._end < stamp + length:
            length = self._end - stamp
        shift = self._splices.shift(stamp, length)
        stamp, shown = stamp + shift, shown + shift
        self.time = shown
        if plan.start is not None and shown < plan.start:
            # A subtitle that began earlier is still on the screen; sound begins with the first whole packet.
            if packet.stream.type != "subtitle" or shown + length <= plan.start:
                return None
            length -= plan.start - shown
            stamp = shown = plan.start
        if plan.end is not None:
            if shown >= plan.end:
                return None
            if packet.stream.type == "subtitle":
                length = min(length, plan.end - shown)
        return self._stamp(packet, stamp, shown, length)

    def _stamp(self, packet: "Packet[Stream]", stamp: Fraction, shown: Fraction, length: Fraction) -> Fraction:
        decoded, presented = (self._plan.output_time(time, self._origin) for time in (stamp, shown))
        if self._last_output is not None and decoded <= self._last_output:
            decoded = self._last_output + FINE_TICK
            packet.time_base = FINE_TICK
        self._last_output = decoded
        tick = packet.time_base
        packet.dts, packet.pts = round(decoded / tick), round(max(presented, decoded) / tick)
        packet.duration = round(length * self._plan.slow / tick)
        return decoded


def _is_before_zero(packet: "Packet[Stream]") -> bool:
    """Whether a packet is over before time 0, such as one that an edit list hides."""
    return packet.pts is not None and packet.pts + (packet.duration or 0) <= 0


def _declared_end(stream: Stream) -> Fraction | None:
    """Give the time at which an edit list ends a sound, which its packets do not say."""
    if stream.type != "audio" or "mp4" not in stream.container.format.name or not stream.duration:
        return None
    return ((stream.start_time or 0) + stream.duration) * (stream.time_base or Fraction(0))


def _label(output: OutputContainer, target: Stream, source: Stream, stale: tuple[str, ...]) -> None:
    """Copy metadata and flags of a track, except metadata that begin with one of ``stale``."""
    target.metadata.update({key: text for key, text in source.metadata.items() if not key.upper().startswith(stale)})
    language = source.metadata.get("language", "")
    if output.format.name == "mov" and language in QUICKTIME_LANGUAGES:
        target.metadata["language"] = QUICKTIME_LANGUAGES[language]
    target.disposition = cast(Any, source.disposition.value)  # PyAV 17 takes a number only


def _matroska_sound(codec: bytes, stream: AudioStream, delay: Fraction) -> bytes:
    """Write the header of a Matroska file that holds nothing but a sound track with ``delay`` seconds of silence.

    Reference:
        RFC 9559 (Matroska) 5.1.4, RFC 8794 (EBML).
    """
    context = stream.codec_context
    sound = _element("B5", struct.pack(">d", context.sample_rate)) + _element("9F", bytes([context.channels]))
    track = [
        _element("D7", b"\1"),  # TrackNumber
        _element("73C5", b"\1"),  # TrackUID
        _element("83", b"\2"),  # TrackType: audio
        _element("86", codec),  # CodecID
        _element("63A2", context.extradata or b""),  # CodecPrivate
        _element("56AA", round(delay * 10**9).to_bytes(8, "big")),  # CodecDelay in nanoseconds
        _element("E1", sound),  # Audio: SamplingFrequency, Channels
    ]
    tracks = _element("1654AE6B", _element("AE", b"".join(track)))
    cluster = _element("1F43B675", _element("E7", b"\0"))  # without one, libav reads on to the end of the file
    return _element("1A45DFA3", _element("4282", b"matroska")) + _element("18538067", tracks + cluster)


def _element(number: str, content: bytes) -> bytes:
    """Write an EBML element: its number, its size in eight bytes, its content."""
    return bytes.fromhex(number) + (len(content) | 1 << 56).to_bytes(8, "big") + content
