"""Measure the memory that a frame takes, as the peak of a process of its own: ``python benchmarks/memory.py``.

Each row of the table is a new process that loads the network and two images, notes its peak, makes frames, and tells
by how much the peak has grown. The images are one picture, enlarged, and the same moved by 20 and 30 pixels. Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

GIB = 2**30

#: Peak of the published implementation with plain CPU operators, base, in GiB.
REFERENCE = {(480, 640): 0.8, (1088, 1920): 3.3, (2304, 4096): 13.1}


def process_peak() -> int:
    """Return the highest resident memory of this process so far, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def image_pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a frame of the bundled clip, enlarged, and the same moved: up by 30 pixels, left by 20."""
    from uprnet.demo import CLIP
    from uprnet.media.video import VideoReader

    with VideoReader(CLIP) as reader:
        frame = next(iter(reader)).image
    large = cv2.resize(frame, (width + 20, height + 30), interpolation=cv2.INTER_CUBIC)
    return large[:height, :width].copy(), large[30:, 20:].copy()


def measure(arguments: argparse.Namespace) -> None:
    """Make frames in this process and print what it took, as JSON."""
    from uprnet import Interpolator

    height, width = arguments.size[0]
    memory = None if arguments.memory[0] == "auto" else arguments.memory[0]
    interpolator = Interpolator(
        arguments.model[0], "cpu", engine=arguments.engine, memory="1000TiB" if memory == "whole" else memory
    )
    images = image_pair(height, width)
    before = process_peak()
    seconds = []
    for _ in range(arguments.repeats):
        interpolator._recent.clear()
        start = time.perf_counter()
        frame = interpolator(*images)
        seconds.append(time.perf_counter() - start)
    after = process_peak()
    ((work, plan),) = interpolator._plans.items()
    rows = plan.rows(work.batch, work.height, work.width)
    text = "whole" if rows == work.height and plan.kept_from == 0 else f"{rows} rows, kept from {plan.kept_from}"
    print(json.dumps({"plan": text, "peak": after - before, "seconds": min(seconds), "mean": float(frame.mean())}))


def reason_of(run: subprocess.CompletedProcess[str]) -> str:
    """Return why a process failed, in some words: what it said last, or the signal that killed it."""
    if run.returncode < 0:
        return f"killed by signal {-run.returncode}"
    said = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
    return (said.partition(": ")[2] or said)[:60]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, action="append", metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--model", nargs="+", default=["base"])
    parser.add_argument("--memory", nargs="+", default=["whole", "auto"], help="limits; whole and auto are two more")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.size = arguments.size or [[480, 640], [1088, 1920]]
    if arguments.child:
        measure(arguments)
        return
    table = Table(title=f"peak memory beyond the network and two images; engine {arguments.engine}")
    for column in ("model", "size", "--memory", "plan", "GiB", "of the published", "s a frame"):
        table.add_column(column, justify="right", no_wrap=True)
    for model in arguments.model:
        for height, width in arguments.size:
            for memory in arguments.memory:
                command = [sys.executable, __file__, "--child", "--engine", arguments.engine, "--model", model]
                command += ["--memory", memory, "--size", str(height), str(width), "--repeats", str(arguments.repeats)]
                run = subprocess.run(command, check=False, capture_output=True, text=True)
                if run.returncode:
                    table.add_row(model, f"{width}x{height}", memory, reason_of(run))
                    continue
                found = json.loads(run.stdout)
                reference = REFERENCE.get((height, width)) if model == "base" else None
                share = f"{found['peak'] / GIB / reference:.0%}" if reference else ""
                seconds = f"{found['seconds']:.2f}"
                row = (found["plan"], f"{found['peak'] / GIB:.2f}", share, seconds)
                table.add_row(model, f"{width}x{height}", memory, *row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
