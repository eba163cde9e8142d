"""What a training step costs, measured in one process on this machine.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/training.py --model base --crop 128 --batch 8

The variable is what the command line sets, too.

Prints the time of the forward pass's convolutions alone, of a whole step, their ratio, the share of the custom
operators' backward passes in the step, and how many samples a second the loader makes against how many the step takes.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from operators import medians
from torch.profiler import ProfilerActivity, profile

from uprnet.engines.gradients import use_winograd
from uprnet.evaluation.runtime import convolutions_of
from uprnet.network.allocator import reuse_freed_memory
from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.training.config import read_recipe
from uprnet.training.mixture import DataConfig, TrainingStream
from uprnet.training.objective import LossConfig, Objective
from uprnet.training.sample import Batch, collate
from uprnet.training.side_by_side import SideBySide
from uprnet.training.synthetic import SyntheticConfig


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base", help="small, base, large or xlarge")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--engine", choices=("numba", "torch"), default="numba")
    parser.add_argument("--recipe", type=Path, help="measure the loader of this recipe instead of synthetic motion")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reuse_freed_memory()  # as the training loop does

    data = DataConfig(crop=arguments.crop, synthetic=SyntheticConfig(weight=1.0))
    samples = [TrainingStream(data, 0, 100)[index] for index in range(arguments.batch)]
    batch = collate(samples).unpack(torch.device("cpu"), channels_last=True)
    model = UPRNet(ModelConfig.from_size(arguments.model)).to(memory_format=torch.channels_last)
    replay = convolution_replay(model, batch)  # by torch
    if arguments.engine == "numba":
        use_winograd(model)
    step = training_step(model, batch, arguments.threads)
    times = medians({"convolutions": replay, "step": step}, arguments.repeats)
    convolutions, whole = times["convolutions"], times["step"]
    torch.set_num_threads(1)  # the profiler sees this thread alone
    share = operator_backward_share(training_step(model, batch, 1))
    torch.set_num_threads(arguments.threads)
    size = f"{arguments.batch} x {arguments.crop}x{arguments.crop}"
    print(f"{arguments.model}, {arguments.engine}, {size}, {arguments.threads} threads")
    print(f"forward convolutions alone   {convolutions:7.3f} s")
    print(f"training step                {whole:7.3f} s   {whole / convolutions:.2f} x the convolutions")
    print(f"custom operators' backward   {share:7.1%} of the step, on one thread")
    loader_data = read_recipe(arguments.recipe).data if arguments.recipe else data
    print(f"step takes                   {arguments.batch / whole:7.1f} samples/s")
    print(f"one loader worker makes      {loader_speed(loader_data):7.1f} samples/s")


def training_step(model: UPRNet, batch: Batch, threads: int) -> Callable[[], object]:
    """One step as the paper's recipe takes it: charbonnier and census on the finest frame, AdamW."""
    objective = Objective(model, LossConfig(), num_levels=3)
    differentiate = SideBySide(objective, threads) if threads > 1 else None
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-6)

    def step() -> None:
        if differentiate is None:
            objective(batch)[0].mean().backward()
        else:
            differentiate(batch)
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def convolution_replay(model: UPRNet, batch: Batch) -> Callable[[], object]:
    """All convolutions of a forward pass by torch, on noise of the sizes that they receive there, and nothing else."""
    plain = copy.deepcopy(model)  # an engine may take the model over
    with torch.no_grad():
        calls = convolutions_of(plain, lambda: plain(batch.img0, batch.img1, batch.t))

    @torch.no_grad()
    def replay() -> None:
        for layer, source in calls:
            layer(source)

    return replay


def operator_backward_share(step: Callable[[], object]) -> float:
    """Share of a step's time spent in the backward passes of splatting and of the cost volume."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    events = found.key_averages()
    ours = sum(event.cpu_time_total for event in events if event.key.startswith("uprnet::") and "backward" in event.key)
    return ours / sum(event.self_cpu_time_total for event in events)


def loader_speed(data: DataConfig, samples: int = 64) -> float:
    """Samples a second that one worker with one thread prepares, batching included."""
    cv2.setNumThreads(0)  # as in a worker
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    stream = TrainingStream(data, 0, samples)
    collate([stream[index] for index in np.arange(8)])
    began = time.perf_counter()
    for first in range(0, samples, 8):
        collate([stream[index] for index in range(first, first + 8)])
    torch.set_num_threads(threads)
    return samples / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
