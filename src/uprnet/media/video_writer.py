"""Write videos: RGB frames with exact times, the colour tags of the source, its audio packets untouched.

Defaults are visually lossless: H.264 (8 bits) or H.265 (10 bits) with constant rate factor 16 in MP4, MOV and
Matroska, VP9 with 18 in WebM. 4:2:0, so that everything plays it; only where a size is odd, which 4:2:0 of H.264
and H.265 cannot hold, 4:4:4, so that no row or column is added or lost.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.colour import ColourConverter, ColourTags, Image
from uprnet.media.output import NO_ROOM, check_file, complete_file
from uprnet.media.video import open_container

logger = logging.getLogger(__name__)

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""libav's format by file ending. AVI is not among them: it cannot hold exact or varying times."""

# Without mbtree the quality is more even from frame to frame, at about the same size; and x264 (core 165) reads
# memory there that it never wrote, so that the same frames would give another file each time.
H264 = ("libx264", {"crf": "16", "preset": "medium", "mbtree": "0"})
H265 = ("libx265", {"crf": "16", "preset": "fast", "x265-params": "log-level=none"})
VP9 = ("libvpx-vp9", {"crf": "18", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "3"})


class VideoWriter:
    """Write frames to a video file that appears when complete.

    Use it as a context manager: leaving it without an error finishes the file; with one, Ctrl-C included, nothing
    is left. The header is written on entering, so that what cannot work fails before the first frame.

    Convention:
        Frames are ``(H, W, 3)`` RGB, uint8, or uint16 with ``is_deep``. Times are seconds and are rounded to
        ``tick``; Matroska and WebM themselves round to a millisecond.

    Args:
        path: Output; the ending chooses the container.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.
        rate: Frames per second, on average if it varies; the encoder plans with it.
        tick: Seconds of which all times are whole multiples, see `Timing.time_base`.
        colour: Colour tags that the video gets; frames are converted with them.
        is_deep: Whether frames are uint16: written with 10 bits, except in WebM.
        sample_aspect: Width of a pixel over its height.
        audio_from: File whose audio tracks are copied, packet by packet; None for no sound.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        OutputExistsError: If the file is there and ``overwrite`` is False.
        MediaError: If the ending is unknown, the folder is missing, the container cannot hold an audio track,
            or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        rate: Fraction,
        tick: Fraction,
        *,
        colour: ColourTags | None = None,
        is_deep: bool = False,
        sample_aspect: Fraction = Fraction(1),
        audio_from: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        check_file(path, CONTAINERS, overwrite)
        self.path = path
        self.warnings: list[str] = []
        self._size, self._rate, self._tick = (height, width), rate, tick
        self._colour = colour or ColourTags()
        self._is_deep, self._sample_aspect = is_deep, sample_aspect
        self._audio_from, self._overwrite = audio_from, overwrite
        self._audio: _AudioCopy | None = None
        self._converter = ColourConverter(self._colour, height, width)
        self._durations: dict[int, int] = {}
        self._start: int | None = None
        self._end = self._first_dts = 0
        self._held: Packet[VideoStream] | None = None
        self._open = ExitStack()

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as stack:
            hidden = stack.enter_context(complete_file(self.path, self._overwrite))
            stack.enter_context(_explained(self.path))
            self._container = stack.enter_context(
                av.open(f"file:{hidden}", "w", format=CONTAINERS[self.path.suffix.lower()], options=self._options())
            )
            self._add_video()
            if self._audio_from is not None:
                self._audio = stack.enter_context(_AudioCopy(self._audio_from, self._container, self.path))
                self.warnings += self._audio.warnings
            self._container.start_encoding()
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:
            self._mux(self._stream.encode(None))
            self._mux_last()
            if self._audio is not None:
                self._audio.copy_until(None)
            self._container.close()

    def write(self, image: Image, pts: Fraction, duration: Fraction) -> None:
        """Add a frame that is shown from ``pts`` on, for ``duration`` seconds; times must increase.

        Raises:
            InvalidInputError: If size or type are not as declared.
            MediaError: If the disk is full or the encoder fails.
        """
        expected = (*self._size, 3), np.dtype(np.uint16 if self._is_deep else np.uint8)
        if (image.shape, image.dtype) != expected:
            raise InvalidInputError(f"frames must be {expected}, got {(image.shape, image.dtype)}")
        frame = self._converter.from_rgb(image, self._pixel_format)
        frame.pts, frame.time_base = round(pts / self._tick), self._tick
        self._durations[frame.pts] = round(duration / self._tick)
        self._start = frame.pts if self._start is None else self._start
        self._end = frame.pts + self._durations[frame.pts]
        with _explained(self.path):
            if self._audio is not None:
                self._audio.copy_until(pts)
            self._mux(self._stream.encode(frame))

    def _options(self) -> dict[str, str]:
        if CONTAINERS[self.path.suffix.lower()] not in ("mp4", "mov"):
            return {}
        # The index moves to the front when the file is finished: players can start before they have all of it.
        # Edit lists, which say when the first frame is shown, count in the ticks of the video instead of 1/1000.
        return {"movflags": "+faststart", "movie_timescale": str(self._tick.denominator)}

    def _add_video(self) -> None:
        height, width = self._size
        is_webm = self.path.suffix.lower() == ".webm"
        is_odd = height % 2 == 1 or width % 2 == 1
        codec, options = VP9 if is_webm else H265 if self._is_deep else H264
        self._pixel_format = "yuv444p" if is_odd and not is_webm else "yuv420p"
        if self._is_deep and not is_webm:
            self._pixel_format += "10le"
        elif self._is_deep:
            self._warn("WebM is written with 8 bits; .mkv and .mp4 keep 10")
        if is_odd and not is_webm:
            self._warn(f"{width}x{height} is odd, so the video is 4:4:4, which not every player shows; .webm need not")
        self._stream = self._container.add_stream(codec, rate=self._rate, options=options)
        stream, context = self._stream, self._stream.codec_context
        stream.height, stream.width, stream.pix_fmt = height, width, self._pixel_format
        context.time_base = self._tick
        stream.time_base = Fraction(1, self._tick.denominator)
        context.sample_aspect_ratio = self._sample_aspect
        context.colorspace, context.color_range = self._colour.matrix, self._colour.range
        context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer
        if codec == "libx265" and self._container.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # what Apple's players ask for

    def _mux(self, packets: "list[Packet[VideoStream]]") -> None:
        for packet in packets:
            # Encoders forget how long a frame is shown; without it the last one would get a guess.
            packet.duration = self._durations.pop(cast(int, packet.pts))
            if self._held is None:
                self._first_dts = packet.dts or 0
            else:
                self._container.mux(self._held)
            self._held = packet

    def _mux_last(self) -> None:
        """Write the last packet, so long that the track lasts as long as its frames are shown.

        MP4 adds up the distances of decoding times, and the packet that is decoded last need not be the one that
        is shown last.
        """
        if self._held is None:
            return
        if self._container.format.name in ("mp4", "mov"):
            so_far = (self._held.dts or 0) - self._first_dts
            self._held.duration = max(self._end - (self._start or 0) - so_far, self._held.duration or 0)
        self._container.mux(self._held)

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning("%s: %s", self.path.name, text)


class _AudioCopy:
    """Copy the audio packets of a file to an output, in step with its video.

    The file is opened a second time, so that sound is read as far as the picture is written and neither waits
    in memory for the other.
    """

    def __init__(self, source: Path, output: OutputContainer, path: Path) -> None:
        self.warnings: list[str] = []
        self._output = output
        self._input = open_container(source)
        self._tracks = {}
        for stream in self._input.streams.audio:
            if stream.codec_context is None:
                self.warnings.append(f"audio track {stream.index} has an unknown codec and is left out")
            else:
                self._tracks[stream.index] = self._add(stream, path)
        self._packets = self._demux()
        self._next = next(self._packets, None)

    def __enter__(self) -> "_AudioCopy":
        return self

    def __exit__(self, *error: object) -> None:
        self._input.close()

    def copy_until(self, time: Fraction | None) -> None:
        """Write all packets that come before ``time`` seconds; all that are left for None."""
        while self._next is not None and (time is None or _packet_time(self._next) <= time):
            packet = self._next
            packet.stream = self._tracks[packet.stream_index]
            self._output.mux(packet)
            self._next = next(self._packets, None)

    def _add(self, stream: AudioStream, path: Path) -> AudioStream:
        codec = stream.codec_context.codec
        if codec.name not in self._output.supported_codecs:
            others = [ending for ending in CONTAINERS if codec.name in _codecs_of(CONTAINERS[ending])]
            advice = f"; these can: {', '.join(others)}" if others else ""
            raise MediaError(f"{path.suffix} cannot hold {codec.canonical_name} audio of the source{advice}")
        copy = self._output.add_stream_from_template(stream)
        copy.metadata.update({key: stream.metadata[key] for key in ("language", "title") if key in stream.metadata})
        copy.disposition = stream.disposition
        return copy

    def _demux(self) -> "Iterator[Packet[AudioStream]]":
        if not self._tracks:
            return
        try:
            for packet in self._input.demux(*(self._input.streams[index] for index in self._tracks)):
                if packet.size and (packet.dts is not None or packet.pts is not None):
                    yield cast("Packet[AudioStream]", packet)
        except av.FFmpegError as error:
            logger.warning("the sound breaks off (%s); what could be read is kept", error.strerror)


def _packet_time(packet: "Packet[AudioStream]") -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base


def _codecs_of(container: str) -> set[str]:
    with av.open(BytesIO(), "w", format=container) as probe:
        return set(probe.supported_codecs)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn libav's errors into ours; a full disk is left to `complete_file`, which knows it."""
    try:
        yield
    except av.FFmpegError as error:
        if error.errno in NO_ROOM:
            raise
        raise MediaError(f"cannot write {path}: {error.strerror}") from error
