"""Time one frame of the network against its convolutions alone: ``python benchmarks/network.py``.

The convolutions of one run are recorded with their inputs, then replayed alone in the same process; both are timed in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from operators import medians
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from uprnet import Interpolator


def convolutions_of(model: nn.Module, run: Callable[[], object]) -> list[tuple[nn.Module, Tensor]]:
    """Return every convolution that ``run`` calls, with an input of the size and layout that it got."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append((module, torch.empty_like(inputs[0]).normal_()))

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [convolution.register_forward_pre_hook(record) for convolution in convolutions]
    run()
    for hook in hooks:
        hook.remove()
    return calls


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small", "base"])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    height, width = arguments.size
    rng = np.random.default_rng(0)
    img0, img1, img2 = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(3))
    title = f"{width}x{height}, {torch.get_num_threads()} threads, median of {arguments.repeats}"
    table = Table(title=title)
    for column in ("model", "one frame s", "its convolutions s", "ratio", "next pair, 7 frames: s a frame", "ratio"):
        table.add_column(column, justify="right")
    for name in arguments.models:
        interpolator = Interpolator(name, device="cpu")

        def one_frame() -> None:
            interpolator._recent.clear()  # noqa: B023
            interpolator(img0, img1)  # noqa: B023

        calls = convolutions_of(interpolator.model, one_frame)

        @torch.inference_mode()
        def convolutions() -> None:
            for convolution, tensor in calls:  # noqa: B023
                convolution(tensor)

        def next_pair() -> None:
            interpolator._recent.clear()  # noqa: B023
            interpolator.pair(img0, img1).flow()  # noqa: B023

        def next_pair_frames() -> None:
            next_pair()  # noqa: B023
            interpolator.between(img1, img2, [i / 8 for i in range(1, 8)])  # noqa: B023

        runs = {"frame": one_frame, "conv": convolutions, "pair": next_pair, "pairs": next_pair_frames}
        times = medians(runs, arguments.repeats)
        each = (times["pairs"] - times["pair"]) / 7
        table.add_row(
            name,
            f"{times['frame']:.3f}",
            f"{times['conv']:.3f}",
            f"{times['frame'] / times['conv']:.2f}",
            f"{each:.3f}",
            f"{each / times['frame']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
