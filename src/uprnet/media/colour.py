"""One path between the YUV of a video and RGB arrays, for source frames and new frames alike.

Convention:
    RGB arrays are ``(H, W, 3)``, uint8 in 0..255 or uint16 in 0..65535, full range, and keep the transfer curve
    of the source (no linear light). Tags are the code points of ITU-T H.273, which libav uses as they are.
"""

import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import av.filter
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

RGB, BT709, UNSPECIFIED, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020_NCL, BT2020_CL = 0, 1, 2, 4, 5, 6, 7, 9, 10
"""Matrix coefficients, ITU-T H.273 table 4; UNSPECIFIED is the same number for primaries and transfer."""

LIMITED, FULL = 1, 2
"""Range of the samples as libav counts it: 16..235 of 255, or 0..255."""

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

# libswscale only resizes the chroma here: Lanczos both ways comes closest to a round trip without loss. Its own
# matrices cost up to 0.7/255 of tint in full range, and its white of 16-bit RGB is 65280.
_ACCURATE_ROUNDING = 0x40000  # SWS_ACCURATE_RND of libswscale; PyAV has a name for it from 18 on only
_RESIZE = Interpolation.LANCZOS | _ACCURATE_ROUNDING

_NATIVE = "le" if sys.byteorder == "little" else "be"

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
    """

    matrix: int = BT709
    primaries: int = BT709
    transfer: int = BT709
    full_range: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "ColourTags":
        """Read the tags of a decoded frame; those of an RGB frame say how it will be written: BT.709."""
        matrix, is_full = int(frame.colorspace), int(frame.color_range) == FULL
        primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
        if is_rgb(frame):
            return replace(cls(), primaries=primaries, transfer=transfer)
        return cls(matrix, primaries, transfer, is_full or frame.format.name.startswith("yuvj"))

    @property
    def range(self) -> int:
        """The range as libav counts it."""
        return FULL if self.full_range else LIMITED

    def weights_for(self, height: int, width: int) -> tuple[float, float]:
        """Give the weights of red and blue in the luma; the size decides where there is no usable tag."""
        is_hd = height >= HD_HEIGHT or width >= HD_WIDTH
        return _LUMA_WEIGHTS.get(self.matrix, _LUMA_WEIGHTS[BT709 if is_hd else SMPTE170M])


class ColourConverter:
    """Convert between decoded frames and RGB arrays with the matrix and range of the tags, both ways.

    Args:
        tags: Colours of the YUV side.
        height: Height of the pictures as stored.
        width: Width of the pictures as stored.
    """

    def __init__(self, tags: ColourTags, height: int, width: int) -> None:
        self._tags = tags
        self._weights = tags.weights_for(height, width)
        self._size = (height, width)
        self._to_444, self._from_444 = _Resizer(tags), _Resizer(tags)

    def to_rgb(self, frame: av.VideoFrame) -> Image:
        """Convert a frame to RGB, uint8 for 8 bits and uint16 for more; another size is scaled to the first."""
        depth = depth_of(frame)
        if is_rgb(frame):
            pixel_format = "rgb24" if depth == 8 else f"rgb48{_NATIVE}"
            return np.ascontiguousarray(self._to_444.resize(frame, *self._size, pixel_format).to_ndarray())
        pixel_format = "yuv444p" if depth == 8 else f"yuv444p16{_NATIVE}"
        yuv = self._to_444.resize(frame, *self._size, pixel_format).to_ndarray(channel_last=True)
        matrix = np.linalg.inv(self._rgb_to_yuv(8 * yuv.itemsize, depth))
        return np.asarray(cv2.transform(np.ascontiguousarray(yuv), matrix[:3]))

    def from_rgb(self, image: Image, pixel_format: str) -> av.VideoFrame:
        """Convert an RGB array to a frame of ``pixel_format``, a planar YUV one, that carries the tags."""
        is_deep = image.dtype == np.uint16
        depth = max(part.bits for part in av.VideoFormat(pixel_format).components) if is_deep else 8
        matrix = self._rgb_to_yuv(16 if is_deep else 8, depth)
        yuv: Any = cv2.transform(np.ascontiguousarray(image), matrix[:3])
        full = av.VideoFrame.from_ndarray(
            yuv, format=f"yuv444p16{_NATIVE}" if is_deep else "yuv444p", channel_last=True
        )
        frame = self._from_444.resize(full, *self._size, pixel_format)
        frame.colorspace, frame.color_range = self._tags.matrix, self._tags.range
        frame.color_primaries, frame.color_trc = self._tags.primaries, self._tags.transfer
        return frame

    def _rgb_to_yuv(self, bits: int, depth: int) -> Any:
        """Give the matrix ``(4, 4)`` from ``(R, G, B, 1)`` to ``(Y, U, V, 1)``, both counted in ``bits`` bits.

        YUV of ``depth`` bits is stored shifted to the top of its ``bits``, so its steps are 2 ** (bits - depth).
        """
        red, blue = self._weights
        luma = np.array([red, 1 - red - blue, blue])
        u = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
        v = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
        unit = 2.0 ** (bits - 8)
        largest = (2**depth - 1) * 2.0 ** (bits - depth)
        luma_span, chroma_span = (largest, largest) if self._tags.full_range else (219 * unit, 224 * unit)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([luma * luma_span, u * chroma_span, v * chroma_span]) / (2**bits - 1)
        matrix[:3, 3] = 0 if self._tags.full_range else 16 * unit, 128 * unit, 128 * unit
        return matrix


class _Resizer:
    """Change pixel format and size of frames, but neither matrix nor range.

    All 4:2:0 chroma is taken to lie on the left, as in nearly all video: what matters is that both directions
    agree, which libswscale would not ensure, since only decoded frames carry a location.
    """

    def __init__(self, tags: ColourTags) -> None:
        self._range = tags.range
        self._reformatter = VideoReformatter()
        self._kind: tuple[int, int, str] | None = None

    def resize(self, frame: av.VideoFrame, height: int, width: int, pixel_format: str) -> av.VideoFrame:
        if is_rgb(frame):
            return self._reformatter.reformat(frame, width, height, pixel_format, interpolation=_RESIZE)
        return self._reformatter.reformat(
            self._left_sited(frame),
            width,
            height,
            pixel_format,
            interpolation=_RESIZE,
            src_color_range=self._range,
            dst_color_range=self._range,
        )

    def _left_sited(self, frame: av.VideoFrame) -> av.VideoFrame:
        kind = frame.width, frame.height, frame.format.name
        if kind != self._kind:
            self._kind, self._graph = kind, av.filter.Graph()
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            sited = self._graph.add("setparams", "chroma_location=left")
            self._graph.link_nodes(source, sited, self._graph.add("buffersink")).configure()
        self._graph.vpush(frame)
        return self._graph.vpull()


def depth_of(frame: av.VideoFrame) -> int:
    """Give the bits per sample of a frame; a palette counts as its colours, 8."""
    return 8 if frame.format.has_palette else max(part.bits for part in frame.format.components)


def is_rgb(frame: av.VideoFrame) -> bool:
    """Say whether the samples are red, green and blue (or indices of such colours) rather than YUV."""
    return bool(frame.format.is_rgb or frame.format.has_palette)
