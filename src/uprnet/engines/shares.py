"""How the rows of a chain of convolutions are shared out among threads.

A layer needs a row more of the layer before, above and below, than it makes. So the shares of two threads overlap by
some rows of all layers but the last. Where shares are large, the lower one begins higher up with each layer further to
the front, makes these rows first, and leaves them in a *seam* for the upper one, which needs them last: hardly
anybody waits, and nothing is computed twice. Where shares are small, both compute what they need.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

#: Rows of a thread's share, at least, for each layer of the chain: at its edges some rows are computed twice.
MIN_ROWS = 8

#: The same where there are two shares only: a second thread gains more than computing some rows twice costs.
MIN_ROWS_OF_TWO = 2

#: Rows of a share with a seam, as multiples of those by which the layers reach over its edge: with fewer, the upper
#: thread would wait for the lower one.
MIN_REACHES = 2

#: Seconds that a thread waits for the rows of another one before it makes them itself.
PATIENCE = 0.01


@dataclass(frozen=True)
class Rows:
    """What a layer of a chain means for its rows.

    Args:
        unit: Rows of a tile.
        padding: Rows that the layer sees above and below those that it makes.
        work: Time that a row takes, in any measure.
    """

    unit: int
    padding: int
    work: float


@dataclass(frozen=True)
class Share:
    """What one thread makes.

    Args:
        starts: First row of each layer.
        ends: Row after the last of each layer that is made here. Where the share ``takes``, those from there on come
            from the share below; where not, that is the height, for all layers but the last.
        alone: Row of the last layer up to which nothing is needed from the share below.
        gives: Whether the share above needs rows of this one.
        takes: Whether this one needs rows of the share below.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    alone: int
    gives: bool
    takes: bool

    @property
    def first(self) -> int:
        """The first row of the last layer."""
        return self.starts[-1]

    @property
    def end(self) -> int:
        """The row after the last one of the last layer."""
        return self.ends[-1]


class Seam:
    """Memory for the rows that a share makes for the one above it."""

    def __init__(self, size: int) -> None:
        self._memory = np.empty(size, np.uint8)
        self._is_finished = threading.Event()
        self.address: int = self._memory.ctypes.data

    def finish(self) -> None:
        """Say that the rows are there."""
        self._is_finished.set()

    def wait(self) -> bool:
        """Wait for the rows, but not for ever: where their thread is held up, making them again is faster."""
        return self._is_finished.wait(PATIENCE)


def rows_at_once(layers: Sequence[Rows]) -> int:
    """Return the smallest number of rows that is a whole number of tiles of every layer: units are powers of two."""
    return max(layer.unit for layer in layers)


def reach(layers: Sequence[Rows]) -> int:
    """Return by how many rows the first layer goes beyond the last one's, at most."""
    return sum(below.padding + layer.unit - 1 for layer, below in pairwise(layers))


def share_rows(layers: Sequence[Rows], height: int, threads: int) -> list[Share]:
    """Share rows out, in whole tiles.

    Args:
        layers: The layers of the chain; the outputs of all have the same height.
        height: That height.
        threads: How many shares there may be.

    Returns:
        The shares, from the top of the picture to its bottom.
    """
    unit = rows_at_once(layers)
    fitting = max(height // (MIN_ROWS * len(layers)), min(height // (MIN_ROWS_OF_TWO * len(layers)), 2), 1)
    count = min(threads, fitting, -(-height // unit))
    overlap = reach(layers)
    # Where a share gives and takes, what it makes first may not reach the share below.
    room = MIN_REACHES * overlap + (2 * unit if count > 2 else 0)
    has_seams = overlap > 0 and height // count >= room
    rise = _mean_rise(layers, height) if has_seams else 0.0
    edges = [round((height * i / count + rise) / unit) * unit for i in range(1, count)]
    starts = [_starts(layers, edge) for edge in (0, *edges)]
    shares = []
    for i, end in enumerate((*edges, height)):
        takes = has_seams and i < count - 1
        ends = starts[i + 1] if takes else (height,) * (len(layers) - 1) + (end,)
        first = starts[i][-1]
        alone = first + max(end - 2 * overlap - first, 0) // unit * unit if takes else end
        shares.append(Share(starts[i], ends, alone, gives=has_seams and i > 0, takes=takes))
    return shares


def _starts(layers: Sequence[Rows], first: int) -> tuple[int, ...]:
    """Return the first row of each layer that a share needs whose last layer begins at ``first``."""
    starts = [first]
    for layer, below in reversed(list(pairwise(layers))):
        starts.insert(0, max(starts[0] - below.padding, 0) // layer.unit * layer.unit)
    return tuple(starts)


def _mean_rise(layers: Sequence[Rows], height: int) -> float:
    """Return how much higher up than its last layer a share begins, at the mean of its work."""
    edge = height // rows_at_once(layers) * rows_at_once(layers)
    starts = _starts(layers, edge)
    rise = sum((edge - start) * layer.work for start, layer in zip(starts, layers, strict=True))
    return rise / sum(layer.work for layer in layers)
