"""Time a whole video against its network alone, and show that memory does not grow: ``python benchmarks/video.py``.

Both times are taken in one process, in turn: the network on the decoded pairs of the bundled clip, and
`interpolate_video` from file to file, with decoding, colour, cuts, encoding and joining. On a CPU all of these share
the cores with the network; on a GPU they do not. Processor time is that of all threads: on a machine that others use,
too, its ratio is the steadier one. Peak memory is that of one process for each length, with a blend in
place of the network.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from uprnet.demo import CLIP
from uprnet.media.video import VideoReader
from uprnet.pipeline import EncoderSettings, SectionOptions, interpolate_video


class Blend:
    """Stands in for the network where only the rest is measured."""

    identity = "blend"

    def between(self, img0: np.ndarray, img1: np.ndarray, times: list[float]) -> list[np.ndarray]:
        """Mix the two images."""
        return [np.rint(img0 * (1 - t) + img1 * t).astype(img0.dtype) for t in times]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["small", "base"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frames", type=int, default=48, help="source frames that are timed")
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--presets", nargs="+", default=["faster", "medium"], help="of x264")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="*", default=[500, 10_000], help="frames of the memory test")
    parser.add_argument("--peak", type=Path, nargs=2, metavar=("SOURCE", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        interpolate_video(*arguments.peak, interpolator=Blend())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    if arguments.models:
        Console().print(times_table(arguments))
    if arguments.lengths:
        Console().print(memory_table(arguments.lengths))


def times_table(arguments: argparse.Namespace) -> Table:
    """Time file to file against the network alone, each as the least of some runs."""
    from uprnet import Interpolator

    with VideoReader(CLIP) as reader:
        images = [frame.image for frame, _ in zip(reader, range(arguments.frames), strict=False)]
    title = f"{CLIP.name}, {images[0].shape[1]}x{images[0].shape[0]}, {len(images)} frames, x{arguments.factor}"
    table = Table(title=title)
    columns = "model", "x264 preset", "network alone s", "file to file s", "ratio", "ratio of processor time"
    for column in columns:
        table.add_column(column, justify="right")
    times = [number / arguments.factor for number in range(1, arguments.factor)]
    for model in arguments.models:
        interpolator = Interpolator(model, arguments.device)
        interpolator.between(*images[:2], times)  # warm
        for preset in arguments.presets:
            alone, whole = [], []
            for _ in range(arguments.repeats):
                start = clocks()
                for img0, img1 in pairwise(images):
                    interpolator.between(img0, img1, times)
                alone.append(clocks() - start)
                with tempfile.TemporaryDirectory() as folder:
                    start = clocks()
                    interpolate_video(
                        CLIP,
                        Path(folder) / "o.mp4",
                        factor=arguments.factor,
                        section=SectionOptions(frames=arguments.frames),
                        encoder=EncoderSettings(preset=preset),
                        interpolator=interpolator,
                    )
                    whole.append(clocks() - start)
            network, everything = np.min(alone, axis=0), np.min(whole, axis=0)
            seconds = [f"{network[0]:.2f}", f"{everything[0]:.2f}"]
            table.add_row(model, preset, *seconds, *(f"{ratio:.3f}" for ratio in everything / network))
    return table


def clocks() -> np.ndarray:
    """Give wall time and processor time, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def memory_table(lengths: list[int]) -> Table:
    """Measure the peak memory of processes that double the frames of clips of these lengths."""
    table = Table(title="peak memory, 320x240, x2, a blend in place of the network")
    for column in ("source frames", "peak MiB"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for length in lengths:
            source = Path(folder) / f"{length}.mp4"
            make_clip(source, length)
            command = [sys.executable, __file__, "--peak", str(source), str(source.with_suffix(".mkv"))]
            peak = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            table.add_row(str(length), f"{float(peak):.0f}")
    return table


def make_clip(path: Path, length: int) -> None:
    """Encode a grey-blue picture that rolls."""
    y, x = np.mgrid[0:240, 0:320]
    picture = np.stack([x * 180 // 320, y, (x * y) % 256], axis=-1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(length):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, 2 * index, axis=1)), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
