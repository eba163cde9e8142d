"""What synthetic things look like: patches of photos, or procedural texture where there are no photos."""

import logging
from pathlib import Path

import cv2
import numpy as np

from uprnet.errors import MediaError, TrainingError
from uprnet.training.sample import Image, read_picture

logger = logging.getLogger(__name__)

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
MIN_GRADIENT = 6.0  # of 255, mean |d/dx| + |d/dy| of grey: below it a patch has nothing to match
TEXTURED_SHARE = 0.85  # of all patches must pass MIN_GRADIENT; the rest keeps skies and walls in the mix
MAX_DRAWS = 8  # patches tried before the most textured so far is taken
HELD_OUT_EVERY = 20  # every 20th photo (5 %) is kept for validation


class Textures:
    """A pool of pictures that patches are cut from.

    Args:
        folder: Photos, searched recursively; None makes procedural texture instead.
        held_out: Use the 5 % of the photos that training does not see (every 20th by name).

    Raises:
        TrainingError: If the folder holds no readable photo.
    """

    def __init__(self, folder: Path | None, held_out: bool = False) -> None:
        self._pictures: list[Image] = []
        self._energies: list[np.ndarray] = []
        if folder is None:
            return
        for path in _photo_paths(folder, held_out):
            try:
                picture = read_picture(path)
            except MediaError as error:
                logger.warning("a photo is left out: %s", error)
                continue
            # Three sizes of each photo: detail at every scale, and never aliased.
            for scale in (1.0, 0.5, 0.25):
                shrunk = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                small: Image = np.ascontiguousarray(shrunk, dtype=np.uint8)
                if min(small.shape[:2]) >= 64:
                    self._pictures.append(small)
                    self._energies.append(_energy_map(small))
        if not self._pictures:
            raise TrainingError(f"photos must be a folder with at least one photo, got nothing readable in {folder}")

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Image:
        """Cut a patch, mostly one with texture in it.

        Args:
            size: ``(height, width)`` wanted; a smaller picture gives a smaller patch.
            rng: Source of all randomness.

        Returns:
            ``(H, W, 3)`` RGB uint8; a view, not to be written to.
        """
        if not self._pictures:
            return procedural_texture(size, rng)
        wants_texture = rng.random() < TEXTURED_SHARE
        best: tuple[float, Image] | None = None
        for _ in range(MAX_DRAWS if wants_texture else 1):
            index = int(rng.integers(len(self._pictures)))
            picture, energies = self._pictures[index], self._energies[index]
            height, width = min(size[0], picture.shape[0]), min(size[1], picture.shape[1])
            top = int(rng.integers(picture.shape[0] - height + 1))
            left = int(rng.integers(picture.shape[1] - width + 1))
            cells = energies[top // 16 : (top + height - 1) // 16 + 1, left // 16 : (left + width - 1) // 16 + 1]
            energy = float(cells.mean())
            if best is None or energy > best[0]:
                best = energy, picture[top : top + height, left : left + width]
            if energy > MIN_GRADIENT:
                break
        assert best is not None  # the loop runs at least once
        return best[1]


def procedural_texture(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """Make a coloured texture with detail at every scale, from nothing.

    Octaves of smoothed noise whose amplitude falls with frequency, as in natural images, in a random colour
    space, with a few random flat shapes for sharp edges.

    Args:
        size: ``(height, width)``.
        rng: Source of all randomness.

    Returns:
        ``(H, W, 3)`` RGB uint8.
    """
    height, width = size
    roughness = rng.uniform(0.5, 0.8)
    amplitude = 1.0
    total = np.zeros((height, width, 3), dtype=np.float32)
    cell = 64
    while cell >= 2:
        noise = rng.standard_normal((height // cell + 3, width // cell + 3, 3), dtype=np.float32)
        total += amplitude * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude *= roughness
        cell //= 2
    # Channels of photographs move together; this mixes a shared part into them.
    mix = (0.35 * rng.standard_normal((3, 3)) + np.full((3, 3), 0.6)).astype(np.float32)
    picture = total @ mix * rng.uniform(25, 50) + rng.uniform(80, 170, 3).astype(np.float32)
    canvas: Image = np.clip(picture, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 12))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(2, 24)), int(rng.integers(2, 24)))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return canvas


def _photo_paths(folder: Path, held_out: bool) -> list[Path]:
    if not folder.is_dir():
        raise TrainingError(f"photos must be a folder of pictures, got {folder}, which is not a folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if len(paths) < HELD_OUT_EVERY:
        return paths  # too few to hold any out
    return [path for index, path in enumerate(paths) if (index % HELD_OUT_EVERY == 0) == held_out]


def _energy_map(picture: Image) -> np.ndarray:
    """Mean absolute central difference, x plus y, of grey in blocks of 16x16 pixels."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    dx = np.zeros_like(grey)
    dy = np.zeros_like(grey)
    dx[:, 1:-1] = np.abs(grey[:, 2:] - grey[:, :-2]) / 2
    dy[1:-1] = np.abs(grey[2:] - grey[:-2]) / 2
    blocks = (-(-grey.shape[1] // 16), -(-grey.shape[0] // 16))
    return cv2.resize(dx + dy, blocks, interpolation=cv2.INTER_AREA)
