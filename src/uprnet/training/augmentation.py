"""Variations of a sample, each a pure function of the sample and a random generator.

Convention:
    Flow follows the picture: a flipped picture has flipped flow. Each variation is applied with probability 0.5,
    as in section 4.1 of the paper, and draws the same amount of randomness whether it is applied or not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from uprnet.errors import TrainingError
from uprnet.network.config import PADDING_VALUE
from uprnet.training.sample import Flow, Image, Sample

PROBABILITY = 0.5  # of each variation (section 4.1)

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class AugmentationConfig:
    """Which variations are drawn.

    Args:
        reverse_channels: RGB or BGR.
        flip: Mirror upside down and left to right.
        rotate: Turn by 90, 180 or 270 degrees.
        swap_time: Play backwards.
        min_scale: Smallest factor on the size of the picture before cropping.
        max_scale: Largest factor on the size of the picture before cropping.
        colour: Deviation of the random gain and gamma of all three frames; 0 leaves colours alone.
        padding: Most rows at the bottom, and columns on the right, that are replaced by the constant with which
            published benchmarks fill pictures up to a size that the network takes; 0 replaces none.
    """

    reverse_channels: bool = True
    flip: bool = True
    rotate: bool = True
    swap_time: bool = True
    min_scale: float = 1.0
    max_scale: float = 1.0
    colour: float = 0.0
    padding: int = 0


def augment(sample: Sample, config: AugmentationConfig, rng: np.random.Generator) -> Sample:
    """Apply all variations that are switched on.

    Args:
        sample: A cropped sample; it must be square to be rotated.
        config: What to apply.
        rng: Source of all randomness.

    Returns:
        A sample of the same size.
    """
    if config.reverse_channels:
        sample = reverse_channels(sample, rng)
    if config.flip:
        sample = flip_vertically(flip_horizontally(sample, rng), rng)
    if config.rotate:
        sample = rotate(sample, rng)
    if config.swap_time:
        sample = swap_time(sample, rng)
    if config.colour > 0:
        sample = jitter_colour(sample, rng, config.colour)
    if config.padding > 0:
        sample = pad(sample, rng, config.padding)
    return sample


def draw_scale(config: AugmentationConfig, rng: np.random.Generator) -> float:
    """Draw the factor on the size of the picture, uniform in its logarithm.

    Args:
        config: The range.
        rng: Source of all randomness.

    Returns:
        A factor; above 1 enlarges.
    """
    return float(np.exp(rng.uniform(np.log(config.min_scale), np.log(config.max_scale))))


def random_crop(sample: Sample, size: int, rng: np.random.Generator, scale: float = 1.0) -> Sample:
    """Cut a square at a random place and resize it.

    Args:
        sample: The whole frames.
        size: Side of the result, in pixels.
        rng: Source of all randomness.
        scale: Factor on the size of the picture; the square that is cut has the side ``size / scale``.

    Returns:
        The cropped sample.

    Raises:
        TrainingError: If the frames are smaller than ``size``.
    """
    height, width = sample.img0.shape[:2]
    if min(height, width) < size:
        raise TrainingError(f"the crop of {size}x{size} must fit into the images, got images of {height}x{width}")
    side = min(max(round(size / scale), 8), height, width)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    rows, columns = slice(top, top + side), slice(left, left + side)
    return resize_square(_map(sample, lambda image: image[rows, columns], lambda flow: flow[rows, columns]), size)


def resize_square(sample: Sample, size: int) -> Sample:
    """Resize a square sample; motion scales with it.

    Args:
        sample: Square frames.
        size: New side, in pixels.

    Returns:
        The resized sample.
    """
    side = sample.img0.shape[0]
    if side == size:
        return sample
    how = cv2.INTER_AREA if size < side else cv2.INTER_CUBIC

    def image(source: Image) -> Image:
        return np.asarray(cv2.resize(source, (size, size), interpolation=how), dtype=np.uint8)

    def flow(source: Flow) -> Flow:
        resized = cv2.resize(source, (size, size), interpolation=cv2.INTER_LINEAR) * (size / side)
        return np.asarray(resized, dtype=np.float32)

    return _map(sample, image, flow)


def reverse_channels(sample: Sample, rng: np.random.Generator) -> Sample:
    """Exchange red and blue in all three frames."""
    if rng.random() >= PROBABILITY:
        return sample
    return _map(sample, lambda image: image[:, :, ::-1], lambda flow: flow)


def flip_horizontally(sample: Sample, rng: np.random.Generator) -> Sample:
    """Mirror left to right."""
    if rng.random() >= PROBABILITY:
        return sample
    sign = np.array([-1, 1], dtype=np.float32)
    return _map(sample, lambda image: image[:, ::-1], lambda flow: flow[:, ::-1] * sign)


def flip_vertically(sample: Sample, rng: np.random.Generator) -> Sample:
    """Mirror upside down."""
    if rng.random() >= PROBABILITY:
        return sample
    sign = np.array([1, -1], dtype=np.float32)
    return _map(sample, lambda image: image[::-1], lambda flow: flow[::-1] * sign)


def rotate(sample: Sample, rng: np.random.Generator) -> Sample:
    """Turn by 90, 180 or 270 degrees, counter-clockwise."""
    apply, turns = rng.random() < PROBABILITY, int(rng.integers(1, 4))
    if not apply:
        return sample

    def turn_flow(flow: Flow) -> Flow:
        turned = np.rot90(flow, turns)
        for _ in range(turns):  # right becomes up: (dx, dy) -> (dy, -dx)
            turned = np.stack((turned[..., 1], -turned[..., 0]), axis=-1)
        return turned

    return _map(sample, lambda image: np.rot90(image, turns), turn_flow)


def swap_time(sample: Sample, rng: np.random.Generator) -> Sample:
    """Play backwards: the frames change places and ``t`` becomes ``1 - t``."""
    if rng.random() >= PROBABILITY:
        return sample
    return replace(
        sample,
        img0=sample.img1,
        img1=sample.img0,
        t=1 - sample.t,
        flow_01=sample.flow_10,
        flow_10=sample.flow_01,
    )


def jitter_colour(sample: Sample, rng: np.random.Generator, deviation: float) -> Sample:
    """Change gain of each channel and gamma of all, the same way in all three frames."""
    apply, gain, gamma = rng.random() < PROBABILITY, rng.normal(0, deviation, 3), rng.normal(0, deviation)
    if not apply:
        return sample
    levels = np.linspace(0, 1, 256)[:, None] ** np.exp(gamma) * np.exp(gain)
    table = np.clip(np.rint(255 * levels), 0, 255).astype(np.uint8)  # (256, 3)
    return _map(sample, lambda image: table[image, np.arange(3)], lambda flow: flow)


def pad(sample: Sample, rng: np.random.Generator, most: int) -> Sample:
    """Replace rows at the bottom, columns on the right, or both, by a constant; nobody knows how they move."""
    apply, (rows, columns) = rng.random(2) < PROBABILITY, rng.integers(1, most + 1, 2)
    if not apply.any():
        return sample
    height, width = sample.img0.shape[0] - rows * apply[0], sample.img0.shape[1] - columns * apply[1]

    def fill(source: NDArray[T], value: float) -> NDArray[T]:
        filled = np.full_like(source, value)
        filled[:height, :width] = source[:height, :width]
        return filled

    return _map(sample, lambda image: fill(image, round(255 * PADDING_VALUE)), lambda flow: fill(flow, np.nan))


def _map(sample: Sample, image: Callable[[Image], Image], flow: Callable[[Flow], Flow]) -> Sample:
    """Apply a change to all frames and to both flows."""
    return replace(
        sample,
        img0=image(sample.img0),
        img1=image(sample.img1),
        target=image(sample.target),
        flow_01=None if sample.flow_01 is None else flow(sample.flow_01),
        flow_10=None if sample.flow_10 is None else flow(sample.flow_10),
    )
