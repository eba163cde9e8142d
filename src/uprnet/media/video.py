"""Read videos: frames as RGB arrays with exact times, one by one, and what the file says about itself.

Convention:
    Frames are ``(H, W, 3)`` RGB, uint8 where the video has 8 bits and uint16 (0..65535) where it has more, turned
    upright if the file asks for a rotation. Times are seconds as `fractions.Fraction`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from uprnet.errors import MediaError
from uprnet.media.colour import ColourConverter, ColourTags, Image, depth_of
from uprnet.media.timeline import DEFAULT_RATE, Clock, well_known

logger = logging.getLogger(__name__)

CUT_OFF = Fraction(1, 2)
"""Seconds by which a file may end before the length it declares without being called cut off."""

UNSTAMPED_FORMATS = {"h264", "hevc", "m4v", "mpegvideo", "obu", "ivf", "yuv4mpegpipe", "rawvideo"}
"""Raw streams (libav's names): no time stamps or no true length; their declared length is a guess."""


@dataclass(frozen=True)
class SourceFrame:
    """One picture and when it is shown.

    Attributes:
        pts: Time at which it appears, in seconds.
        duration: How long it is shown, in seconds, if the file says so.
        image: ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16, RGB(A).
    """

    pts: Fraction
    duration: Fraction | None
    image: Image


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself, checked against its first frame.

    Attributes:
        height: Height of an upright frame, in pixels.
        width: Width of an upright frame, in pixels.
        rate: Nominal frames per second; the average where the rate varies.
        tick: Seconds of which all frame times are whole multiples.
        start: Time of the first frame, in seconds.
        duration: Declared length in seconds; None if the file does not say.
        frames: Number of frames; an estimate unless the container counts them, None if nothing is known.
        codec: libav's name of the video codec.
        pixel_format: libav's name of the stored pixel format.
        depth: Bits per sample.
        has_alpha: Whether frames come with alpha as fourth channel.
        colour: Colour tags.
        rotation: Degrees counterclockwise by which stored frames are turned to be upright.
        sample_aspect: Width of a pixel over its height, upright.
        audio: libav's names of the codecs of the audio tracks.
        other_tracks: Kinds of the tracks that are neither the video nor audio, such as ``subtitle``.
    """

    height: int
    width: int
    rate: Fraction
    tick: Fraction
    start: Fraction
    duration: Fraction | None
    frames: int | None
    codec: str
    pixel_format: str
    depth: int
    has_alpha: bool
    colour: ColourTags
    rotation: int
    sample_aspect: Fraction
    audio: tuple[str, ...]
    other_tracks: tuple[str, ...]


def open_container(path: Path) -> InputContainer:
    """Open a media file for reading.

    Raises:
        MediaError: If there is no such file or libav does not know what it is.
    """
    if not path.exists():
        raise MediaError(f"there is no file {path}")
    if path.is_dir():
        raise MediaError(f"{path} is a folder; a video file was expected")
    try:
        # "file:" keeps libav from reading a colon in the name as a protocol.
        return av.open(f"file:{path}", "r", metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path} is not a readable video ({error.strerror})") from error


class VideoReader:
    """Iterate once over the frames of a video, in the order in which they are shown.

    A damaged packet is skipped and decoding goes on after it; a file that breaks off gives the frames up to
    there. Both are said in ``warnings`` and logged.

    Args:
        path: Video file.

    Attributes:
        info: What the file says about itself.
        warnings: What was found wrong so far, one line each.

    Raises:
        MediaError: If it is not a video, or no frame of it can be decoded.

    Example:
        >>> with VideoReader(Path("clip.mp4")) as reader:  # doctest: +SKIP
        ...     times = [frame.pts for frame in reader]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._damaged: list[Fraction | None] = []
        self._last: Fraction | None = None
        self._end_seen = Fraction(0)
        self._container = open_container(path)
        try:
            self._stream = _video_stream(self._container, path)
            self._rate = _nominal_rate(self._stream, _is_unstamped(self._container))
            self._clock = Clock(self._rate, self._stream.time_base or 1 / DEFAULT_RATE)
            self._decoded = self._decode()
            self._first = first = self._first_frame()
            self.info = self._describe(*first)
        except BaseException:
            self._container.close()
            raise
        stored = (first[0].height, first[0].width)
        self._colours = ColourConverter(self.info.colour, *stored)
        if any(part.is_alpha for part in first[0].format.components):
            self._warn("the transparency of the video is dropped")
        if first[0].interlaced_frame:
            self._warn("the video is interlaced; new frames will show its combs")

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __iter__(self) -> Iterator[SourceFrame]:
        size, is_scaled = (self._first[0].height, self._first[0].width), False
        yield self._convert(*self._first)
        for frame, pts in self._decoded:
            if (frame.height, frame.width) != size and not is_scaled:
                is_scaled = True
                self._warn(f"the size changes at {_seconds(pts)}; all frames are scaled to the first size")
            yield self._convert(frame, pts)
        self._report()

    def _first_frame(self) -> tuple[av.VideoFrame, Fraction]:
        first = next(self._decoded, None)
        if first is None:
            raise MediaError(f"no frame of {self.path} can be decoded; it is empty or damaged")
        return first

    def _convert(self, frame: av.VideoFrame, pts: Fraction) -> SourceFrame:
        image = self._colours.to_rgb(frame)
        if self.info.rotation:
            image = np.ascontiguousarray(np.rot90(image, self.info.rotation // 90))
        return SourceFrame(pts, self._clock.duration(frame.duration or None), image)

    def _decode(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yield decoded frames that can be shown, with their times; note damage and go on."""
        for packet in self._packets():
            try:
                frames = self._stream.decode(packet)
            except av.error.DecoderNotFoundError as error:
                raise MediaError(f"there is no decoder for the video in {self.path}") from error
            except av.FFmpegError:
                self._damaged.append(self._last)
                continue
            for frame in frames:
                pts = self._clock.time(frame.pts)
                if frame.is_corrupt:
                    self._damaged.append(pts)
                if pts is not None:
                    self._last = pts
                    yield frame, pts

    def _packets(self) -> Iterator["Packet[VideoStream] | None"]:
        """Yield the packets of the video, the last one empty: the decoder then gives what it held back."""
        try:
            for packet in self._container.demux():
                if packet.pts is not None and packet.time_base:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self._end_seen = max(self._end_seen, end)
                if packet.stream_index == self._stream.index and packet.size:
                    yield cast("Packet[VideoStream]", packet)
        except av.FFmpegError:
            self._damaged.append(self._last)
        yield None

    def _report(self) -> None:
        """Say what was wrong, when all has been read."""
        if self._damaged:
            where = "at the start" if self._damaged[0] is None else f"at {_seconds(self._damaged[0])}"
            self._warn(f"{len(self._damaged)} damaged packets, the first {where}; the other frames are kept")
        if self._clock.repeated:
            self._warn(f"{self._clock.repeated} frames had no time of their own and are left out")
        if self._clock.missing:
            self._warn(f"{self._clock.missing} frames had no time stamp; {self._rate} frames/s is assumed")
        declared = _declared_end(self._container)
        if declared is not None and declared - self._end_seen > CUT_OFF:
            where = f"{_seconds(self._end_seen)} of {_seconds(declared)}"
            self._warn(f"the file breaks off at {where}; what could be decoded is kept")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning("%s: %s", self.path.name, text)

    def _describe(self, frame: av.VideoFrame, start: Fraction) -> VideoInfo:
        stream, container = self._stream, self._container
        end = _declared_end(container)
        duration = None if end is None else end - start
        if stream.duration and stream.time_base and end is not None:
            duration = stream.duration * stream.time_base
        aspect = stream.sample_aspect_ratio or Fraction(1)
        rotation = round(frame.rotation / 90) * 90
        is_turned = rotation % 180 != 0
        others = [track.type for track in container.streams if track.type not in ("audio", "video")]
        return VideoInfo(
            height=frame.width if is_turned else frame.height,
            width=frame.height if is_turned else frame.width,
            rate=self._rate,
            tick=self._clock.tick,
            start=start,
            duration=duration,
            frames=stream.frames or (round(duration * self._rate) if duration else None),
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=frame.format.name,
            depth=depth_of(frame),
            has_alpha=False,
            colour=ColourTags.of(frame),
            rotation=rotation,
            sample_aspect=1 / aspect if is_turned else aspect,
            audio=tuple(track.codec_context.name if track.codec_context else "?" for track in container.streams.audio),
            other_tracks=tuple(others),
        )


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Give the first video track that is not the cover picture of a piece of music."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise MediaError(f"there is no decoder for the video in {path}")
            stream.thread_type = "AUTO"
            return stream
    raise MediaError(f"there is no video track in {path}")


def _nominal_rate(stream: VideoStream, is_unstamped: bool) -> Fraction:
    """Give the rate that libav takes for the true one if the stamps bear it out, else the average."""
    average, guessed = stream.average_rate, stream.guessed_rate and well_known(stream.guessed_rate)
    if is_unstamped:
        return stream.codec_context.framerate or guessed or DEFAULT_RATE
    if not average or not guessed:
        return average or guessed or DEFAULT_RATE
    # Of a variable rate the guess is a common one nearby, or the resolution of the stamps.
    drift = abs(1 / average - 1 / guessed) * stream.frames
    is_near = abs(guessed / average - 1) < Fraction(1, 20)
    return guessed if is_near and drift <= (stream.time_base or 0) else average


def _is_unstamped(container: InputContainer) -> bool:
    return not UNSTAMPED_FORMATS.isdisjoint(container.format.name.split(","))


def _declared_end(container: InputContainer) -> Fraction | None:
    """Give the time at which the file says it ends; None if it does not or only guesses."""
    if not container.duration or _is_unstamped(container):
        return None
    # Matroska counts the length of a file from time 0, the others from its first time stamp.
    start = 0 if "matroska" in container.format.name else container.start_time or 0
    return Fraction(start + container.duration, av.time_base)


def _seconds(time: Fraction) -> str:
    return f"{float(time):.3f} s"
