"""Join pieces of encoded video and what is copied from the source into one file that appears when complete.

Pieces are independent: each begins with a key frame, and an encoder of its own gave its packets decoding times. These
are made anew here for the whole track, so that they increase strictly and never lie after the time of showing,
whatever the frame rate does.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import merge
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import Flags
from av.video.stream import VideoStream

from uprnet.errors import MediaError
from uprnet.media.copying import TimedPacket, TrackCopy
from uprnet.media.encoder import Segment, add_track
from uprnet.media.encoding import Encoding, PictureFormat
from uprnet.media.output import CONTAINERS, check_file, complete_file
from uprnet.media.timeline import MAX_TIME_SCALE
from uprnet.media.tracks import TrackPlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timetable:
    """Times of all packets of the video track, in the order in which they are decoded.

    Attributes:
        tick: Seconds per unit of the times.
        pts: When each is shown.
        dts: When each is decoded: strictly increasing, at or before ``pts``.
        duration: How long each is shown.
    """

    tick: Fraction
    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pts: Sequence[int] | npt.NDArray[np.int64], tick: Fraction, rate: Fraction, end: int) -> "Timetable":
        """Make the times of a track whose packets are decoded in the order of ``pts``, until ``end``.

        The frame that is shown k-th is decoded when the one is shown that comes ``depth`` frames earlier, where
        ``depth`` is how far a packet is at most ahead of its turn. The first ones get times before the start.

        Raises:
            MediaError: If two packets are shown at the same time.
        """
        shown = np.asarray(pts, np.int64)
        order = np.argsort(shown, kind="stable")
        turns = np.empty_like(order)
        turns[order] = np.arange(len(shown))
        times = shown[order]
        durations = np.diff(times, append=max(end, int(times[-1]) + 1))
        if durations.min() <= 0:
            raise MediaError(f"two frames are shown at {float(times[np.argmin(durations)] * tick):.3f} s")
        depth = int((np.arange(len(shown)) - turns).max())
        # MP4 adds up the distances of decoding times to the length of a track, which must be how long its frames are
        # shown: so the lead must fit between the last decoding time and the last frame, and that time is not earlier.
        step = min(max(1, round(1 / (rate * tick))), int(times[-1] - times[-1 - depth]) // max(depth, 1))
        lead = times[0] - step * np.arange(depth, 0, -1)
        decoded = np.concatenate([lead, times[: len(times) - depth]])
        decoded[-1] = max(decoded[-1], shown[-1] - step * depth)
        return cls(tick, shown, decoded, durations[turns])

    def moved(self, by: int) -> "Timetable":
        """Give the same times, ``by`` ticks later."""
        return replace(self, pts=self.pts + by, dts=self.dts + by)

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def start(self) -> int:
        """When the first frame is shown."""
        return int(self.pts.min())

    @property
    def end(self) -> int:
        """When the last frame is no longer shown."""
        return int((self.pts + self.duration).max())


def join(
    segments: Sequence[Path],
    output: Path,
    *,
    picture: PictureFormat,
    encoding: Encoding,
    tracks: TrackPlan | None = None,
    end: Fraction | None = None,
    overwrite: bool = False,
) -> None:
    """Write one video file of the pieces in ``segments`` and the copied tracks of ``tracks``.

    Where the first frame has a time before 0, all times are moved so that it comes to 0.

    The same pieces and the same source give the same bytes. Memory holds a few packets, and 24 bytes for each frame.

    Args:
        segments: Pieces of one video track as `SegmentEncoder` writes them, in order of time.
        output: File to write; the ending chooses the container.
        picture: What the frames are.
        encoding: How they were encoded.
        tracks: What goes along; None for nothing.
        end: Until when the last frame is shown, in seconds; None for as long as its segment says.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        OutputExistsError: If the file is there and ``overwrite`` is False.
        MediaError: If pieces do not fit together, a source or piece cannot be read, or the disk is full.
    """
    check_file(output, CONTAINERS, overwrite)
    if not segments:
        raise MediaError(f"there is nothing to write to {output}")
    plan = tracks or TrackPlan()
    pieces = [Segment(path) for path in segments]
    times = _timetable(pieces, picture, end)
    form = CONTAINERS[output.suffix.lower()]
    with ExitStack() as stack:
        hidden = stack.enter_context(complete_file(output, overwrite))
        origin = times.start * times.tick
        if origin < 0:  # players cut off what comes before 0
            plan, times = replace(plan, start=origin if plan.start is None else plan.start), times.moved(-times.start)
            origin = Fraction(0)
        copy = plan.source and stack.enter_context(TrackCopy(plan, plan.source, origin))
        options = _options(form, [picture.tick, *(copy.ticks if copy else [])], plan)
        container = stack.enter_context(av.open(f"file:{hidden}", "w", format=form, options=options))
        container.flags |= Flags.bitexact.value  # no version of libav and no random numbers in the file
        if copy:
            copy.add_tracks(container, before_picture=True)
        video = add_track(container, encoding, picture)
        if copy:
            copy.add_tracks(container, before_picture=False)
            copy.describe(container, video)
        container.start_encoding()
        if video.codec_context.extradata != pieces[0].extradata and pieces[0].extradata:
            raise MediaError(f"{segments[0]} was made with other settings than those of {output}; start afresh")
        packets = [_video_packets(pieces, times, video, form), *([copy.packets()] if copy else [])]
        for _, packet in merge(*packets, key=lambda timed: timed[0]):
            container.mux(packet)
        container.close()


def _timetable(pieces: Sequence[Segment], picture: PictureFormat, end: Fraction | None) -> Timetable:
    """Read the times of all packets, and check that the pieces are of one kind."""
    if len({(piece.tick, piece.extradata) for piece in pieces}) > 1:
        raise MediaError("the segments were made with different settings; start afresh")
    times = np.concatenate([np.array(piece.times(), np.int64).reshape(-1, 2) for piece in pieces])
    if not len(times):
        raise MediaError("the segments hold no frames")
    until = int(times.sum(1).max()) if end is None else round(end / picture.tick)
    return Timetable.of(times[:, 0], picture.tick, picture.rate, until)


def _options(form: str, ticks: Iterable[Fraction], plan: TrackPlan) -> dict[str, str]:
    if form not in ("mp4", "mov"):
        return {}
    # Edit lists say when the first frame is shown; they count in this unit, so it should fit every track.
    scale = 1
    for tick in ticks:
        common = math.lcm(scale, tick.denominator)
        scale = common if common <= MAX_TIME_SCALE else scale
    # The index moves to the front when the file is finished: players can start before they have all of it.
    flags = "+faststart" + "+use_metadata_tags" * plan.has_free_metadata
    return {"movflags": flags, "movie_timescale": str(scale)}


def _video_packets(pieces: Sequence[Segment], times: Timetable, video: VideoStream, form: str) -> Iterator[TimedPacket]:
    last = len(times) - 1
    for number, packet in enumerate(packet for piece in pieces for packet in piece.packets()):
        packet.stream, packet.time_base = video, times.tick
        packet.pts, packet.dts = int(times.pts[number]), int(times.dts[number])
        packet.duration = int(times.duration[number])
        if number == last and form in ("mp4", "mov"):
            packet.duration = times.end - times.start - int(times.dts[-1] - times.dts[0])
        yield packet.dts * times.tick, packet
