"""High dynamic range: what a video says about the display it was made on and about its brightest light.

Convention:
    Chromaticities are CIE 1931 x and y, luminances candela per square metre, both as `fractions.Fraction`, so that
    they leave as they came.

Reference:
    SMPTE ST 2086 (mastering display), CTA-861.3 (content light level); libav's ``AVMasteringDisplayMetadata`` and
    ``AVContentLightMetadata`` for the layout of the side data.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

import av
from av.sidedata.sidedata import Type

from uprnet.media.side_data import side_data

CHROMATICITY_UNIT = Fraction(1, 50_000)
"""Step of a chromaticity in the streams (SMPTE ST 2086)."""

LUMINANCE_UNIT = Fraction(1, 10_000)
"""Step of a luminance in the streams, in candela per square metre (SMPTE ST 2086)."""

DYNAMIC = {
    Type.DOVI_METADATA: "Dolby Vision",
    Type.DOVI_RPU_BUFFER: "Dolby Vision",
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
    Type.A53_CC: "closed captions",
    Type.STEREO3D: "the place of both views of a stereo picture",
    Type.SPHERICAL: "the shape of a spherical picture",
}
"""Side data that streams hold for single frames: new frames have none, so it cannot be kept."""

Point = tuple[Fraction, Fraction]
"""Chromaticity ``(x, y)``."""


@dataclass(frozen=True)
class MasteringDisplay:
    """The display on which a video was graded.

    Attributes:
        red: Chromaticity of its red.
        green: Chromaticity of its green.
        blue: Chromaticity of its blue.
        white: Chromaticity of its white.
        darkest: Its least luminance.
        brightest: Its largest luminance.
    """

    red: Point
    green: Point
    blue: Point
    white: Point
    darkest: Fraction
    brightest: Fraction


@dataclass(frozen=True)
class HdrMetadata:
    """Static metadata of high dynamic range.

    Attributes:
        display: Mastering display; None if not said.
        light: Largest and largest average light level of a frame, in candela per square metre; None if not said.
    """

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None

    @classmethod
    def of(cls, frame: av.VideoFrame) -> HdrMetadata | None:
        """Read the side data of a decoded frame; None if it says nothing."""
        data = side_data(frame)
        display = _mastering_display(data.get(Type.MASTERING_DISPLAY_METADATA))
        light = data.get(Type.CONTENT_LIGHT_LEVEL)
        levels = struct.unpack("=2I", light[:8]) if light and len(light) >= 8 else None
        if display is None and levels is None:
            return None
        return cls(display, levels)

    def option(self, codec: str) -> tuple[str, str] | None:
        """Give the option, and its value, that makes an encoder write this; None for encoders that cannot."""
        light = f"{self.light[0]},{self.light[1]}" if self.light else ""
        names = {
            "libx264": ("x264-params", "mastering-display", "cll"),
            "libx265": ("x265-params", "master-display", "max-cll"),
            "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
        }.get(codec)
        if names is None:
            return None
        is_in_steps = codec != "libsvtav1"
        display = self._in_steps(CHROMATICITY_UNIT, LUMINANCE_UNIT) if is_in_steps else self._in_steps(None, None)
        said = [f"{name}={value}" for name, value in zip(names[1:], (display, light), strict=True) if value]
        return names[0], ":".join(said)

    def _in_steps(self, chromaticity: Fraction | None, luminance: Fraction | None) -> str:
        """Write the display as x265 does, in whole steps, or as SVT-AV1 does, in decimals."""
        if self.display is None:
            return ""

        def text(value: Fraction, step: Fraction | None) -> str:
            return f"{float(value):.5f}" if step is None else str(round(value / step))

        parts = []
        named = {"G": self.display.green, "B": self.display.blue, "R": self.display.red, "WP": self.display.white}
        for name, (x, y) in named.items():
            parts.append(f"{name}({text(x, chromaticity)},{text(y, chromaticity)})")
        parts.append(f"L({text(self.display.brightest, luminance)},{text(self.display.darkest, luminance)})")
        return "".join(parts)


def dynamic_metadata(frame: av.VideoFrame) -> list[str]:
    """Give the names of the kinds of metadata in a frame that hold for this frame alone."""
    return sorted({DYNAMIC[kind] for kind in side_data(frame) if kind in DYNAMIC})


def _mastering_display(data: bytes | None) -> MasteringDisplay | None:
    """Read libav's structure: ten fractions (red, green, blue and white x and y, luminances), two flags."""
    if data is None or len(data) < 88:
        return None
    *parts, has_primaries, has_luminance = struct.unpack("=22i", data[:88])
    if not has_primaries or not has_luminance or 0 in parts[1::2]:
        return None
    values = [Fraction(parts[2 * i], parts[2 * i + 1]) for i in range(10)]
    red, green, blue, white = ((values[2 * i], values[2 * i + 1]) for i in range(4))
    return MasteringDisplay(red, green, blue, white, darkest=values[8], brightest=values[9])
