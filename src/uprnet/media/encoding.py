"""Choose codec, pixel format and options of a video, and refuse what cannot work before any frame is made.

Defaults are visually lossless and keep what the source has:

======  ===========================================================================================
.mp4    H.264 for 8 bits; H.265 for 10 and 12 bits and for RGB
.mkv    the same; FFV1, lossless, for more than 12 bits and where there is transparency
.mov    the same; ProRes for more than 8 bits in 4:2:2 and up, for RGB and where there is transparency
.webm   VP9, with transparency; AV1 for more than 8 bits where the VP9 encoder has 8 bits only
======  ===========================================================================================
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from io import BytesIO

import av
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.codecs import ENCODERS, EVEN_ONLY, LOCATIONS, MERGED, OPTIONS, RANGES, SAYS_ASPECT
from uprnet.media.colour import CHROMA_LOCATIONS, FULL, LEFT, RGB, ColourTags
from uprnet.media.hdr import HdrMetadata
from uprnet.media.output import CONTAINERS
from uprnet.media.pixel_format import Sampling, can_write, losses, nearest
from uprnet.media.stream import VideoInfo
from uprnet.media.timeline import MAX_TIME_SCALE

WITH_ALPHA = ".mov (ProRes), .mkv (FFV1), .webm (VP9)"


@dataclass(frozen=True)
class EncoderSettings:
    """What the user asks of the encoder; None leaves the choice to `choose_encoding`.

    Attributes:
        codec: Codec or encoder: h264, hevc, vp9, av1, prores, ffv1, png, ..., or libav's name of any encoder.
        crf: Constant rate factor: smaller is better and larger. What it means depends on the encoder.
        preset: Speed against size, in the words of the encoder.
        pix_fmt: libav's name of the pixel format to store.
        options: Any further options of the encoder, passed on as they are.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PictureFormat:
    """What the frames of an output are, before it is known how they will be stored.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        rate: Frames per second, on average if it varies; encoders plan with it.
        tick: Seconds of which all times are whole multiples.
        colour: Colour tags.
        sampling: Chroma, bits and transparency of the source.
        sample_aspect: Width of a pixel over its height.
        hdr: Metadata of high dynamic range.
        display_matrix: How players have to turn and mirror the frames; empty for not at all.
    """

    height: int
    width: int
    rate: Fraction
    tick: Fraction
    colour: ColourTags = field(default_factory=ColourTags)
    sampling: Sampling = field(default_factory=Sampling)
    sample_aspect: Fraction = Fraction(1)
    hdr: HdrMetadata | None = None
    display_matrix: tuple[int, ...] = ()

    @classmethod
    def of(cls, info: VideoInfo, rate: Fraction, tick: Fraction) -> PictureFormat:
        """Describe an output that is like a source but for its times.

        Raises:
            InvalidInputError: If there are more frames a second than libav can count.
        """
        if rate > MAX_TIME_SCALE:
            raise InvalidInputError(f"at most {MAX_TIME_SCALE} frames a second can be stored, got {float(rate):g}")
        largest = max(rate.numerator, rate.denominator)
        if largest > MAX_TIME_SCALE:  # libav's fractions have 31 bits; an average rate may have more
            rate = rate.limit_denominator(max(1, math.floor(rate.denominator * MAX_TIME_SCALE / largest)))
        return cls(
            info.height,
            info.width,
            rate,
            tick,
            info.colour,
            info.sampling,
            info.sample_aspect,
            info.hdr,
            info.display_matrix,
        )


@dataclass(frozen=True)
class Encoding:
    """All that decides, besides the frames and their `PictureFormat`, which bytes an encoder gives.

    Attributes:
        codec: libav's name of the encoder.
        pix_fmt: libav's name of the pixel format.
        options: Options of the encoder.
        colour: Colour tags as they are written: those of the source as far as the stream can say them.
        codec_tag: Name of the codec in the container, where the usual one is not the best; empty for the usual one.
        warnings: What of the source is not kept, one line each.
    """

    codec: str
    pix_fmt: str
    options: tuple[tuple[str, str], ...]
    colour: ColourTags
    codec_tag: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """What is stored of each pixel."""
        return Sampling.of(self.pix_fmt)

    @property
    def has_alpha(self) -> bool:
        """Whether transparency is stored."""
        return self.sampling.has_alpha


def choose_encoding(container_ending: str, picture: PictureFormat, settings: EncoderSettings | None = None) -> Encoding:
    """Choose how to store ``picture`` in a container, and try whether the encoder takes it.

    Args:
        container_ending: Ending of the output file, one of `uprnet.media.output.CONTAINERS`.
        picture: What the frames are.
        settings: What the user asks for.

    Raises:
        MediaError: If the encoder is unknown or does not know an option, the container cannot hold it, or it
            cannot store the size or the pixel format.

    Example:
        >>> choose_encoding(".mp4", PictureFormat(48, 64, Fraction(25), Fraction(1, 25))).codec
        'libx264'
    """
    settings, ending = settings or EncoderSettings(), container_ending.lower()
    codec = _encoder(settings.codec) if settings.codec else _default_encoder(ending, picture.sampling)
    _check_container(codec, ending)
    candidates = _pixel_formats(codec, picture, settings.pix_fmt)
    refused: MediaError | None = None
    for pix_fmt in candidates:
        encoding = _encoding(codec, pix_fmt, ending, picture, settings)
        try:
            _try(encoding, picture, settings)
        except MediaError as error:
            refused = refused or error
        else:
            return encoding
    raise refused or MediaError(f"{codec} has no pixel format that frames can be made for; h264 or ffv1 have")


def _encoding(codec: str, pix_fmt: str, ending: str, picture: PictureFormat, settings: EncoderSettings) -> Encoding:
    """Put together how a pixel format is encoded and what of the source is not kept."""
    have, container = Sampling.of(pix_fmt), CONTAINERS[ending]
    warnings = []
    lost = losses(picture.sampling, have)
    if lost:
        advice = f"; {WITH_ALPHA} keep it" if "transparency is dropped" in lost else ""
        warnings.append(f"{codec} stores {pix_fmt}: {', '.join(lost)}{advice}")
    if settings.pix_fmt is None and _needs_444(codec, picture) and have.chroma == "444":
        size = f"{picture.width}x{picture.height}"
        warnings.append(f"{size} is odd, so the video is 4:4:4, which not every player shows; .webm need not")
    if picture.sample_aspect != 1 and container in ("matroska", "webm") and codec not in SAYS_ASPECT:
        aspect = f"{picture.sample_aspect.numerator}:{picture.sample_aspect.denominator}"
        warnings.append(f"{codec} in {ending} cannot say that pixels are {aspect}: players show squares; .mp4 can")
    options = _options(codec, have, settings)
    if picture.hdr is not None:
        option = picture.hdr.option(codec)
        if option is None:
            warnings.append(
                f"{codec} cannot store mastering display and light level, they are dropped; hevc keeps them"
            )
        else:
            options[option[0]] = ":".join(filter(None, (option[1], options.get(option[0], ""))))
    tag = "hvc1" if codec == "libx265" and container in ("mp4", "mov") else ""  # what Apple's players ask for
    colour = _colour(codec, have, picture.colour)
    return Encoding(codec, pix_fmt, tuple(sorted(options.items())), colour, tag, tuple(warnings))


def _colour(codec: str, sampling: Sampling, source: ColourTags) -> ColourTags:
    """Give the colour tags of the source as far as a stream can say them."""
    if sampling.chroma == "rgb":
        return replace(source, matrix=RGB, full_range=True)
    places = LOCATIONS.get(codec, (LEFT, *CHROMA_LOCATIONS))
    if sampling.chroma != "420":
        places = places[:1]  # only for 4:2:0 there is a choice
    place = source.chroma_location if source.chroma_location in places else places[0]
    is_full = RANGES.get(codec, source.range) == FULL
    return replace(source, full_range=is_full, chroma_location=place)


def configure(context: VideoCodecContext, encoding: Encoding, picture: PictureFormat) -> None:
    """Tell an encoder that is not open yet everything but its options (`encoder_options`)."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes all its settings to standard error otherwise
    context.width, context.height, context.pix_fmt = picture.width, picture.height, encoding.pix_fmt
    context.time_base, context.framerate = picture.tick, picture.rate
    context.sample_aspect_ratio = picture.sample_aspect
    colour = encoding.colour
    context.colorspace, context.color_range = colour.matrix, colour.range
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    if encoding.codec_tag:
        context.codec_tag = encoding.codec_tag


def encoder_options(encoding: Encoding) -> dict[str, str]:
    """Give the options with which an encoder is opened."""
    options = dict(encoding.options)
    if encoding.sampling.chroma == "420":
        options["chroma_sample_location"] = CHROMA_LOCATIONS[encoding.colour.chroma_location]
    return options


def _encoder(name: str) -> str:
    """Give libav's encoder for the name of a codec or encoder."""
    candidates = ENCODERS.get(name.lower(), (name,))
    for candidate in candidates:
        try:
            codec = av.Codec(candidate, "w")
        except UnknownCodecError:
            continue
        if codec.type == "video":
            return codec.name
    known = ", ".join(sorted(ENCODERS))
    raise MediaError(f"there is no video encoder {name} here; {known}, ffv1, png or an encoder of libav is needed")


def _default_encoder(ending: str, sampling: Sampling) -> str:
    is_rgb, is_deep = sampling.chroma == "rgb", sampling.depth > 8
    container = CONTAINERS[ending]
    if container == "webm":
        if is_deep and not sampling.has_alpha and not any("10" in name for name in _formats("libvpx-vp9")):
            return _encoder("av1")
        return _encoder("vp9")
    if container == "mov" and (sampling.has_alpha or is_rgb or (is_deep and sampling.chroma != "420")):
        return _encoder("prores")
    if container == "matroska" and (sampling.has_alpha or sampling.depth > 12):
        return _encoder("ffv1")
    return _encoder("hevc" if is_deep or is_rgb else "h264")


def _check_container(codec: str, ending: str) -> None:
    if codec not in _codecs_of(CONTAINERS[ending]):
        others = [other for other, container in CONTAINERS.items() if codec in _codecs_of(container)]
        advice = f"; these can: {', '.join(others)}" if others else ""
        raise MediaError(f"{ending} cannot hold {av.Codec(codec, 'w').canonical_name} video{advice}")


def _pixel_formats(codec: str, picture: PictureFormat, asked: str | None) -> list[str]:
    """Give the pixel format that is asked for, or those of the encoder, the nearest to the source first."""
    known = _formats(codec)
    if asked is not None:
        if asked not in known:
            raise MediaError(f"{codec} cannot store {asked}; it has {', '.join(known)}")
        if _needs_444(codec, replace(picture, sampling=Sampling.of(asked))):
            size = f"{picture.width}x{picture.height}"
            raise MediaError(f"{codec} needs an even size for {asked}, got {size}; a 4:4:4 format or .webm need not")
        return [asked]
    if codec == "libx265":  # its transparency is a second layer that few players know: only where it is asked for
        known = tuple(name for name in known if not Sampling.of(name).has_alpha)
    wanted = replace(picture.sampling, chroma="444") if _needs_444(codec, picture) else picture.sampling
    return nearest(known, wanted)


def _needs_444(codec: str, picture: PictureFormat) -> bool:
    """Say whether chroma cannot be halved because the size is odd."""
    is_odd_down, is_odd_across = picture.height % 2 == 1, picture.width % 2 == 1
    halves = {"420": is_odd_down or is_odd_across, "422": is_odd_across}
    return codec in EVEN_ONLY and halves.get(picture.sampling.chroma, False)


def _options(codec: str, sampling: Sampling, settings: EncoderSettings) -> dict[str, str]:
    options = dict(OPTIONS.get(codec, {}))
    if codec == "prores_ks" and sampling.chroma == "444":
        options["profile"] = "4444"
    if settings.crf is not None:
        options["crf"] = f"{settings.crf:g}"
    if settings.preset is not None:
        options["preset"] = settings.preset
    for name, value in settings.options.items():
        joined = name in MERGED and name in options
        options[name] = f"{options[name]}:{value}" if joined else value
    return options


def _try(encoding: Encoding, picture: PictureFormat, settings: EncoderSettings) -> None:
    """Open the encoder once, so that what cannot work fails before any frame is made."""
    context = av.CodecContext.create(encoding.codec, "w")
    assert isinstance(context, VideoCodecContext)
    configure(context, encoding, picture)
    context.options = encoder_options(encoding)
    try:
        context.open()
    except (av.FFmpegError, ValueError, OverflowError) as error:
        asked = {"crf": settings.crf, "preset": settings.preset, **settings.options}
        said = ", ".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        what = f"{picture.width}x{picture.height} {encoding.pix_fmt}{' with ' if said else ''}{said}"
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{encoding.codec} does not accept {what} ({reason})") from error
    unknown = [name for name in context.options if name in dict(encoding.options)]
    if unknown:
        raise MediaError(
            f"{encoding.codec} does not know the option {unknown[0]}; see `ffmpeg -h encoder={encoding.codec}`"
        )


@cache
def _formats(codec: str) -> tuple[str, ...]:
    formats = av.Codec(codec, "w").video_formats or []
    return tuple(layout.name for layout in formats if can_write(layout.name) and not layout.name.startswith("yuvj"))


@cache
def _codecs_of(container: str) -> frozenset[str]:
    with av.open(BytesIO(), "w", format=container) as probe:
        return frozenset(probe.supported_codecs)
