"""A preview: the source and the result side by side, at the times of the result."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from uprnet.media.colour import Image
from uprnet.media.stream import VideoInfo
from uprnet.pipeline.shots import Decision

STRIP = 32
"""Height in pixels of the strip above the pictures that says which is which."""

DIVIDER = 4
DIVIDER = 4
"""Width in pixels of the line between the pictures."""

TEXT_HEIGHT = 0.6
"""Scale of OpenCV's Hershey font: capitals 13 pixels high."""


@dataclass(frozen=True)
class SideBySide:
    """Put two pictures beside each other, with labels above.

    Attributes:
        height: Height of one picture.
        width: Width of one picture.
        labels: What is written above the left and the right one.
    """

    height: int
    width: int
    labels: tuple[str, str]

    @classmethod
    def of(cls, info: VideoInfo, rate: Fraction) -> SideBySide:
        """Label the pictures of a source and of its version at another rate."""
        labels = f"source {float(info.rate):.5g} fps", f"uprnet {float(rate):.5g} fps"
        return cls(info.height, info.width, labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the whole, both even."""
        return self.height + STRIP + self.height % 2, 2 * self.width + DIVIDER

    def __call__(self, decision: Decision, made: Image) -> Image:
        """Join the source's picture at this time and the one that was made; the strip is opaque, the divider white."""
        source = decision.shown.image
        assert source is not None, "what is made comes with its source"
        height, width = self.size
        white = 1 if made.dtype.kind == "f" else np.iinfo(made.dtype).max
        whole = np.zeros((height, width, made.shape[2]), made.dtype)
        whole[:STRIP, :, 3:] = white
        whole[STRIP:, self.width : self.width + DIVIDER] = white
        for image, left, label in zip((source, made), (0, self.width + DIVIDER), self.labels, strict=True):
            whole[STRIP : STRIP + self.height, left : left + self.width] = image
            strip = np.zeros((STRIP, self.width), np.uint8)
            cv2.putText(strip, label, (8, STRIP - 10), cv2.FONT_HERSHEY_SIMPLEX, TEXT_HEIGHT, 255, 1, cv2.LINE_AA)
            letters = (strip.astype(np.float32) * (white / 255)).astype(made.dtype)
            whole[:STRIP, left : left + self.width, :3] = letters[..., None]
        return whole
