"""Compile every Triton kernel for a GPU that need not be there, through the calls that users make; print how many.

    python tests/network/compile_triton.py cuda 80

Prints, as JSON, the number of compiled variants of each kernel after one picture size, and after several.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from uprnet.network.ops import cost_volume, splat_average, triton_kernels, use_backend


def pretend(kind: str, architecture: str) -> None:
    """Make Triton believe that there is such a GPU, and stop before it launches anything there."""
    target = GPUTarget(kind, int(architecture) if kind == "cuda" else architecture, 32 if kind == "cuda" else 64)
    pretended = SimpleNamespace(
        get_current_target=lambda: target, get_current_device=lambda: 0, get_current_stream=lambda _: 0
    )
    driver.set_active(pretended)
    compile_and_run = JITFunction.run
    JITFunction.run = lambda *args, **options: compile_and_run(*args, **{**options, "warmup": True})


def run(height: int, width: int) -> None:
    """Call both operators, forward and backward, with numbers of channels that small and base have."""
    for channels in (16, 19, 64):
        source = torch.zeros(1, channels, height, width, dtype=torch.float16, requires_grad=True)
        two_ways = torch.zeros(1, 4, height, width)
        for deterministic in (False, True):
            torch.use_deterministic_algorithms(deterministic)
            splat_average(source, two_ways[:, 2:]).sum().backward()
            cost_volume(source, source).sum().backward()


def variants() -> dict[str, int]:
    """Count what is compiled."""
    kernels = {name: value for name, value in vars(triton_kernels).items() if isinstance(value, JITFunction)}
    return {name: len(kernel.device_caches[0][0]) for name, kernel in kernels.items() if not name.startswith("_")}


if __name__ == "__main__":
    pretend(*sys.argv[1:])
    with use_backend("triton"):
        run(16, 32)
        counts = [variants()]
        for size in ((17, 31), (33, 48), (1, 1), (64, 1)):
            run(*size)
        counts.append(variants())
    print(json.dumps(counts))
