"""Read videos: frames as RGB arrays with exact times, one by one, and what the file says about itself.

Convention:
    Frames are ``(H, W, 3)`` RGB, or ``(H, W, 4)`` with alpha, uint8 where the video has 8 bits and uint16 (0..65535)
    where it has more, turned upright if the file asks for it. Times are seconds as `fractions.Fraction`. The path ``-``
    is standard input, read once from its beginning: anything that libav reads without seeking, such as y4m.
"""

import logging
import select
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType

import av
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter

from uprnet.errors import MediaError
from uprnet.media.clock import Clock
from uprnet.media.colour import ColourConverter, Image, brought_to
from uprnet.media.decoding import Decoder, TimedPicture, deinterlaced
from uprnet.media.hdr import HdrMetadata, dynamic_metadata
from uprnet.media.orientation import Orientation
from uprnet.media.pixel_format import Sampling
from uprnet.media.stream import VideoInfo, colour_of, declared_end, nominal_rate, video_stream
from uprnet.media.timeline import DEFAULT_RATE, with_next

logger = logging.getLogger(__name__)

CUT_OFF = Fraction(1, 2)
"""Seconds by which a file may end before the length it declares without being called cut off."""

EDIT_ROUNDING = Fraction(1, 200)
"""Seconds by which the length of an MP4 track may be rounded: it counts in a unit of its own, such as 1/600."""

STANDARD_INPUT = Path("-")
"""Stands for standard input where a path is asked for."""

INTERLACE_PROBE = 5
"""Frames at the start that are looked at: a video is interlaced if more than half of them are."""

THUMBNAIL_WIDTH = 256
"""Largest width of a thumbnail in pixels: enough to tell cuts and repeated frames, cheap to make and compare."""


@dataclass(frozen=True)
class SourceFrame:
    """One picture and when it is shown.

    Attributes:
        pts: Time at which it appears, in seconds.
        duration: How long it is shown, in seconds, if the file says so.
        image: ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16, RGB(A).
        thumbnail: ``(h, w, 3)``, uint8 RGB, as stored (not turned upright), `THUMBNAIL_WIDTH` wide at most; None
            unless it was asked for.
    """

    pts: Fraction
    duration: Fraction | None
    image: Image
    thumbnail: Image | None = None


@dataclass(frozen=True)
class SkippedFrame:
    """A frame of which only the time, and perhaps the thumbnail, is wanted; otherwise like `SourceFrame`."""

    pts: Fraction
    duration: Fraction | None
    thumbnail: Image | None = None
    image: None = None


def open_container(path: Path) -> InputContainer:
    """Open a media file, or standard input for ``-``, for reading.

    Raises:
        MediaError: If there is no such file or libav does not know what it is.
    """
    if path != STANDARD_INPUT and not path.exists():
        raise MediaError(f"there is no file {path}")
    if path.is_dir():
        raise MediaError(f"{path} is a folder; a video file was expected")
    # "file:" keeps libav from reading a colon in the name as a protocol.
    url, name = ("pipe:0", "standard input") if path == STANDARD_INPUT else (f"file:{path}", str(path))
    if path == STANDARD_INPUT:
        with suppress(OSError, ValueError, AttributeError):  # Windows cannot wait for a pipe; it may be closed, or None
            select.select([sys.stdin.fileno()], [], [])  # libav's read cannot be interrupted while nothing comes
    try:
        return av.open(url, "r", metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{name} is not a readable video ({error.strerror})") from error


class VideoReader:
    """Iterate once over the frames of a video, in the order in which they are shown.

    A damaged packet is skipped and decoding goes on after it; a file that breaks off gives the frames up to
    there. Both are said in ``warnings`` and logged.

    Args:
        path: Video file, or ``-`` for standard input.
        deinterlace: Make whole pictures of an interlaced video, one for each frame (libav's bwdif). If the file calls
            any of its first frames interlaced, those that it does are treated; if it calls none so, all are.
        upright: Turn frames as they are to be seen. Otherwise they are given as stored, and ``info.display_matrix``
            says how to turn them, for an output that says so again.
        keeps_stamps: Take every time stamp as it stands, see `Clock`.

    Attributes:
        info: What the file says about itself.
        warnings: What was found wrong so far, one line each.

    Raises:
        MediaError: If it is not a video, no frame of it can be decoded, or it is interlaced and ``deinterlace`` is
            False.

    Example:
        >>> with VideoReader(Path("clip.mp4")) as reader:  # doctest: +SKIP
        ...     times = [frame.pts for frame in reader]
    """

    def __init__(
        self, path: Path, *, deinterlace: bool = False, upright: bool = True, keeps_stamps: bool = False
    ) -> None:
        self.path = path
        self._is_upright = upright
        self.warnings: list[str] = []
        self._interlaced, self._first_interlaced = 0, Fraction(0)
        self._container = open_container(path)
        try:
            self._stream = video_stream(self._container, path)
            self._rate = nominal_rate(self._container, self._stream)
            self._clock = Clock(self._rate, self._stream.time_base or 1 / DEFAULT_RATE, keeps_stamps=keeps_stamps)
            self._decoder = Decoder(self._container, self._stream, self._clock)
            self._frames = self._start(deinterlace)
        except BaseException:
            self._container.close()
            raise
        self._colours = ColourConverter(self.info.colour, *self._stored_size)
        if self._dynamic:
            self._warn(f"dropped: {', '.join(self._dynamic)}; single frames hold it, and new ones have none")
        self._thumbnails = VideoReformatter()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def splices(self) -> tuple[Fraction, ...]:
        """Seconds by which times were moved at each place read so far where the clock of the file jumped back."""
        return tuple(self._clock.splices)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __iter__(self) -> Iterator[SourceFrame]:
        for frame, pts in self._pictures():
            yield self._convert(frame, pts, with_thumbnail=False)

    def frames(
        self, skip: int = 0, *, since: Fraction | None = None, thumbnails: bool = False
    ) -> Iterator[SourceFrame | SkippedFrame]:
        """Iterate once over the frames, of which those at the start are decoded but not converted.

        Args:
            skip: Number of frames at the start whose image is not wanted: they come as `SkippedFrame`.
            since: Time before which images are not wanted, in seconds; None for no such time.
            thumbnails: Whether every frame, skipped or not, gets a thumbnail.
        """
        for index, (frame, pts) in enumerate(self._pictures()):
            if index >= skip and (since is None or pts >= since):
                yield self._convert(frame, pts, with_thumbnail=thumbnails)
            else:
                yield SkippedFrame(pts, self._length(frame), self._thumbnail(frame) if thumbnails else None)

    def _start(self, deinterlace: bool) -> Iterator[TimedPicture]:
        """Decode the first frames, describe the video by them and give all frames."""
        decoded = self._decoder.frames()
        ahead = list(islice(decoded, INTERLACE_PROBE))
        if not ahead:
            raise MediaError(f"no frame of {self.path} can be decoded; it is empty or damaged")
        self._stored_size = (ahead[0][0].height, ahead[0][0].width)
        self.info = self._describe(*ahead[0])
        self._dynamic = dynamic_metadata(ahead[0][0])
        flagged = sum(frame.interlaced_frame for frame, _ in ahead)
        frames = chain(ahead, decoded)
        if deinterlace:
            return deinterlaced(frames, only_flagged=flagged > 0)
        if 2 * flagged > len(ahead):
            raise MediaError(f"{self.path} is interlaced; add --deinterlace to make whole pictures of its fields")
        return frames

    def _pictures(self) -> Iterator[TimedPicture]:
        """Yield the decoded frames; note what is wrong with them and say it at the end."""
        is_scaled = is_widened = False
        for (frame, pts), after in with_next(self._frames):
            if after is None:
                self._hold(frame, pts)
            if (frame.height, frame.width) != self._stored_size and not is_scaled:
                is_scaled = True
                self._warn(f"the size changes at {_seconds(pts)}; all frames are scaled to the first size")
            sampling = Sampling.of(frame.format.name)
            if (sampling.depth > 8, sampling.has_alpha) != (
                self.info.depth > 8,
                self.info.has_alpha,
            ) and not is_widened:
                is_widened = True
                self._warn(
                    f"bits or transparency change at {_seconds(pts)}; all frames are brought to those of the first"
                )
            if frame.interlaced_frame:
                self._first_interlaced = self._first_interlaced if self._interlaced else pts
                self._interlaced += 1
            yield frame, pts
        self._report()

    def _convert(self, frame: av.VideoFrame, pts: Fraction, *, with_thumbnail: bool) -> SourceFrame:
        image = brought_to(self._colours.to_rgb(frame), self.info.depth, has_alpha=self.info.has_alpha)
        if self._is_upright:
            image = self._orientation.upright(image)
        return SourceFrame(pts, self._length(frame), image, self._thumbnail(frame) if with_thumbnail else None)

    def _hold(self, frame: av.VideoFrame, pts: Fraction) -> None:
        """Let the last frame last until the end of the track.

        Of a single frame MP4 says only how far decoding times lie apart, which is something else if there are B-frames.
        """
        stream, tick = self._stream, self._stream.time_base
        if "mp4" not in self._container.format.name or not stream.duration or not tick or self.splices:
            return
        end = ((stream.start_time or 0) + stream.duration) * tick
        is_whole = end - self._decoder.end <= CUT_OFF
        if is_whole and end > pts and abs(end - pts - frame.duration * tick) > EDIT_ROUNDING:
            frame.duration = round((end - pts) / tick)

    def _length(self, frame: av.VideoFrame) -> Fraction | None:
        return self._clock.duration(frame.duration or None)

    def _thumbnail(self, frame: av.VideoFrame) -> Image:
        height, width = self._stored_size
        small = min(width, THUMBNAIL_WIDTH)
        size = small, max(1, round(height * small / width))
        return self._thumbnails.reformat(frame, *size, "rgb24", interpolation=Interpolation.AREA).to_ndarray()

    def _report(self) -> None:
        """Say what was wrong, when all has been read."""
        damaged = self._decoder.damaged
        if damaged:
            where = "at the start" if damaged[0] is None else f"at {_seconds(damaged[0])}"
            self._warn(f"damaged packets: {len(damaged)}, the first {where}; the other frames are kept")
        if self._interlaced:
            where = f"the first at {_seconds(self._first_interlaced)}"
            self._warn(f"interlaced frames: {self._interlaced}, {where}; they show combs, --deinterlace mends them")
        if self._clock.repeated:
            self._warn(f"{self._clock.repeated} frames had no time of their own and are left out")
        if self._clock.splices:
            jumps = len(self._clock.splices)
            self._warn(f"the clock jumps back {jumps} times, as where recordings are joined; all goes on without a gap")
        if self._clock.missing:
            self._warn(f"{self._clock.missing} frames had no time stamp; {self._rate} frames/s is assumed")
        declared = declared_end(self._container)
        if declared is not None and declared - self._decoder.end > CUT_OFF:
            where = f"{_seconds(self._decoder.end)} of {_seconds(declared)}"
            self._warn(f"the file breaks off at {where}; what could be decoded is kept")

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning("%s: %s", self.path.name, text)

    def _describe(self, frame: av.VideoFrame, start: Fraction) -> VideoInfo:
        stream, container = self._stream, self._container
        end = declared_end(container)
        duration = None if end is None else end - start
        if stream.duration and stream.time_base and end is not None:
            duration = stream.duration * stream.time_base
        aspect = stream.sample_aspect_ratio or Fraction(1)
        sampling = Sampling.of(frame.format.name)
        codec = stream.codec_context.codec.canonical_name
        self._orientation = Orientation.of(frame)
        is_turned = self._is_upright and self._orientation.is_turned
        others = [track.type for track in container.streams if track.type not in ("audio", "video")]
        return VideoInfo(
            height=frame.width if is_turned else frame.height,
            width=frame.height if is_turned else frame.width,
            rate=self._rate,
            tick=self._clock.tick,
            start=start,
            duration=duration,
            frames=stream.frames or (round(duration * self._rate) if duration else None),
            codec=codec,
            pixel_format=frame.format.name,
            depth=sampling.depth,
            has_alpha=sampling.has_alpha,
            colour=colour_of(frame, codec),
            rotation=self._orientation.degrees,
            sample_aspect=1 / aspect if is_turned else aspect,
            audio=tuple(track.codec_context.name if track.codec_context else "?" for track in container.streams.audio),
            other_tracks=tuple(others),
            chroma=sampling.chroma,
            hdr=HdrMetadata.of(frame),
            display_matrix=() if self._is_upright else self._orientation.matrix,
        )


def _seconds(time: Fraction) -> str:
    return f"{float(time):.3f} s"
