"""Time every engine that is installed, in one process: ``python benchmarks/engines.py``.

For each: how long it takes to build, the first frame of a size that it has not seen, one frame and its CPU time, both
against torch's convolutions of that frame alone, and how far the frame is from torch's. Medians; all are timed in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from network import AMPLE, real_frames
from uprnet import Interpolator
from uprnet.engines import attach, choose
from uprnet.errors import MissingDependencyError
from uprnet.evaluation.runtime import convolutions_of
from uprnet.network.config import Engine


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return wall time and CPU time of one call, in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def is_installed(engine: Engine) -> bool:
    """Return whether an engine can run here; say so if not."""
    try:
        choose(engine, torch.device("cpu"))
    except MissingDependencyError as error:
        Console(stderr=True).print(error)
        return False
    return True


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="base")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    img0, img1, _ = real_frames(*arguments.size)
    by_torch = Interpolator(arguments.model, device="cpu", engine="torch", memory=AMPLE)
    calls = convolutions_of(by_torch.model, lambda: by_torch(img0, img1))
    expected = by_torch(img0 / np.float32(255), img1 / np.float32(255))

    @torch.inference_mode()
    def convolutions() -> None:
        for convolution, tensor in calls:
            convolution(tensor)

    runs: dict[str, Callable[[], object]] = {"convolutions": convolutions}
    facts: dict[str, list[str]] = {}
    small0, small1 = img0[:200, :232], img1[:200, :232]
    for engine in filter(is_installed, get_args(Engine)[1:]):
        attach(by_torch.model, engine)  # once before: libraries are imported
        build = timed(lambda: attach(by_torch.model, engine))[0]  # noqa: B023
        interpolator = Interpolator(arguments.model, device="cpu", engine=engine, memory=AMPLE)
        frame = interpolator(img0 / np.float32(255), img1 / np.float32(255))

        def run(interpolator: Interpolator = interpolator) -> None:
            interpolator._recent.clear()
            interpolator(img0, img1)

        first = timed(lambda: interpolator(small0, small1))[0]  # noqa: B023
        interpolator._recent.clear()
        again = timed(lambda: interpolator(small0, small1))[0]  # noqa: B023
        facts[engine] = [f"{build:.2f}", f"{first - again:+.2f}", f"{np.abs(frame - expected).max():.0e}"]
        runs[engine] = run
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, action in runs.items():
            times[name].append(timed(action))
    wall = {name: statistics.median(pair[0] for pair in pairs) for name, pairs in times.items()}
    cpu = {name: statistics.median(pair[1] for pair in pairs) for name, pairs in times.items()}

    height, width = arguments.size
    threads = torch.get_num_threads()
    table = Table(title=f"{arguments.model}, {width}x{height}, {threads} threads, median of {arguments.repeats}")
    for column in ("engine", "s a frame", "ratio", "CPU s", "s to build", "s more at a new size", "difference"):
        table.add_column(column, justify="right")
    table.add_row("torch's convolutions", f"{wall['convolutions']:.3f}", "1.00", f"{cpu['convolutions']:.2f}")
    for name, (build_time, new_size, difference) in facts.items():
        ratio = f"{wall[name] / wall['convolutions']:.2f}"
        table.add_row(name, f"{wall[name]:.3f}", ratio, f"{cpu[name]:.2f}", build_time, new_size, difference)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
