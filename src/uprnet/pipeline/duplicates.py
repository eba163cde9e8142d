"""Frames that show the same picture as the one before: drawings of an animation, repeats of a telecine, still scenes.

Two frames are the same if no part of them differs: the difference of their thumbnails is averaged over cells of 8 x 8
pixels (1/32 of the width), and the largest of these counts. So the noise of a codec stays small, and a small thing
that moves does not.
"""

from __future__ import annotations

import cv2

from uprnet.media.colour import Image

CELL = 8
"""Side of a cell, in pixels of a thumbnail of 256 pixels width."""

SAME = 2.0
"""Largest difference of a cell, of 255, at which a frame is a plain repetition: nothing would move in between."""

REPEATED = 5.0
"""Largest difference of a cell, of 255, at which a frame repeats a drawing.

Measured on four clips with every frame shown twice, encoded by seven codecs and settings: of the repeated ones 97 %
differ by 5 or less (more only where a key frame of a low rate falls on one), of the new ones all by more than 5.
"""

MAX_HELD = 8
"""Frames that one drawing may be shown and still be taken for part of a motion: animation on fours at 24 frames a
second has 4, and 8 drawings a second in a file of 60 have 8. What is held longer is a still scene and stays still."""


def difference(first: Image, second: Image) -> float:
    """Give how much two thumbnails ``(H, W, 3)`` uint8 differ where they differ most, 0 to 255."""
    apart = cv2.absdiff(first, second)
    height, width = apart.shape[:2]
    size = max(1, width // CELL), max(1, height // CELL)
    return float(cv2.resize(apart, size, interpolation=cv2.INTER_AREA).max())
