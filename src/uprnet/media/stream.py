"""What a file says about its video track: which it is, its rate, its colours, when it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from uprnet.errors import MediaError
from uprnet.media.clock import well_known
from uprnet.media.colour import CENTER, LEFT, ColourTags
from uprnet.media.hdr import HdrMetadata
from uprnet.media.pixel_format import Sampling
from uprnet.media.timeline import DEFAULT_RATE

UNSTAMPED_FORMATS = {"h264", "hevc", "m4v", "mpegvideo", "obu", "ivf", "yuv4mpegpipe", "rawvideo"}
"""Raw streams (libav's names): no time stamps or no true length; their declared length is a guess."""

WITHOUT_CENTER = ("av1", "vp8", "vp9")
"""Codecs that cannot say that chroma lies in the centre: libav takes those that say nothing for it, but nearly all such
videos were made of others, with chroma on the left."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself, checked against its first frame.

    Attributes:
        height: Height of a frame as it is given, in pixels.
        width: Width of a frame as it is given, in pixels.
        rate: Nominal frames per second; the average where the rate varies.
        tick: Seconds of which all frame times are whole multiples.
        start: Time of the first frame, in seconds.
        duration: Declared length in seconds; None if the file does not say.
        frames: Number of frames; an estimate unless the container counts them, None if nothing is known.
        codec: libav's name of the video codec.
        pixel_format: libav's name of the stored pixel format.
        depth: Bits per sample.
        has_alpha: Whether frames come with alpha as fourth channel, not premultiplied.
        colour: Colour tags.
        rotation: Degrees counterclockwise by which stored frames have to be turned to be upright: 0, 90, 180 or 270.
        sample_aspect: Width of a pixel over its height, of a frame as it is given.
        audio: libav's names of the codecs of the audio tracks.
        other_tracks: Kinds of the tracks that are neither the video nor audio, such as ``subtitle``.
        chroma: How colour is sampled, see `Sampling`; that of a folder is how a video of it is best stored.
        hdr: Metadata of high dynamic range.
        display_matrix: What turns and mirrors frames to be upright; empty if they are given so.
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
    chroma: str = "420"
    hdr: HdrMetadata | None = None
    display_matrix: tuple[int, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """What is stored of each pixel."""
        return Sampling(self.chroma, self.depth, self.has_alpha)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Give the first video track that is not the cover picture of a piece of music.

    Raises:
        MediaError: If there is none, or libav does not know its codec.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise MediaError(f"there is no decoder for the video in {path}")
            stream.thread_type = "AUTO"
            return stream
    raise MediaError(f"there is no video track in {path}")


def nominal_rate(container: InputContainer, stream: VideoStream) -> Fraction:
    """Give the rate that libav takes for the true one if the stamps bear it out, else the average."""
    average, guessed = stream.average_rate, stream.guessed_rate and well_known(stream.guessed_rate)
    if is_unstamped(container):
        return stream.codec_context.framerate or guessed or DEFAULT_RATE
    if not average or not guessed:
        return average or guessed or DEFAULT_RATE
    # Of a variable rate the guess is a common one nearby, or the resolution of the stamps.
    drift = abs(1 / average - 1 / guessed) * stream.frames
    is_near = abs(guessed / average - 1) < Fraction(1, 20)
    return guessed if is_near and drift <= (stream.time_base or 0) else average


def is_unstamped(container: InputContainer) -> bool:
    """Say whether it is a raw stream, without times of its own."""
    return not UNSTAMPED_FORMATS.isdisjoint(container.format.name.split(","))


def declared_end(container: InputContainer) -> Fraction | None:
    """Give the time at which the file says it ends; None if it does not or only guesses."""
    if not container.duration or is_unstamped(container):
        return None
    # Matroska counts the length of a file from time 0, the others from its first time stamp.
    start = 0 if "matroska" in container.format.name else container.start_time or 0
    return Fraction(start + container.duration, av.time_base)


def colour_of(frame: av.VideoFrame, codec: str) -> ColourTags:
    """Read the colour tags of a decoded frame, with the chroma location that its codec implies.

    Args:
        frame: Decoded frame.
        codec: libav's name of the codec.
    """
    tags = ColourTags.of(frame)
    if codec in WITHOUT_CENTER and tags.chroma_location == CENTER:
        return replace(tags, chroma_location=LEFT)
    if codec == "mjpeg" and Sampling.of(frame.format.name).chroma == "422":
        return replace(tags, chroma_location=CENTER)  # ITU-T T.871 (JFIF), unlike all other 4:2:2
    return tags
