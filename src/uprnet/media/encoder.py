"""Encode a video in independent pieces, each a file of its own that can be joined with the others.

A segment file is not a video of a container but the packets of an encoder as they came: every container of libav
loses something that matters here (NUT and MP4 the durations, NUT also negative times and what Matroska calls block
additions, in which VP9 keeps transparency, Matroska any time below a millisecond), and none takes every codec.
`Segment` gives the packets back. What is not in them, colour tags, chroma location, sample aspect and so on, belongs
to the track: `add_track` opens the same encoder for the final container, which has all of it, and the same extradata
as every segment, because the options are the same.

Layout, all numbers little-endian: `_HEADER` and the extradata, then for every packet in decoding order a `_RECORD`,
the payload and the block addition, and at the end a record of zeros with the number of packets as pts.

Example:
    >>> from uprnet.media.encoding import choose_encoding
    >>> picture = PictureFormat(48, 64, Fraction(25), Fraction(1, 25))
    >>> encoding = choose_encoding(".mkv", picture)
    >>> with SegmentEncoder(Path("0.seg"), encoding, picture) as encoder:  # doctest: +SKIP
    ...     encoder.write(image, Fraction(0), Fraction(1, 25))
    >>> with av.open("joined.mkv", "w") as container:  # doctest: +SKIP
    ...     stream = add_track(container, encoding, picture)
    ...     for packet in Segment(Path("0.seg")).packets():
    ...         packet.stream = stream
    ...         container.mux(packet)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import av
import av.packet
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet, PacketSideData
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.colour import ColourConverter, Image
from uprnet.media.encoding import Encoding, PictureFormat, configure, encoder_options
from uprnet.media.output import CONTAINERS, complete_file

CARRIES_ORIENTATION = hasattr(VideoStream, "set_display_matrix")
"""Whether outputs can say how they are to be turned (PyAV 18 and later); if not, frames must be turned themselves."""

_MAGIC = b"uprnet packets 1"

_HEADER = struct.Struct("<16s2qI")
"""Magic, numerator and denominator of the tick, size of the extradata that follow."""

_RECORD = struct.Struct("<3q3I")
"""Pts, dts and duration in ticks; 1 for a key frame; sizes of payload and block addition in bytes."""

_BLOCK_ADDITION: Any = "matroska_block_additional"
"""The only side data that containers keep: the transparency of VP8 and VP9."""


class SegmentEncoder:
    """Encode frames, from a fresh encoder on, to a segment file that appears when complete.

    Use it as a context manager: leaving it without an error finishes the file, synced to the disk; with one, Ctrl-C
    included, nothing is left. The first frame is a key frame, and no frame needs another segment.

    Convention:
        Frames are ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16; they are brought to what is stored. Times are
        seconds and are rounded to the tick of ``picture``; they may be negative. The same frames and settings give
        the same file.

    Args:
        path: The segment file; one that is there is replaced.
        encoding: How frames are stored.
        picture: What frames are.

    Raises:
        MediaError: If the folder is missing, the disk is full or the encoder fails.
    """

    def __init__(self, path: Path, encoding: Encoding, picture: PictureFormat) -> None:
        self._path, self._encoding, self._picture = path, encoding, picture
        self._converter = ColourConverter(encoding.colour, picture.height, picture.width)
        self._durations: dict[int, int] = {}
        self._count = 0
        self._open = ExitStack()

    def __enter__(self) -> SegmentEncoder:
        self._context = open_encoder(self._encoding, self._picture)
        with ExitStack() as stack:
            hidden = stack.enter_context(complete_file(self._path, overwrite=True))
            self._file: BinaryIO = stack.enter_context(hidden.open("wb"))
            tick, extradata = self._picture.tick, self._context.extradata or b""
            self._file.write(_HEADER.pack(_MAGIC, tick.numerator, tick.denominator, len(extradata)) + extradata)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:
            self._store(self._encode(None))
            self._file.write(_RECORD.pack(self._count, 0, 0, 0, 0, 0))
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, image: Image, pts: Fraction, duration: Fraction) -> None:
        """Add a frame that is shown from ``pts`` on, for ``duration`` seconds; times must increase.

        Raises:
            InvalidInputError: If size or type are not as declared.
            MediaError: If the encoder fails, or the disk is full.
        """
        height, width = self._picture.height, self._picture.width
        if image.shape[:2] != (height, width) or image.ndim != 3 or image.dtype not in (np.uint8, np.uint16):
            wanted = f"({height}, {width}, 3 or 4) with uint8 or uint16"
            raise InvalidInputError(f"frames must be {wanted}, got {image.shape} with {image.dtype}")
        frame = self._converter.from_rgb(image, self._encoding.pix_fmt)
        tick = self._picture.tick
        frame.pts, frame.time_base = round(pts / tick), tick
        self._durations[frame.pts] = round(duration / tick)
        self._store(self._encode(frame))

    def _encode(self, frame: av.VideoFrame | None) -> list[Packet[VideoStream]]:
        try:
            return cast("list[Packet[VideoStream]]", self._context.encode(frame))
        except av.FFmpegError as error:
            time = None if frame is None or frame.pts is None else float(frame.pts * self._picture.tick)
            where = "at the end" if time is None else f"at {time:.3f} s"
            raise MediaError(f"{self._encoding.codec} fails {where} ({error.strerror})") from error

    def _store(self, packets: Iterable[Packet[VideoStream]]) -> None:
        for packet in packets:
            # Encoders forget how long a frame is shown, or guess.
            pts = cast(int, packet.pts)
            addition = b""
            if packet.has_sidedata(_BLOCK_ADDITION):
                addition = bytes(memoryview(PacketSideData.from_packet(cast(Any, packet), _BLOCK_ADDITION)))
            dts = pts if packet.dts is None else packet.dts
            sizes = packet.size, len(addition)
            self._file.write(_RECORD.pack(pts, dts, self._durations.pop(pts), int(packet.is_keyframe), *sizes))
            self._file.write(memoryview(packet))
            self._file.write(addition)
            self._count += 1


def open_encoder(encoding: Encoding, picture: PictureFormat) -> VideoCodecContext:
    """Open an encoder that puts what decoders need into its extradata, as all our containers want it.

    Raises:
        MediaError: If libav refuses.
    """
    context = cast(VideoCodecContext, av.CodecContext.create(encoding.codec, "w"))
    configure(context, encoding, picture)
    context.flags |= Flags.global_header
    context.options = encoder_options(encoding)
    try:
        context.open()
    except av.FFmpegError as error:
        raise MediaError(f"{encoding.codec} cannot be opened ({error.strerror})") from error
    return context


def add_track(container: OutputContainer, encoding: Encoding, picture: PictureFormat) -> VideoStream:
    """Add the video track for segments of this encoding to an open container, before its header is written.

    It has codec, extradata, size, colour tags, chroma location and sample aspect; its encoder is not to be fed. Times
    count in the tick of ``picture`` as far as the container can.
    """
    stream = container.add_stream(encoding.codec, rate=picture.rate, options=encoder_options(encoding))
    video = cast(VideoStream, stream)
    configure(video.codec_context, encoding, picture)
    video.time_base = picture.tick
    if picture.display_matrix:
        video.set_display_matrix(picture.display_matrix)
    return video


def check_track(ending: str, encoding: Encoding, picture: PictureFormat) -> None:
    """Write the header of a container once: libav's tables of what they can hold say yes too often.

    Raises:
        MediaError: If the container refuses the track.
    """
    try:
        with av.open(BytesIO(), "w", format=CONTAINERS[ending]) as trial:
            add_track(trial, encoding, picture)
            trial.start_encoding()
    except av.FFmpegError as error:
        codec = av.Codec(encoding.codec, "w").canonical_name
        raise MediaError(f"{ending} cannot hold {codec} video ({error.strerror}); .mkv can") from error


class Segment:
    """A finished segment file.

    Args:
        path: The file.

    Attributes:
        tick: Seconds per unit of the times.
        extradata: What decoders need besides the packets; a track of `add_track` must have the same.

    Raises:
        MediaError: If the file is not a segment.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            start = file.read(_HEADER.size)
            if len(start) < _HEADER.size or not start.startswith(_MAGIC):
                raise MediaError(f"{path} is not a segment of a video")
            _, numerator, denominator, size = _HEADER.unpack(start)
            self.extradata = file.read(size)
        self.tick = Fraction(numerator, denominator)

    def times(self) -> list[tuple[int, int]]:
        """Give pts and duration of every packet in ticks, in decoding order, without reading the packets.

        Raises:
            MediaError: If the file is not complete.
        """
        with self._path.open("rb") as file:
            return [(pts, duration) for pts, _, duration, *_ in self._records(file)]

    def packets(self) -> Iterator[Packet[Stream]]:
        """Give the packets in decoding order, with exact pts and duration; ``time_base`` is the tick.

        The dts is the encoder's, which x265 leaves to chance in a segment of one or two frames: files need their own.

        Raises:
            MediaError: If the file is not complete.
        """
        with self._path.open("rb") as file:
            for pts, dts, duration, is_key, size, addition in self._records(file):
                payload, side = file.read(size), file.read(addition)
                packet: Packet[Stream] = Packet(size)  # of bytes PyAV 17 would keep no copy, but muxers hold packets
                packet.update(payload)
                packet.pts, packet.dts, packet.duration, packet.time_base = pts, dts, duration, self.tick
                packet.is_keyframe = bool(is_key)
                if side:
                    _add_side_data(packet, side)
                yield packet

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, int, int, int, int, int]]:
        """Yield the records, with ``file`` at the payload of each; check that all are there."""
        file.seek(_HEADER.size + len(self.extradata))
        count, length = 0, os.fstat(file.fileno()).st_size
        while len(record := file.read(_RECORD.size)) == _RECORD.size:
            pts, _, _, _, size, addition = values = _RECORD.unpack(record)
            if size == 0 and pts == count:
                return
            after = file.tell() + size + addition
            if size == 0 or after > length:
                break
            yield values
            file.seek(after)
            count += 1
        raise MediaError(f"the segment {self._path} is not complete; remove it to make it anew")


def _add_side_data(packet: Packet[Stream], data: bytes) -> None:
    create: Any = PacketSideData  # the constructor is missing in PyAV's stubs
    side = create(av.packet.packet_sidedata_type_from_literal(_BLOCK_ADDITION), len(data))
    side.update(data)
    packet.set_sidedata(side)
