"""Time the operators against their plain-torch definitions: ``python benchmarks/operators.py``.

Prints medians over interleaved repeats in one process, forward and backward.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from uprnet.network.allocator import reuse_freed_memory
from uprnet.network.ops import cost_volume, splat_average, use_backend

torch.manual_seed(0)

#: What is timed: the operator, the sizes of its arguments, and the largest values of the second (motion, in pixels).
CASES = {
    "splat (1, 3, 480, 640)": (splat_average, (1, 3, 480, 640), (1, 2, 480, 640), 8.0),
    "splat (1, 16, 480, 640)": (splat_average, (1, 16, 480, 640), (1, 2, 480, 640), 8.0),
    "splat (1, 64, 120, 160)": (splat_average, (1, 64, 120, 160), (1, 2, 120, 160), 2.0),
    "cost volume (1, 64, 120, 160)": (cost_volume, (1, 64, 120, 160), (1, 64, 120, 160), 1.0),
}


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time each of ``runs`` in turn, ``repeats`` times, so that a busy machine troubles all of them alike."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: statistics.median(values) for name, values in times.items()}


def smooth(size: tuple[int, ...]) -> Tensor:
    """Return random values that change slowly over the picture, as motion does."""
    coarse = torch.randn(size[0], size[1], size[2] // 16, size[3] // 16)
    return torch.nn.functional.interpolate(coarse, size=size[2:], mode="bilinear")


def forward_and_backward(operator: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> None:
    """Run ``operator`` and its gradient in both arguments."""
    first, second = first.detach().requires_grad_(), second.detach().requires_grad_()
    operator(first, second).sum().backward()


def operator_table(device: torch.device, repeats: int, calls: int = 1) -> Table:
    """Time the kernels of ``device`` and the definitions; ``calls`` in a row hide what one launch costs."""
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    table = Table(title=f"operators, {where}, median of {repeats}")
    for column in ("operator", "pass", "kernel ms", "torch ms", "torch / kernel"):
        table.add_column(column, justify="right" if column != "operator" else "left")
    for name, (operator, first_size, second_size, scale) in CASES.items():
        channels_last = torch.channels_last
        first = torch.randn(first_size).to(device, memory_format=channels_last)
        second = scale * smooth(second_size) if operator is splat_average else torch.randn(second_size)
        second = second.to(device, memory_format=channels_last)

        def repeated(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                for _ in range(calls):
                    call()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

            return run

        def definition(call: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                with use_backend("torch"):
                    call()

            return run

        passes: dict[str, Callable[[], object]] = {
            "forward": lambda: operator(first, second),  # noqa: B023
            "forward + backward": lambda: forward_and_backward(operator, first, second),  # noqa: B023
        }
        for label, call in passes.items():
            result = medians({"kernel": repeated(call), "torch": definition(repeated(call))}, repeats)
            kernel, plain = (result[kind] * 1e3 / calls for kind in ("kernel", "torch"))
            table.add_row(name, label, f"{kernel:.3g}", f"{plain:.3g}", f"{plain / kernel:.1f}x")
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    reuse_freed_memory()  # as `Interpolator` and training do
    Console().print(operator_table(torch.device("cpu"), repeats))


if __name__ == "__main__":
    main()
