"""Outlines of synthetic things: ellipses, polygons, blobs, thin lines and letters, as anti-aliased masks."""

import string

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

SHAPES = ("ellipse", "polygon", "blob", "lines", "letters")
SHAPE_SHARES = (0.2, 0.25, 0.25, 0.2, 0.1)
_SHIFT = 4  # OpenCV draws at coordinates in sixteenths of a pixel


def draw_mask(size: int, rng: np.random.Generator, shape: str | None = None) -> Mask:
    """Draw one random shape that fits a square.

    Args:
        size: Side of the square, in pixels; at least 8.
        rng: Source of all randomness.
        shape: One of `SHAPES`; None draws one.

    Returns:
        ``(size, size)`` uint8, 255 inside, with soft edges one pixel wide and an empty border.
    """
    if shape is None:
        shape = str(rng.choice(SHAPES, p=SHAPE_SHARES))
    mask = np.zeros((size, size), dtype=np.uint8)
    if shape == "lines":
        _draw_lines(mask, rng)
    elif shape == "letters":
        _draw_letters(mask, rng)
    else:
        points = _outline(shape, rng) * (size / 2 - 2) + size / 2
        fixed = np.round(points * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
        if rng.random() < 0.15:  # a hole, through which what lies behind is seen
            hole = np.round((points * 0.5 + size / 4) * 2**_SHIFT).astype(np.int32)
            cv2.fillPoly(mask, [hole], 0, cv2.LINE_AA, _SHIFT)
    mask[[0, -1]] = 0
    mask[:, [0, -1]] = 0
    return mask


def _outline(shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Corner points of a closed outline in the unit circle, ``(N, 2)``."""
    if shape == "polygon":
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        radii = rng.uniform(0.4, 1.0, len(angles))
    else:
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        radii = np.ones_like(angles)
    if shape == "blob":
        for frequency in range(2, 6):
            amplitude = rng.uniform(0, 0.5) / frequency
            radii += amplitude * np.sin(frequency * angles + rng.uniform(0, 2 * np.pi))
        radii /= radii.max()
    squeeze = rng.uniform(0.3, 1.0)
    points = np.stack((radii * np.cos(angles), squeeze * radii * np.sin(angles)), axis=1)
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned: NDArray[np.float64] = points @ rotation.T
    return turned


def _draw_lines(mask: Mask, rng: np.random.Generator) -> None:
    """Wires, twigs and fences: one to six strokes, one to four pixels wide, straight or bent."""
    size = mask.shape[0]
    thickness = int(rng.integers(1, 5))
    if rng.random() < 0.3:  # a fence: parallel lines
        for offset in range(4, size - 4, int(rng.integers(6, 24))):
            cv2.line(mask, (offset, 2), (offset, size - 3), 255, thickness, cv2.LINE_AA)
        return
    for _ in range(int(rng.integers(1, 7))):
        points = rng.uniform(2, size - 3, (3, 2))
        along = np.linspace(0, 1, 16)[:, None]
        curve = (1 - along) ** 2 * points[0] + 2 * along * (1 - along) * points[1] + along**2 * points[2]
        fixed = np.round(curve * 2**_SHIFT).astype(np.int32)
        cv2.polylines(mask, [fixed], False, 255, thickness, cv2.LINE_AA, _SHIFT)


def _draw_letters(mask: Mask, rng: np.random.Generator) -> None:
    """One to four letters or digits, as large as fits."""
    size = mask.shape[0]
    alphabet = list(string.ascii_letters + string.digits)
    text = "".join(rng.choice(alphabet, int(rng.integers(1, 5))))
    thickness = int(rng.integers(1, max(2, size // 16) + 1))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, thickness)
    scale = (size - 6) / max(width, height)
    origin = (3, int(size / 2 + height * scale / 2))
    cv2.putText(mask, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)
