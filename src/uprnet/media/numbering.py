"""The numbers in the names of a sequence of images: the place of each, and what is missing."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from uprnet.errors import MediaError

MOST_SPANS = 5
"""Runs of missing numbers that are named in a message; the others are counted."""


def positions(images: Sequence[Path]) -> list[int] | None:
    """Give the place of each image by its number, from 0 on, where a gap leaves places empty.

    Numbers count in steps of the commonest distance, so every tenth frame of a longer sequence has no gaps. Where
    that does not divide the others, they count in steps of what does, if so half of the places are taken; if not, as
    with times for names, they are no count of frames.

    Args:
        images: Files in the order of their numbers.

    Returns:
        None where names have no numbers that differ in one place only, or these count no frames.

    Raises:
        MediaError: If two images have the same number.

    Example:
        >>> positions([Path("f1.png"), Path("f2.png"), Path("f5.png")])
        [0, 1, 4]
    """
    numbers = _numbers(images)
    if numbers is None:
        return None
    steps = [after - before for before, after in pairwise(numbers)]
    for (before, after), step in zip(pairwise(images), steps, strict=True):
        if step == 0:
            raise MediaError(f"{before.name} and {after.name} have the same number; move one sequence elsewhere")
    counts = Counter(steps)
    step = min(counts, key=lambda step: (-counts[step], step))
    if any(distance % step for distance in steps):
        step = math.gcd(*steps)
        if 2 * len(numbers) <= (numbers[-1] - numbers[0]) // step + 1:
            return None
    return [(number - numbers[0]) // step for number in numbers]


def name_gaps(images: Sequence[Path], places: Sequence[int]) -> str:
    """Name the missing numbers, such as ``12-14, 20``; an empty text if none is missing.

    Args:
        images: Files in the order of their numbers.
        places: Their `positions`.
    """
    numbers = _numbers(images)
    if numbers is None or len(places) == places[-1] + 1:
        return ""
    step = (numbers[-1] - numbers[0]) // places[-1]
    spans = [
        f"{before + step}" if after - before == 2 * step else f"{before + step}-{after - step}"
        for before, after in pairwise(numbers)
        if after - before > step
    ]
    more = f" and {len(spans) - MOST_SPANS} more gaps" if len(spans) > MOST_SPANS else ""
    return ", ".join(spans[:MOST_SPANS]) + more


def strays(images: Sequence[Path]) -> list[Path]:
    """Find files that do not belong: most of the names differ in their numbers only, and theirs in more.

    Args:
        images: Files.

    Example:
        >>> strays([Path("f1.png"), Path("f2.png"), Path("f3.png"), Path("thumb.png")])
        [PosixPath('thumb.png')]
    """
    texts = [tuple(_parts(image)[::2]) for image in images]
    usual, count = Counter(texts).most_common(1)[0]
    is_sequence = 2 * count > len(images) and len(usual) > 1
    return [image for image, text in zip(images, texts, strict=True) if text != usual] if is_sequence else []


def _parts(image: Path) -> list[str]:
    """Split a name into texts and, at every other place, numbers."""
    return re.split(r"([0-9]+)", image.stem)


def _numbers(images: Sequence[Path]) -> list[int] | None:
    """Give the one number in each name that differs from name to name."""
    names = [_parts(image) for image in images]
    if len(images) < 2 or len({tuple(name[::2]) for name in names}) > 1:
        return None
    columns = [[int(name[place]) for name in names] for place in range(1, len(names[0]), 2)]
    differing = [column for column in columns if len(set(column)) > 1]
    return differing[0] if len(differing) == 1 else columns[-1] if columns and not differing else None
