"""What libav's pixel formats hold, and which of those of an encoder holds a picture best."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import av

CHROMA_RANK = {"420": 0, "422": 1, "444": 2, "rgb": 2}
"""Samplings of colour in order of what they hold: 4:2:0, 4:2:2, 4:4:4, and red, green and blue themselves."""


@dataclass(frozen=True)
class Sampling:
    """What is stored of each pixel.

    Attributes:
        chroma: ``420``, ``422``, ``444`` or ``rgb``; the next larger one for rarer samplings.
        depth: Bits per sample.
        has_alpha: Whether there is transparency.
    """

    chroma: str = "420"
    depth: int = 8
    has_alpha: bool = False

    @classmethod
    def of(cls, pixel_format: str) -> Sampling:
        """Describe a pixel format by libav's name for it; a palette counts as its colours, grey as 4:2:0."""
        layout = av.VideoFormat(pixel_format)
        if layout.has_palette:
            return cls("rgb")
        depth = max(8, *(part.bits for part in layout.components))
        has_alpha = any(part.is_alpha for part in layout.components)
        if layout.is_rgb:
            return cls("rgb", depth, has_alpha)
        if len(layout.components) < 3:
            return cls("420", depth, has_alpha)
        across, down = 16 // layout.chroma_width(16), 16 // layout.chroma_height(16)
        chroma = "444" if across == 1 else "422" if down == 1 else "420"
        return cls(chroma, depth, has_alpha)


@cache
def planar(sampling: Sampling) -> str:
    """Give the planar format of such samples, or of the next depth that there is a format for.

    Example:
        >>> planar(Sampling("422", 10)), planar(Sampling("rgb", 8, has_alpha=True))
        ('yuv422p10le', 'gbrap')
    """
    alpha = "a" if sampling.has_alpha else ""
    start = f"gbr{alpha}p" if sampling.chroma == "rgb" else f"yuv{alpha}{sampling.chroma}p"
    order = "le" if sys.byteorder == "little" else "be"
    for depth in range(min(sampling.depth, 16), 17):
        name = start if depth == 8 else f"{start}{depth}{order}"
        try:
            return str(av.VideoFormat(name).name)
        except ValueError:  # some depths have no format
            continue
    return start


def can_write(pixel_format: str) -> bool:
    """Say whether frames of this format can be made: YUV of 8 to 16 bits in planes, or red, green and blue."""
    layout = av.VideoFormat(pixel_format)
    bits = [part.bits for part in layout.components]
    if not bits or min(bits) < 8 or max(bits) > 16 or layout.has_palette or layout.is_bit_stream:
        return False  # no components: frames in the memory of a GPU
    if any(part in pixel_format for part in ("f16", "f32", "msb", "x2")):
        return False  # floating point, or samples that do not begin at bit 0 of their word
    if layout.is_rgb:
        return True
    shape = layout.chroma_width(16), layout.chroma_height(16)
    is_known = pixel_format.startswith(("yuv4", "yuva4", "nv", "p0", "p2", "p4"))
    return is_known and shape in ((8, 8), (8, 16), (16, 16)) and layout.is_planar and not layout.is_big_endian


def nearest(pixel_formats: Iterable[str], wanted: Sampling) -> list[str]:
    """Sort the formats that can be made: first what loses least of ``wanted``, then what adds least to it.

    Transparency counts before chroma, chroma before depth, and depth before staying RGB or YUV.
    """
    known = [(name, Sampling.of(name)) for name in pixel_formats if can_write(name)]

    def cost(candidate: tuple[str, Sampling]) -> tuple[int, ...]:
        have = candidate[1]
        chroma = CHROMA_RANK[wanted.chroma] - CHROMA_RANK[have.chroma]
        depth = wanted.depth - have.depth
        return (
            wanted.has_alpha and not have.has_alpha,
            max(chroma, 0),
            max(depth, 0),
            (wanted.chroma == "rgb") != (have.chroma == "rgb"),
            have.has_alpha and not wanted.has_alpha,
            max(-depth, 0),
            max(-chroma, 0),
        )

    return [name for name, _ in sorted(known, key=cost)]


def losses(wanted: Sampling, have: Sampling) -> list[str]:
    """Say in words what of ``wanted`` is lost in ``have``, one part of a sentence each."""
    said = []
    if wanted.has_alpha and not have.has_alpha:
        said.append("transparency is dropped")
    if wanted.depth > have.depth:
        said.append(f"{wanted.depth} bits become {have.depth}")
    if wanted.chroma == "rgb" and have.chroma != "rgb":
        said.append(f"RGB becomes YUV {':'.join(have.chroma)}")
    elif CHROMA_RANK[wanted.chroma] > CHROMA_RANK[have.chroma]:
        said.append(f"{':'.join(wanted.chroma)} becomes {':'.join(have.chroma)}")
    return said
