"""Check and time the network on a GPU: ``python benchmarks/gpu.py``. Please paste the output into an issue.

Every kernel is compared with its definition in double precision: forward, backward, all types, odd sizes, motion to
nowhere, and the same bits on every run where they are asked for. Then come the times of the operators and of whole
frames by size, precision and compilation. With ``--interpret``, the checks alone run without a GPU, under Triton's
interpreter. The exit code is 1 if a check fails, or if there is no GPU.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import distributions
from typing import NamedTuple

import numpy as np
import torch
from operators import medians, operator_table
from rich.console import Console
from rich.table import Table
from torch import Tensor

from network import real_frames
from uprnet import Interpolator
from uprnet.network.ops import backend_for, cost_volume, splat_average, use_backend

#: Largest difference from the definition, as a share of the largest value: a few roundings of each type.
ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}

#: Batch, channels, height and width of what the kernels are checked on.
SHAPES = [(1, 1, 1, 1), (2, 3, 37, 53), (1, 19, 64, 96), (1, 64, 30, 41), (1, 40, 1, 200), (2, 96, 17, 16)]
SHAPES_INTERPRETED = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 40, 2, 3)]

#: Height and width of the frames that are timed.
SIZES = [(480, 640), (1080, 1920), (2160, 3840)]

#: Calls of an operator in a row, so that the time of one launch does not hide that of the kernel.
CALLS = 20

#: The environment variable that makes Triton interpret kernels instead of compiling them.
INTERPRET = "TRITON_INTERPRET"

console = Console(soft_wrap=True, highlight=False)


class Check(NamedTuple):
    """What a check found: the largest error, as a share of the largest value, and how much of it is allowed."""

    name: str
    error: float
    allowed: float

    @property
    def is_passed(self) -> bool:
        """Whether the error is small enough; NaN is not."""
        return self.error <= self.allowed


def random(*size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return multiples of 1/64, which every type but the half ones holds exactly, also when a position is added."""
    return (64 * torch.randn(size, device=device)).round().div(64).to(dtype)


def error(result: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value; NaN where there is one."""
    return float(((result.double() - expected).abs().max() / expected.abs().max().clamp(min=1)).detach())


def largest(errors: Iterable[float]) -> float:
    """Return the largest error; NaN where there is one, which Python's ``max`` passes over."""
    return float(torch.tensor(list(errors), dtype=torch.float64).max())


def checks(device: torch.device, shapes: list[tuple[int, int, int, int]]) -> Iterator[Check]:
    """Compare the kernels with the definitions."""
    for operator in (splat_average, cost_volume):
        for shape in shapes:
            for dtype, allowed in ALLOWED.items():
                yield from check_operator(operator, shape, dtype, allowed, device)
    yield check_nowhere(device)
    yield check_same_bits(device, shapes[-1])


def check_operator(
    operator: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    allowed: float,
    device: torch.device,
) -> Iterator[Check]:
    """Compare values and both gradients, and for splatting those of the deterministic kernels."""
    batch, _, height, width = shape
    first = random(*shape, device=device, dtype=dtype)
    if operator is splat_average:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        second = 3 * random(batch, 2, height, width, device=device, dtype=wide)
    else:
        second = random(*shape, device=device, dtype=dtype)
    with use_backend("torch"):
        wide_leaves = [tensor.double().requires_grad_() for tensor in (first, second)]
        expected = operator(*wide_leaves)
        slopes = random(*expected.shape, device=device)
        expected_gradients = torch.autograd.grad((expected * slopes).sum(), wide_leaves)
    name = f"{operator.__name__} {shape} {str(dtype).removeprefix('torch.')}"
    leaves = [tensor.clone().requires_grad_() for tensor in (first, second)]
    result = operator(*leaves)
    yield Check(f"{name} forward", error(result, expected), allowed)
    gradients = torch.autograd.grad((result * slopes).sum(), leaves)
    worst = largest(error(*both) for both in zip(gradients, expected_gradients, strict=True))
    yield Check(f"{name} backward", worst, allowed)
    if operator is splat_average:
        torch.use_deterministic_algorithms(True)
        yield Check(f"{name} deterministic", error(operator(first, second), expected), allowed)
        torch.use_deterministic_algorithms(False)


def check_nowhere(device: torch.device) -> Check:
    """Send pixels to no place at all; they are to be dropped, and their gradients to be 0."""
    source, flow = torch.ones(1, 3, 6, 7, device=device), torch.zeros(1, 2, 6, 7, device=device)
    expected = torch.ones_like(source)
    for column, bad in enumerate((math.nan, math.inf, -math.inf, 1e30, -1e30)):
        flow[0, column % 2, 3, column] = bad
        expected[..., 3, column] = 0
    leaves = source.requires_grad_(), flow.requires_grad_()
    result = splat_average(*leaves)
    gradient, flow_gradient = torch.autograd.grad(result.sum(), leaves)
    is_finite = bool(flow_gradient.isfinite().all())
    worst = largest((error(result, expected), error(gradient, expected), 0.0 if is_finite else math.inf))
    return Check("flow that is no number, and too far", worst, 1e-6)


def check_same_bits(device: torch.device, shape: tuple[int, int, int, int]) -> Check:
    """Run the deterministic splatting many times."""
    batch, _, height, width = shape
    source, flow = torch.randn(shape, device=device), 9 * torch.randn(batch, 2, height, width, device=device)
    torch.use_deterministic_algorithms(True)
    results = [splat_average(source, flow) for _ in range(2 if device.type == "cpu" else 50)]
    torch.use_deterministic_algorithms(False)
    same = all(torch.equal(result, results[0]) for result in results)
    return Check("deterministic splatting, the same bits on every run", 0.0 if same else math.inf, 0.0)


def print_checks(found: list[Check]) -> bool:
    """Print the worst of each group, and every failure; return whether all passed."""
    failed = [check for check in found if not check.is_passed]
    for check in failed:
        console.print(f"FAILED: {check.name}: error {check.error:.1e}, allowed {check.allowed:.1e}")
    if found:
        worst = max(found, key=lambda check: check.error / check.allowed if check.allowed else 0.0)
        console.print(
            f"{len(found) - len(failed)} of {len(found)} checks passed; "
            f"nearest to its limit: {worst.name}, error {worst.error:.1e} of {worst.allowed:.1e} allowed"
        )
    return not failed


def print_environment(device: torch.device) -> None:
    """Print what the numbers depend on."""
    properties = torch.cuda.get_device_properties(device)
    runtime = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    memory = properties.total_memory / 2**30
    console.print(f"{properties.name}, capability {properties.major}.{properties.minor}, {memory:.0f} GiB, {runtime}")
    console.print(f"{platform.platform()}, Python {platform.python_version()}")
    packages = ("uprnet", "torch", "triton", "triton-windows")
    versions = {found.name: found.version for found in distributions() if found.name in packages}
    console.print(", ".join(f"{name} {number}" for name, number in versions.items()))
    console.print(f"operators: {backend_for(torch.empty(0, device=device))}")


def frame_table(models: list[str], sizes: list[tuple[int, int]], repeats: int, *, with_compile: bool) -> Table:
    """Time whole frames, from arrays to arrays."""
    table = Table(title=f"frames, median of {repeats}")
    for column in ("model", "size", "precision", "compiled", "x2 ms", "x8 ms a frame", "peak MiB", "dB to fp32"):
        table.add_column(column, justify="right")
    for model in models:
        for height, width in sizes:
            frames = real_frames(height, width)
            exact = None
            for precision in ("fp32", "fp16", "bf16"):
                for is_compiled in (False, True) if with_compile else (False,):
                    try:
                        interpolator = Interpolator(model, "cuda", precision=precision, compile=is_compiled)
                        times, peak, frame = time_frames(interpolator, frames, repeats)
                    except torch.cuda.OutOfMemoryError:
                        cells, frame = ["out of memory", "", "", ""], None
                    else:
                        exact = frame if exact is None else exact
                        cells = [f"{times['x2']:.1f}", f"{times['x8']:.1f}", f"{peak:.0f}", decibels(frame, exact)]
                    mark = "yes" if is_compiled else "no"
                    table.add_row(model, f"{width}x{height}", precision, mark, *cells)
                    interpolator = None
                    gc.collect()  # recorded graphs are cycles of references
                    torch.cuda.empty_cache()
    return table


def time_frames(
    interpolator: Interpolator, frames: list[np.ndarray], repeats: int
) -> tuple[dict[str, float], float, np.ndarray]:
    """Return milliseconds a frame, the peak of memory above the network's own in MiB, and the frame in the middle."""
    img0, img1, img2 = frames
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    eighths = [i / 8 for i in range(1, 8)]

    def double() -> np.ndarray:
        interpolator(img0, img1)
        return interpolator(img1, img2)

    def eight_times() -> None:
        interpolator.between(img0, img1, eighths)
        interpolator.between(img1, img2, eighths)

    # The first two runs of a size compile and record.
    for _ in range(2):
        double()
        eight_times()
    times = medians({"x2": double, "x8": eight_times}, repeats)
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    frame = interpolator(*(image.astype(np.float32) / 255 for image in (img0, img1)))
    return {"x2": times["x2"] * 1e3 / 2, "x8": times["x8"] * 1e3 / 14}, peak, frame


def decibels(frame: np.ndarray, exact: np.ndarray) -> str:
    """Return how near a frame is to another."""
    difference = float(np.square(frame - exact).mean())
    return f"{-10 * math.log10(difference):.0f}" if difference else "same"


def main() -> int:
    """Check, time, print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpret", action="store_true", help="check the kernels under Triton's interpreter")
    parser.add_argument("--models", nargs="+", default=["small", "base"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile and CUDA graphs out")
    arguments = parser.parse_args()
    if arguments.interpret:
        if os.environ.get(INTERPRET) != "1":  # to be said before anything imports Triton
            command = [sys.executable, *sys.argv]
            return subprocess.run(command, env={**os.environ, INTERPRET: "1"}, check=False).returncode
        with use_backend("triton"):
            found = list(checks(torch.device("cpu"), SHAPES_INTERPRETED))
        return 0 if print_checks(found) else 1
    if not torch.cuda.is_available():
        console.print("There is no GPU that torch can use here; --interpret checks the kernels without one.")
        return 1
    device = torch.device("cuda", torch.cuda.current_device())
    console.print("Please paste all of this into an issue: such numbers are rare.\n")
    print_environment(device)
    is_right = print_checks(list(checks(device, SHAPES)))
    console.print(operator_table(device, arguments.repeats, CALLS))
    console.print(frame_table(arguments.models, SIZES, arguments.repeats, with_compile=not arguments.no_compile))
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
