"""How far an evaluation is, and how good the network has been so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from uprnet.evaluation.loop import OURS, FrameResult


@dataclass(frozen=True)
class BenchmarkProgress:
    """How far a benchmark is.

    Attributes:
        done: Items measured.
        total: Items in all.
        mean_psnr: Mean PSNR of the network so far, in decibel.
        seconds_left: Estimate of the remaining time; None before the first item.
    """

    done: int
    total: int
    mean_psnr: float
    seconds_left: float | None


class Counter:
    """Reports progress with a running mean and an estimate of the time that is left.

    Args:
        total: Items in all.
        progress: Called after every item, if given.
    """

    def __init__(self, total: int, progress: Callable[[BenchmarkProgress], None] | None) -> None:
        self._total, self._progress = total, progress
        self._start = time.monotonic()
        self._done = self._new = self._frames = 0
        self._sum = 0.0

    def count(self, results: list[FrameResult], is_new: bool = True) -> None:
        """Count an item; one that was kept from an earlier run says nothing of the speed."""
        self._done += 1
        self._total = max(self._total, self._done)
        self._new += is_new
        ours = [r.scores["psnr"] for r in results if r.method == OURS and math.isfinite(r.scores["psnr"])]
        self._sum, self._frames = self._sum + sum(ours), self._frames + len(ours)
        self._report()

    def expect(self, left: int) -> None:
        """Correct the total where it was an estimate: so many items are left."""
        is_new = self._total != self._done + left
        self._total = self._done + left
        if is_new and self._done:
            self._report()

    def _report(self) -> None:
        if self._progress is None:
            return
        each = (time.monotonic() - self._start) / self._new if self._new else None
        left = None if each is None else each * (self._total - self._done)
        mean = self._sum / self._frames if self._frames else float("inf")
        self._progress(BenchmarkProgress(self._done, self._total, mean, left))
