"""Print what weights can do beyond the middle frame: pure shifts, flow, other times, still pairs.

    python benchmarks/weights.py --photos PHOTOS [--model base]

``PHOTOS`` is a folder of photos; only those that training holds out are used. Everything is drawn from fixed seeds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from uprnet import Interpolator
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion
from uprnet.training.textures import Textures

SAMPLES = 48
SHIFT_SIDE = 256  # pixels of a shifted photo
LARGEST_SHIFT = 24  # pixels, along each axis
FLOW_SIDE = 128  # pixels of a synthetic pair
LARGEST_FLOW = 24.0  # pixels
TRAINED_LEVELS = 3  # the rule for images takes two at FLOW_SIDE, where motion of LARGEST_FLOW is out of reach


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit images, in decibel."""
    return float(10 * np.log10(255**2 / max(np.mean((first.astype(float) - second) ** 2), 1e-9)))


def patches(photos: Path, count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Patches of held-out photos, all of the size."""
    textures, rng = Textures(photos, held_out=True), np.random.default_rng(1)
    while count:
        patch = textures.draw(size, rng)
        if patch.shape[:2] == size:
            count -= 1
            yield np.ascontiguousarray(patch)


def shifts(interpolator: Interpolator, photos: Path) -> list[float]:
    """PSNR of the middle of photos that move by whole pixels, where both frames show the scene."""
    scores = []
    margin = LARGEST_SHIFT
    for seed, canvas in enumerate(patches(photos, SAMPLES, (SHIFT_SIDE + 2 * margin, SHIFT_SIDE + 2 * margin))):
        rng = np.random.default_rng((1, seed))
        dx, dy = 2 * rng.integers(-LARGEST_SHIFT // 2, LARGEST_SHIFT // 2 + 1, 2)

        def window(part: float, canvas: np.ndarray = canvas, dx: int = dx, dy: int = dy) -> np.ndarray:
            x, y = margin + round(part * dx), margin + round(part * dy)
            return np.ascontiguousarray(canvas[y : y + SHIFT_SIDE, x : x + SHIFT_SIDE])

        middle = interpolator(window(-0.5), window(0.5), 0.5)
        inner = slice(LARGEST_SHIFT // 2, SHIFT_SIDE - LARGEST_SHIFT // 2)
        scores.append(psnr(middle[inner, inner], window(0.0)[inner, inner]))
    return scores


def scenes(photos: Path, middle: float) -> Iterator:
    """Held-out synthetic scenes without noise, whose motion is at most ``LARGEST_FLOW``."""
    config = SyntheticConfig(
        photos=str(photos),
        middle=middle,
        max_motion=LARGEST_FLOW / FLOW_SIDE,
        acceleration=0.0,
        noise=0.0,
        jpeg=0.0,
        light=0.0,
        motion_blur=0.0,
    )
    generator = SyntheticMotion(config, held_out=True)
    for seed in range(SAMPLES):
        yield generator, np.random.default_rng((2, seed))


def flow_errors(interpolator: Interpolator, photos: Path) -> tuple[list[float], list[float]]:
    """End-point error in pixels: everywhere, and where the motion of the pixel ends inside the picture and is seen."""
    everywhere, visible = [], []
    for generator, rng in scenes(photos, 1.0):
        sample = generator.sample(FLOW_SIDE, rng)
        found = interpolator.pair(sample.img0, sample.img1).flow()
        for flow, truth, back in (
            (found[0], sample.flow_01, sample.flow_10),
            (found[1], sample.flow_10, sample.flow_01),
        ):
            error = np.hypot(*(flow[0].numpy() - np.moveaxis(truth, -1, 0)))
            everywhere.append(float(error.mean()))
            visible.append(float(error[_is_seen(truth, back)].mean()))
    return everywhere, visible


def _is_seen(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where following the flow and then the flow back returns to the start, to a pixel."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]]
    to_x, to_y = np.rint(x + flow[..., 0]).astype(int), np.rint(y + flow[..., 1]).astype(int)
    inside = (to_x >= 0) & (to_x < flow.shape[1]) & (to_y >= 0) & (to_y < flow.shape[0])
    returned = flow + back[to_y.clip(0, flow.shape[0] - 1), to_x.clip(0, flow.shape[1] - 1)]
    return inside & (np.hypot(returned[..., 0], returned[..., 1]) < 1)


def times(interpolator: Interpolator, photos: Path) -> dict[float, list[float]]:
    """PSNR of synthetic pairs at a quarter, half and three quarters, the same scenes for all."""
    found: dict[float, list[float]] = {0.25: [], 0.5: [], 0.75: []}
    for t, scores in found.items():
        for generator, rng in scenes(photos, 1.0):
            sample = generator.sample(FLOW_SIDE, rng, t=t)
            scores.append(psnr(interpolator(sample.img0, sample.img1, t), sample.target))
    return found


def stills(interpolator: Interpolator, photos: Path) -> list[float]:
    """PSNR of the middle of a photo and itself."""
    images = patches(photos, SAMPLES // 4, (SHIFT_SIDE, SHIFT_SIDE))
    return [psnr(interpolator(image, image, 0.5), image) for image in images]


def brightness(interpolator: Interpolator, photos: Path) -> list[float]:
    """Difference in mean brightness, of 255, of the frames of a pan at x4 and the true ones."""
    found: list[float] = []
    step, count, side = 8, 6, SHIFT_SIDE
    for canvas in patches(photos, SAMPLES // 8, (side, side + step * count)):
        window = [np.ascontiguousarray(canvas[:, x : x + side]) for x in range(0, step * count, step // 4)]
        for left in range(0, len(window) - 4, 4):
            made = interpolator.between(window[left], window[left + 4], [0.25, 0.5, 0.75])
            found += [abs(float(frame.mean() - window[left + 1 + k].mean())) for k, frame in enumerate(made)]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", default="base", help="base, small, or a weights file")
    options = parser.parse_args()
    torch.manual_seed(0)
    interpolator = Interpolator(options.model, "cpu")
    table = Table("what", "measured", "unit", title=f"{options.model}: held-out photos, fixed seeds")
    scores = shifts(interpolator, options.photos)
    table.add_row(f"shifts up to {LARGEST_SHIFT} px, mean (worst)", f"{np.mean(scores):.2f} ({min(scores):.2f})", "dB")
    as_trained = Interpolator(options.model, "cpu", num_levels=TRAINED_LEVELS)
    everywhere, visible = flow_errors(as_trained, options.photos)
    table.add_row("flow error, seen pixels", f"{np.mean(visible):.2f}", "px")
    table.add_row("flow error, all pixels", f"{np.mean(everywhere):.2f}", "px")
    for t, values in times(as_trained, options.photos).items():
        table.add_row(f"synthetic motion, t = {t}", f"{np.mean(values):.2f}", "dB")
    values = stills(interpolator, options.photos)
    table.add_row("still pairs, mean (worst)", f"{np.mean(values):.2f} ({min(values):.2f})", "dB")
    table.add_row(
        "brightness of a pan at x4, largest difference",
        f"{max(brightness(interpolator, options.photos)):.3f}",
        "of 255",
    )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
