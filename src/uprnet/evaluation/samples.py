"""What is measured: two frames, the true frames between them, and when those are.

Convention:
    Images are ``(H, W, 3)`` RGB, uint8 or uint16. Times are fractions in (0, 1): 0 is ``img0``, 1 is ``img1``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.colour import Image
from uprnet.media.images import read_image


@dataclass(frozen=True)
class Item:
    """One item of a benchmark, as files.

    Attributes:
        name: What it is called in results; no two items of a benchmark share it.
        group: What part of the benchmark it belongs to, such as the clip that it is cut from.
        inputs: The frames at time 0 and 1.
        targets: The true frames.
        times: The time of each target, in (0, 1).
    """

    name: str
    group: str
    inputs: tuple[Path, Path]
    targets: tuple[Path, ...]
    times: tuple[Fraction, ...]


@dataclass(frozen=True)
class Sample:
    """One item in memory.

    Attributes:
        name: As in `Item`.
        group: As in `Item`.
        img0: Frame at time 0.
        img1: Frame at time 1.
        targets: The true frames, as large as ``img0``.
        times: The time of each target, in (0, 1).
        predictions: Predictions that come with the sample, by method, one for each target: those of methods that
            see the whole video and not only this pair.
    """

    name: str
    group: str
    img0: Image
    img1: Image
    targets: tuple[Image, ...]
    times: tuple[Fraction, ...]
    predictions: Mapping[str, tuple[Image, ...]] = field(default_factory=dict)


def read_item(item: Item, shrink: int = 1) -> Sample:
    """Read the images of an item.

    Args:
        item: The item.
        shrink: How many times smaller the images are made, by averaging areas.

    Raises:
        MediaError: If an image is missing, damaged, or of floats.
        InvalidInputError: If the images differ in size.
    """
    img0, img1, *targets = (_read(path, shrink) for path in (*item.inputs, *item.targets))
    for path, image in zip((item.inputs[1], *item.targets), (img1, *targets), strict=True):
        if image.shape != img0.shape:
            raise InvalidInputError(
                f"the images of {item.name} must have one size, got {img0.shape[:2]} in {item.inputs[0].name} "
                f"and {image.shape[:2]} in {path.name} (height, width)"
            )
    return Sample(item.name, item.group, img0, img1, tuple(targets), item.times)


def read_ahead(items: Iterable[Item], num_workers: int = 0, shrink: int = 1) -> Iterator[Sample]:
    """Read items in their order, some of them ahead of time in threads.

    Args:
        items: What to read.
        num_workers: Threads that read, each at most two items ahead; 0 reads when a sample is asked for.
        shrink: As in `read_item`.
    """
    if num_workers == 0:
        yield from (read_item(item, shrink) for item in items)
        return
    waiting: deque[Future[Sample]] = deque()
    pool = ThreadPoolExecutor(num_workers)
    try:
        for item in items:
            waiting.append(pool.submit(read_item, item, shrink))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def as_tensor(image: Image, device: torch.device | str = "cpu") -> Tensor:
    """Convert ``(H, W, 3)`` uint8 or uint16 to ``(1, 3, H, W)`` float32 in [0, 1]."""
    white = int(np.iinfo(image.dtype).max)
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return tensor.to(device).float() / white


def _read(path: Path, shrink: int) -> Image:
    image = read_image(path).pixels[..., :3]
    if image.dtype not in (np.uint8, np.uint16):
        raise MediaError(f"{path} has {image.dtype} samples; a benchmark needs images of 8 or 16 bits")
    height, width = image.shape[0] // shrink, image.shape[1] // shrink
    if shrink == 1:
        return image
    if not height or not width:
        raise MediaError(f"{path} is too small to be shrunk {shrink} times")
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
