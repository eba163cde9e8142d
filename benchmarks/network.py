"""Time one frame of the network against its convolutions alone: ``python benchmarks/network.py``.

The convolutions of one run are recorded with the sizes of their inputs, then replayed alone, on noise, by torch, in the
same process; both are timed in turn. Run it as ``make benchmarks`` does, with ``OMP_WAIT_POLICY=PASSIVE``, which the
command line sets, too.
"""

from __future__ import annotations

import argparse
from itertools import islice, product

import cv2
import numpy as np
import torch
from operators import medians
from rich.console import Console
from rich.table import Table

from uprnet import Interpolator
from uprnet.demo import CLIP
from uprnet.evaluation.runtime import convolutions_of
from uprnet.media.video import VideoReader

#: So much that frames are computed whole: cutting them to stripes costs time, which benchmarks/memory.py measures.
AMPLE = "64GiB"


def real_frames(height: int, width: int) -> list[np.ndarray]:
    """Return three frames of the bundled clip: real motion, because splatting depends on where things move."""
    with VideoReader(CLIP) as reader:
        frames = [frame.image for frame in islice(reader, 24, 27)]
    return [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small", "base"])
    parser.add_argument("--engines", nargs="+", default=["torch", "numba"])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    height, width = arguments.size
    img0, img1, img2 = real_frames(height, width)
    title = f"{width}x{height}, {torch.get_num_threads()} threads, median of {arguments.repeats}"
    table = Table(title=title)
    for column in (
        "model",
        "engine",
        "one frame s",
        "torch's convolutions s",
        "ratio",
        "next pair, 7 frames: s a frame",
        "ratio",
    ):
        table.add_column(column, justify="right")
    for name, engine in product(arguments.models, arguments.engines):
        interpolator = Interpolator(name, device="cpu", engine=engine, memory=AMPLE)
        by_torch = Interpolator(name, device="cpu", engine="torch", memory=AMPLE)

        def one_frame() -> None:
            interpolator._recent.clear()  # noqa: B023
            interpolator(img0, img1)  # noqa: B023

        calls = convolutions_of(by_torch.model, lambda: by_torch(img0, img1))  # noqa: B023

        @torch.inference_mode()
        def convolutions() -> None:
            for convolution, tensor in calls:  # noqa: B023
                convolution(tensor)

        def next_pair() -> None:
            interpolator._recent.clear()  # noqa: B023
            interpolator.pair(img0, img1).flow()  # noqa: B023

        def next_pair_frames() -> None:
            next_pair()
            interpolator.between(img1, img2, [i / 8 for i in range(1, 8)])  # noqa: B023

        runs = {"frame": one_frame, "conv": convolutions, "pair": next_pair, "pairs": next_pair_frames}
        times = medians(runs, arguments.repeats)
        each = (times["pairs"] - times["pair"]) / 7
        table.add_row(
            name,
            engine,
            f"{times['frame']:.3f}",
            f"{times['conv']:.3f}",
            f"{times['frame'] / times['conv']:.2f}",
            f"{each:.3f}",
            f"{each / times['frame']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
