"""From packets to decoded frames with exact times: damage is skipped, transparency kept, fields joined.

Convention:
    Times are seconds as `fractions.Fraction`. Frames come in the order in which they are shown.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, islice
from typing import cast

import av
import av.filter
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from uprnet.errors import MediaError
from uprnet.media.clock import Clock

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""libav's own decoders of these codecs leave the transparency of WebM out; these read it."""

UNREADABLE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO)
"""System errors that mean: the file is not damaged, but the disk or the network that it lies on does not give it."""

REORDER_PROBE = 16
"""Packets at the start that are looked at: frames are reordered over fewer (ITU-T H.264, max_num_reorder_frames)."""

TimedPicture = tuple[av.VideoFrame, Fraction]
"""A decoded frame and the time at which it is shown."""


class Decoder:
    """Decode one video track; a damaged packet is noted and skipped.

    Args:
        container: Open file.
        stream: Its track to decode.
        clock: What turns time stamps into times.

    Attributes:
        damaged: For every packet that could not be decoded, the time of the last frame before it; None at the start.
        end: Time at which the last packet of any track ends, as far as they were read.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, clock: Clock) -> None:
        self.damaged: list[Fraction | None] = []
        self.end = Fraction(0)
        self._container, self._stream, self._clock = container, stream, clock
        self._context = _context_for(stream)
        self._last: Fraction | None = None

    def frames(self) -> Iterator[TimedPicture]:
        """Yield the frames that can be shown, with their times.

        Raises:
            MediaError: If libav has no decoder for the track, or the file cannot be read any further.
        """
        packets = self._packets()
        ahead = list(islice(packets, REORDER_PROBE))
        in_decoding_order = self._context.has_b_frames and _never_differ(ahead)
        stamps: list[int] = []
        for packet in chain(ahead, packets):
            if in_decoding_order and packet is not None and packet.pts is not None:
                heappush(stamps, packet.pts)
            try:
                frames = self._context.decode(packet)
            except av.error.DecoderNotFoundError as error:
                raise MediaError(f"there is no decoder for the video in {self._container.name}") from error
            except av.FFmpegError:
                self.damaged.append(self._last)
                if packet is not None and packet.pts in stamps:
                    stamps.remove(packet.pts)
                continue
            for frame in frames:
                pts = self._clock.time(heappop(stamps) if stamps else frame.pts)
                if frame.is_corrupt:
                    self.damaged.append(pts)
                if pts is not None:
                    self._last = pts
                    yield frame, pts

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """Yield the packets of the video, the last one empty: the decoder then gives what it held back."""
        try:
            for packet in self._container.demux():
                if packet.pts is not None and packet.time_base:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self.end = max(self.end, end)
                if packet.stream_index == self._stream.index and packet.size:
                    yield cast("Packet[VideoStream]", packet)
        except av.FFmpegError as error:
            if error.errno in UNREADABLE:
                raise MediaError(f"{self._container.name} cannot be read any further: {error.strerror}") from error
            self.damaged.append(self._last)
        yield None


def _never_differ(packets: Iterable[Packet[VideoStream] | None]) -> bool:
    """Say whether the times of showing are those of decoding, as broken muxers wrote them.

    Then they belong to the frames in the order in which they are shown, whatever packet they stand at.
    """
    stamps = [(packet.pts, packet.dts) for packet in packets if packet is not None]
    return len(stamps) > 1 and all(pts is not None and pts == dts for pts, dts in stamps)


def _context_for(stream: VideoStream) -> VideoCodecContext:
    """Give the decoder of a track: its own, or where it has transparency one that reads it."""
    own = stream.codec_context
    better = ALPHA_DECODERS.get(own.codec.canonical_name)
    if better is None or stream.metadata.get("alpha_mode") != "1" or better not in av.codecs_available:
        return own
    context = cast(VideoCodecContext, av.CodecContext.create(better, "r"))
    context.extradata = own.extradata
    return context


def deinterlaced(frames: Iterable[TimedPicture], *, only_flagged: bool) -> Iterator[TimedPicture]:
    """Make whole pictures of pairs of fields by libav's bwdif: one frame for each, at the same time.

    Args:
        frames: Decoded frames.
        only_flagged: Leave frames alone that the file does not call interlaced; else all are taken for interlaced.
    """
    waiting: deque[tuple[Fraction, int]] = deque()
    graph: av.filter.Graph | None = None
    kind: tuple[int, int, str] | None = None

    def pull() -> Iterator[TimedPicture]:
        while graph is not None and waiting:
            try:
                frame = graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            pts, duration = waiting.popleft()
            frame.duration = duration  # the filter halves the unit of time
            yield frame, pts

    for frame, pts in frames:
        if (frame.width, frame.height, frame.format.name) != kind:
            if graph is not None:
                graph.vpush(None)
                yield from pull()
            kind, graph = (frame.width, frame.height, frame.format.name), _bwdif(frame, only_flagged)
        waiting.append((pts, frame.duration))
        cast(av.filter.Graph, graph).vpush(frame)
        yield from pull()
    if graph is not None:
        graph.vpush(None)
        yield from pull()


def _bwdif(frame: av.VideoFrame, only_flagged: bool) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    which = "interlaced" if only_flagged else "all"
    bwdif = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph
