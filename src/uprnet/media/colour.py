"""One path between the YUV of a video and RGB arrays, for source frames and new frames alike.

Convention:
    RGB arrays are ``(H, W, 3)``, or ``(H, W, 4)`` with alpha that is not premultiplied, uint8 in 0..255 or uint16 in
    0..65535, full range, and keep the transfer curve of the source (no linear light). Tags are the code points of
    ITU-T H.273, which libav uses as they are.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import av.filter
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from uprnet.media.chroma import Plane, grow, shrink
from uprnet.media.pixel_format import Sampling, planar

RGB, BT709, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020_NCL, BT2020_CL = 0, 1, 4, 5, 6, 7, 9, 10
"""Matrix coefficients, ITU-T H.273 table 4."""

LIMITED, FULL = 1, 2
"""Range of the samples as libav counts it: 16..235 of 255, or 0..255."""

LEFT, CENTER, TOP_LEFT, TOP, BOTTOM_LEFT, BOTTOM = 1, 2, 3, 4, 5, 6
"""Locations of the chroma of 4:2:0 as libav counts them: ITU-T H.273, 8.7, plus 1."""

CHROMA_LOCATIONS = {
    LEFT: "left", CENTER: "center", TOP_LEFT: "topleft", TOP: "top", BOTTOM_LEFT: "bottomleft", BOTTOM: "bottom"
}  # fmt: skip
"""libav's names of the locations."""

_OFFSETS = {LEFT: (0, 0.5), CENTER: (0.5, 0.5), TOP_LEFT: (0, 0), TOP: (0.5, 0), BOTTOM_LEFT: (0, 1), BOTTOM: (0.5, 1)}
"""Where the first chroma sample lies, ``(x, y)`` in pixels of the luma."""

HD_WIDTH, HD_HEIGHT = 1280, 720
"""Untagged video of at least this width or height is BT.709, smaller is BT.601: what players assume."""

_LUMA_WEIGHTS = {
    BT709: (0.2126, 0.0722),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020_NCL: (0.2627, 0.0593),
    BT2020_CL: (0.2627, 0.0593),
}
"""Weights of red and blue in the luma of a matrix, ITU-T H.273 table 4."""

# libswscale only packs and unpacks samples here. Its matrices cost up to 0.7/255 of tint in full range, it takes white
# of 16-bit RGB for 65280, and fills up the lower bits of deep samples for some formats and not for others.
_REPACK = Interpolation.LANCZOS | 0x40000  # SWS_ACCURATE_RND of libswscale; PyAV has a name for it from 18 on only

Image = npt.NDArray[Any]
"""``(H, W, C)``, uint8 or uint16."""


@dataclass(frozen=True)
class ColourTags:
    """What a video says about its colours; kept as it is from source to output.

    Attributes:
        matrix: Matrix between RGB and YUV.
        primaries: Chromaticities of red, green, blue and white.
        transfer: Transfer curve.
        full_range: Whether samples use all values rather than 16..235.
        chroma_location: Where the chroma of 4:2:0 lies; of 4:2:2 only across counts.
    """

    matrix: int = BT709
    primaries: int = BT709
    transfer: int = BT709
    full_range: bool = False
    chroma_location: int = LEFT

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "ColourTags":
        """Read the tags of a decoded frame; those of an RGB frame say how it will be written: BT.709."""
        matrix, is_full = int(frame.colorspace), int(frame.color_range) == FULL
        primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
        if is_rgb(frame):
            return replace(cls(), primaries=primaries, transfer=transfer)
        is_full = is_full or frame.format.name.startswith("yuvj")
        return cls(matrix, primaries, transfer, is_full, _chroma_location(frame))

    @property
    def range(self) -> int:
        """The range as libav counts it."""
        return FULL if self.full_range else LIMITED

    def weights_for(self, height: int, width: int) -> tuple[float, float]:
        """Give the weights of red and blue in the luma; the size decides where there is no usable tag."""
        is_hd = height >= HD_HEIGHT or width >= HD_WIDTH
        return _LUMA_WEIGHTS.get(self.matrix, _LUMA_WEIGHTS[BT709 if is_hd else SMPTE170M])


class ColourConverter:
    """Convert between decoded frames and RGB arrays with matrix, range and chroma location of the tags, both ways.

    Args:
        tags: Colours of the YUV side.
        height: Height of the pictures as stored.
        width: Width of the pictures as stored.
    """

    def __init__(self, tags: ColourTags, height: int, width: int) -> None:
        self._tags = tags
        self._weights = tags.weights_for(height, width)
        self._size = (height, width)
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: av.VideoFrame) -> Image:
        """Convert a frame to RGB, uint8 for 8 bits and uint16 for more; another size is scaled to the first.

        Returns:
            ``(H, W, 3)``, or ``(H, W, 4)`` if the frame has alpha.
        """
        frame = self._planar(frame)
        sampling = Sampling.of(frame.format.name)
        planes = [_plane(frame, index) for index in range(len(frame.planes))]
        alpha = [_widen(planes[3], sampling.depth)] if sampling.has_alpha else []
        if sampling.chroma == "rgb":
            green, blue, red = (_widen(plane, sampling.depth) for plane in planes[:3])
            return np.asarray(cv2.merge([red, green, blue, *alpha]))
        location, halved = self._chroma(sampling)
        yuv = cv2.merge([planes[0], *(grow(plane, self._size, location, halved) for plane in planes[1:3])])
        to_rgb = np.linalg.inv(self._rgb_to_yuv(np.iinfo(planes[0].dtype).max, sampling.depth))
        image = _transformed(yuv, to_rgb)
        return np.asarray(cv2.merge([*cv2.split(image), *alpha]) if alpha else image)

    def from_rgb(self, image: Image, pixel_format: str) -> av.VideoFrame:
        """Convert an RGB array to a frame of ``pixel_format`` (see `can_write`) that carries the tags.

        The depth follows the format. Alpha is dropped where the format has none, and opaque where the image has none.
        """
        sampling = Sampling.of(pixel_format)
        image = with_bits(image, 16 if sampling.depth > 8 else 8)
        largest = np.iinfo(image.dtype).max
        if sampling.chroma == "rgb":
            red, green, blue = (_narrow(image[..., channel], sampling.depth) for channel in range(3))
            planes = [green, blue, red]
        else:
            matrix = self._rgb_to_yuv(largest, sampling.depth)
            location, halved = self._chroma(sampling)
            luma, *both = cv2.split(_transformed(image[..., :3], matrix))
            planes = [luma, *(shrink(plane, location, halved) for plane in both)]
        if sampling.has_alpha:
            alpha = image[..., 3] if image.shape[2] == 4 else np.full(self._size, largest, image.dtype)
            planes.append(_narrow(alpha, sampling.depth))
        frame = _frame_of(planes, self._size, planar(sampling))
        if pixel_format != frame.format.name:
            frame = self._reformatter.reformat(frame, format=pixel_format, interpolation=_REPACK)
        frame.colorspace, frame.color_range = self._tags.matrix, self._tags.range
        frame.color_primaries, frame.color_trc = self._tags.primaries, self._tags.transfer
        return frame

    def _chroma(self, sampling: Sampling) -> tuple[tuple[float, float], tuple[bool, bool]]:
        """Say where chroma lies and whether it has half the rows and columns."""
        return _OFFSETS[self._tags.chroma_location], (sampling.chroma == "420", sampling.chroma in ("420", "422"))

    def _rgb_to_yuv(self, top: int, depth: int) -> Any:
        """Give the matrix ``(4, 4)`` from ``(R, G, B, 1)`` in 0..``top`` to ``(Y, U, V, 1)`` of ``depth`` bits."""
        red, blue = self._weights
        luma = np.array([red, 1 - red - blue, blue])
        u = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
        v = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
        unit, largest = 2.0 ** (depth - 8), 2.0**depth - 1
        luma_span, chroma_span = (largest, largest) if self._tags.full_range else (219 * unit, 224 * unit)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([luma * luma_span, u * chroma_span, v * chroma_span]) / top
        matrix[:3, 3] = 0 if self._tags.full_range else 16 * unit, 128 * unit, 128 * unit
        return matrix

    def _planar(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Bring a frame to planes of the same samples, and to the first size."""
        height, width = self._size
        sampling, name = Sampling.of(frame.format.name), frame.format.name
        if not name.startswith("yuvj") or (frame.height, frame.width) != self._size:
            name = planar(sampling)
        if (frame.format.name, frame.height, frame.width) == (name, *self._size):
            return frame
        tagged = LIMITED if sampling.chroma == "rgb" else self._tags.range
        return self._reformatter.reformat(
            frame, width, height, name, interpolation=_REPACK, src_color_range=tagged, dst_color_range=tagged
        )


def depth_of(frame: av.VideoFrame) -> int:
    """Give the bits per sample of a frame; a palette counts as its colours, 8."""
    return Sampling.of(frame.format.name).depth


def is_rgb(frame: av.VideoFrame) -> bool:
    """Say whether the samples are red, green and blue (or indices of such colours) rather than YUV."""
    return Sampling.of(frame.format.name).chroma == "rgb"


def _plane(frame: av.VideoFrame, index: int) -> Plane:
    """Give the samples of a plane as a view, ``(h, w)``."""
    plane = frame.planes[index]
    samples = np.uint16 if depth_of(frame) > 8 else np.uint8
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
    return np.asarray(rows.view(samples)[:, : plane.width])


def _frame_of(planes: list[Plane], size: tuple[int, int], pixel_format: str) -> av.VideoFrame:
    frame = av.VideoFrame(size[1], size[0], pixel_format)
    for index, plane in enumerate(planes):
        _plane(frame, index)[:] = plane
    return frame


def _transformed(image: Image, matrix: Any) -> Image:
    """Apply a matrix ``(4, 4)`` to every ``(a, b, c, 1)``, rounded to the nearest and saturated."""
    if image.dtype == np.uint16:
        return np.asarray(cv2.transform(np.ascontiguousarray(image), matrix[:3]))
    # Of 8 bits OpenCV makes results that are 0.07 too large on average; of 16 bits right ones.
    return np.asarray(cv2.convertScaleAbs(cv2.transform(image.astype(np.uint16), matrix[:3])))


def brought_to(image: Image, depth: int, *, has_alpha: bool) -> Image:
    """Bring an image to the type of videos with ``depth`` bits, and add opaque alpha or drop it."""
    image = with_bits(image, 16 if depth > 8 else 8)
    if has_alpha and image.shape[2] == 3:
        return np.dstack((image, np.full(image.shape[:2], np.iinfo(image.dtype).max, image.dtype)))
    return image if has_alpha else np.ascontiguousarray(image[..., :3])


def with_bits(image: Image, bits: int) -> Image:
    """Bring an image to 8 or 16 bits per sample, rounded to the nearest: 65535 / 255 = 257."""
    if 8 * image.itemsize == bits:
        return image
    return image.astype(np.uint16) * 257 if bits == 16 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _widen(plane: Plane, depth: int) -> Plane:
    """Spread full-range samples of ``depth`` bits over all 8 or 16 bits of their type."""
    largest = np.iinfo(plane.dtype).max
    if largest == 2**depth - 1:
        return np.ascontiguousarray(plane)
    return np.asarray((plane.astype(np.uint32) * largest + 2 ** (depth - 1)) // (2**depth - 1), plane.dtype)


def _narrow(plane: Plane, depth: int) -> Plane:
    """Undo `_widen`."""
    largest = np.iinfo(plane.dtype).max
    if largest == 2**depth - 1:
        return plane
    return np.asarray((plane.astype(np.uint32) * (2**depth - 1) + largest // 2) // largest, plane.dtype)


def _chroma_location(frame: av.VideoFrame) -> int:
    """Find out where the chroma of a frame lies; what is not 4:2:0 counts as `LEFT`, as the standards have it.

    PyAV does not hand out this tag, but libswscale heeds it: in a copy of a corner of the frame chroma is made to
    rise by 16 a sample, and where it comes to lie is read from the full size.
    """
    size = 16
    sampling = Sampling.of(frame.format.name)
    if sampling.chroma != "420" or len(frame.format.components) < 3 or min(frame.width, frame.height) < size:
        return LEFT
    if not frame.format.name.startswith("yuvj"):
        frame = VideoReformatter().reformat(frame, format=planar(sampling))
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    corner = graph.add("crop", f"{size}:{size}:0:0")
    graph.link_nodes(source, corner, graph.add("copy"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    probe = graph.vpull()
    ramp = np.arange(size // 2) * 16 + 64
    _plane(probe, 1)[:], _plane(probe, 2)[:] = ramp[None], ramp[:, None]
    unit = 2 ** (depth_of(frame) - 8)
    _plane(probe, 1)[:] *= unit
    _plane(probe, 2)[:] *= unit
    everywhere = planar(replace(sampling, chroma="444"))
    full = VideoReformatter().reformat(probe, format=everywhere, interpolation=Interpolation.BILINEAR)
    middle = size // 2
    # At luma x the value is 64 + 16 * (x - location) / 2.
    x = middle - (float(_plane(full, 1)[middle, middle]) / unit - 64) / 8
    y = middle - (float(_plane(full, 2)[middle, middle]) / unit - 64) / 8
    return min(_OFFSETS, key=lambda location: abs(_OFFSETS[location][0] - x) + abs(_OFFSETS[location][1] - y))
