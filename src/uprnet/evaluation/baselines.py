"""What somebody would use instead of the network: the frame again, a blend, classical flow, ffmpeg's filter.

Convention:
    Methods take frames ``(B, 3, H, W)`` RGB in [0, 1] and times in (0, 1), and give one prediction per time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import av.filter
import cv2
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from uprnet.errors import InvalidInputError, MissingDependencyError
from uprnet.media.colour import Image, with_bits
from uprnet.network.ops import splat_average

FILTER = "minterpolate"
FILTER_OPTIONS = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
"""The best that ffmpeg's filter has: motion compensation, overlapped blocks of variable size, search both ways.

Reference:
    https://ffmpeg.org/ffmpeg-filters.html#minterpolate
"""

FILTER_BLOCK = 32
"""Pixels that a frame of the filter needs, high and wide: its largest blocks are that large."""


def repeat(img0: Tensor, img1: Tensor, times: Sequence[float]) -> list[Tensor]:
    """Show the nearer frame again, the first at ``t = 0.5``."""
    return [img0 if t <= 0.5 else img1 for t in times]


def blend(img0: Tensor, img1: Tensor, times: Sequence[float]) -> list[Tensor]:
    """Fade from the first frame to the second."""
    return [(1 - t) * img0 + t * img1 for t in times]


def dis_flow(img0: Tensor, img1: Tensor, times: Sequence[float]) -> list[Tensor]:
    """Move both frames along OpenCV's DIS optical flow by average splatting, and blend them.

    Where one of them leaves a hole the other serves, and where both do, the plain blend.

    Reference:
        Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """
    flow_01, flow_10 = _flows(img0, img1), _flows(img1, img0)
    ones = torch.ones_like(img0[:, :1])
    sources = torch.cat([img0, ones], dim=1), torch.cat([img1, ones], dim=1)
    frames = []
    for t in times:
        warped0 = splat_average(sources[0], t * flow_01)
        warped1 = splat_average(sources[1], (1 - t) * flow_10)
        weight0, weight1 = (1 - t) * warped0[:, 3:], t * warped1[:, 3:]
        weights = weight0 + weight1
        merged = (warped0[:, :3] * weight0 + warped1[:, :3] * weight1) / torch.where(weights == 0, 1, weights)
        frames.append(torch.where(weights == 0, (1 - t) * img0 + t * img1, merged))
    return frames


class Minterpolate:
    """ffmpeg's ``minterpolate`` filter, run inside the process by libavfilter.

    It sees a video, not pairs: the frames between two come when the one after them was given, so those between the
    last two never come.

    Args:
        height: Height of the frames, in pixels.
        width: Width of the frames, in pixels.
        factor: Frames after per frame before.

    Raises:
        InvalidInputError: If a frame is smaller than the filter's blocks.
        MissingDependencyError: If libavfilter was built without it.
    """

    def __init__(self, height: int, width: int, factor: int) -> None:
        if not has_minterpolate():
            raise MissingDependencyError(f"the filter {FILTER} is not in the libavfilter of PyAV {av.__version__}")
        if min(height, width) < FILTER_BLOCK:
            raise InvalidInputError(f"{FILTER} needs {FILTER_BLOCK} x {FILTER_BLOCK} pixels, got {height} x {width}")
        self._factor, self._count = factor, 0
        self._graph = av.filter.Graph()
        source = self._graph.add(
            "buffer",
            f"video_size={width}x{height}:pix_fmt=yuvj444p:time_base=1/1:frame_rate=1/1:pixel_aspect=1/1"
            ":range=full:colorspace=smpte170m",
        )
        interpolate = self._graph.add(FILTER, f"fps={factor}:{FILTER_OPTIONS}")
        sink = self._graph.add("buffersink")
        source.link_to(interpolate)
        interpolate.link_to(sink)
        self._graph.configure()

    def push(self, image: Image) -> dict[int, Image]:
        """Give the next frame, ``(H, W, 3)``; get the frames that are ready, by their number in the new video."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(with_bits(image, 8)), "rgb24")
        # No chroma is lost and the range is full, so that the conversion costs next to nothing.
        frame = frame.reformat(format="yuvj444p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.JPEG)
        frame.pts, frame.time_base = self._count, Fraction(1)
        self._count += 1
        self._graph.vpush(frame)
        return dict(self._ready())

    def _ready(self) -> Iterator[tuple[int, Image]]:
        while True:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert frame.pts is not None  # the filter stamps what it makes
            assert frame.time_base is not None
            yield round(frame.pts * frame.time_base * self._factor), frame.to_ndarray(format="rgb24")


def has_minterpolate() -> bool:
    """Whether libavfilter has the filter."""
    return FILTER in av.filter.filters_available


def _flows(img0: Tensor, img1: Tensor) -> Tensor:
    """DIS flow of each pair of the batch, ``(B, 2, H, W)`` in pixels."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = img0.shape[-2:]
    flows = [
        search.calc(_grey(first), _grey(second), np.zeros((height, width, 2), np.float32))
        for first, second in zip(img0, img1, strict=True)
    ]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(img0)


def _grey(image: Tensor) -> Image:
    pixels = (image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY))
