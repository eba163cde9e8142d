"""Frames to standard output without compression, for other programs: y4m, or NUT with exact times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from uprnet.errors import MediaError
from uprnet.media.colour import CHROMA_LOCATIONS, ColourConverter, Image
from uprnet.media.encoding import PictureFormat
from uprnet.media.pixel_format import nearest, planar
from uprnet.pipeline.targets import LastFrame, SegmentWriter
from uprnet.pipeline.task import Task

PipeFormat = Literal["y4m", "nut"]
"""y4m is what most programs read: one frame rate, no transparency, no colour tags but the range. NUT has exact times
and transparency, but no colour tags at all."""

STANDARD_OUTPUT = Path("-")
"""Stands for standard output where a path is asked for."""

Y4M_FORMATS = tuple(f"yuv{chroma}p{bits}" for chroma in (420, 422, 444) for bits in ("", "10le", "12le", "16le"))
"""Pixel formats that libav's y4m has a name for."""


class PipeTarget:
    """Standard output as one single segment; made by `open_pipe`."""

    def __init__(
        self, container: OutputContainer, stream: VideoStream, picture: PictureFormat, *, is_steady: bool
    ) -> None:
        self._container, self._stream, self._picture, self._is_steady = container, stream, picture, is_steady
        self._colours = ColourConverter(picture.colour, picture.height, picture.width)
        self._start: Fraction | None = None
        self._count = 0

    def is_done(self, number: int) -> bool:  # noqa: ARG002 - as Target
        """Nothing is kept of what was once handed on."""
        return False

    def segment(self, number: int, first: int) -> AbstractContextManager[SegmentWriter]:  # noqa: ARG002 - as Target
        """Give the stream; segments follow each other in it."""
        return nullcontext(self)

    def write(self, image: Image, pts: Fraction, duration: Fraction) -> None:  # noqa: ARG002 - until the next one
        """Hand a frame on.

        Raises:
            MediaError: If the frame rate varies and the format cannot say so, or nobody reads any more.
        """
        picture = self._picture
        self._start = pts if self._start is None else self._start
        steady = self._start + self._count / picture.rate
        if self._is_steady and abs(pts - steady) > 1 / picture.rate / 2:
            raise MediaError("y4m has one frame rate, but that of the source varies; give fps, or the pipe format nut")
        frame = self._colours.from_rgb(image, str(self._stream.pix_fmt))
        tick = 1 / picture.rate if self._is_steady else picture.tick
        frame.pts, frame.time_base = self._count if self._is_steady else round(pts / tick), tick
        self._count += 1
        try:
            self._container.mux(self._stream.encode(frame))
        except av.FFmpegError as error:
            raise MediaError(f"standard output does not take more frames ({error.strerror})") from error

    def finish(self, segments: Mapping[int, LastFrame], task: Task, end: Fraction) -> None:
        """Do nothing: all is handed on."""


@contextmanager
def open_pipe(picture: PictureFormat, pipe_format: PipeFormat) -> Iterator[PipeTarget]:
    """Write the header of a stream to standard output, and its end when all is well."""
    is_y4m = pipe_format == "y4m"
    known = Y4M_FORMATS if is_y4m else (planar(picture.sampling),)
    container = av.open("pipe:1", "w", format="yuv4mpegpipe" if is_y4m else "nut", options={"strict": "-1"})
    chroma = CHROMA_LOCATIONS[picture.colour.chroma_location]
    stream = container.add_stream("rawvideo", rate=picture.rate, options={"chroma_sample_location": chroma})
    stream.height, stream.width, stream.pix_fmt = picture.height, picture.width, nearest(known, picture.sampling)[0]
    context, colour = stream.codec_context, picture.colour
    context.time_base = stream.time_base = 1 / picture.rate if is_y4m else picture.tick
    context.sample_aspect_ratio = picture.sample_aspect
    context.colorspace, context.color_range = colour.matrix, colour.range
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    try:
        yield PipeTarget(container, stream, picture, is_steady=is_y4m)
        container.close()
    except av.FFmpegError as error:
        raise MediaError(f"standard output does not take more frames ({error.strerror})") from error
