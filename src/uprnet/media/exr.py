"""OpenEXR images by libav, whose reader and writer are in every PyAV; OpenCV's are left out of its packages."""

from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.packet import Packet

from uprnet.media.colour import Image

_SAMPLES = {"f16": np.float16, "f32": np.float32}
"""Types of samples by the end of libav's names of pixel formats (gbrpf32le); uint32 is not among them."""


def decode_exr(data: bytes) -> Image | None:
    """Decode to ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``, RGB(A), float16 or float32; None if that does not work."""
    decoder = av.CodecContext.create("exr", "r")
    decoder.thread_count = 1
    try:
        frames = [*decoder.decode(cast(Any, Packet(data))), *decoder.decode(None)]
    except av.FFmpegError:
        return None
    kind = next((kind for name, kind in _SAMPLES.items() if frames and name in frames[0].format.name), None)
    if kind is None:
        return None
    frame = frames[0]
    planes = [
        np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width]  # type: ignore[call-overload]
        for plane in frame.planes
    ]
    if len(planes) == 1:
        return np.array(planes[0])
    order = [2, 0, 1, 3][: len(planes)]  # libav keeps green, blue, red, alpha
    return np.array(np.stack([planes[index] for index in order], axis=-1))


def encode_exr(pixels: Image) -> bytes:
    """Encode ``(H, W, 3)`` or ``(H, W, 4)``, float16 or float32, without loss (ZIP, sixteen rows at a time)."""
    height, width, channels = pixels.shape
    layout = "gbrapf32le" if channels == 4 else "gbrpf32le"
    encoder = av.CodecContext.create("exr", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, layout
    encoder.time_base = Fraction(1, 25)  # it must have one
    encoder.options = {"compression": "zip16", "format": "half" if pixels.dtype == np.float16 else "float"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels, np.float32), layout)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
