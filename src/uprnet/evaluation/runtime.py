"""How fast the network is, honestly: warmed up, with the device waited for, and each size really timed."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from uprnet.devices import pick_device
from uprnet.errors import InvalidInputError
from uprnet.files import write_whole
from uprnet.interpolate import Interpolator
from uprnet.network.config import (
    PADDING_VALUE,
    SIZES,
    Engine,
    ModelConfig,
    Precision,
    size_multiple,
)
from uprnet.network.model import UPRNet
from uprnet.network.precision import choose_dtype, with_convolutions_in
from uprnet.network.weights import load_model

MOTION = 4
"""Pixels by which the second picture is moved: flow of some length, so that splatting has its usual work."""


@dataclass(frozen=True)
class RuntimeOptions:
    """What to time and how.

    Attributes:
        models: Sizes (small, base, large, xlarge) or paths of weights files; a size without weights inside the
            package is timed with random ones, which cost the same.
        height: Height of the frames, in pixels.
        width: Width of the frames, in pixels.
        times: Numbers of new frames per pair.
        device: auto, cpu, cuda, cuda:1, mps, ...
        engine: What runs the convolutions, see `uprnet.Interpolator`.
        precision: auto, fp32, bf16 or fp16.
        memory: Memory that the work may take, such as 4GiB; as much as is free if None.
        compile: Run through torch.compile.
        threads: Threads on the CPU; torch's own choice if None.
        repeats: Runs that are timed.
        warmup: Runs before them that are not.
    """

    models: tuple[str, ...] = ("base",)
    height: int = 480
    width: int = 640
    times: tuple[int, ...] = (1, 7)
    device: str = "auto"
    engine: Engine = "auto"
    precision: Precision = "auto"
    memory: str | None = None
    compile: bool = False
    threads: int | None = None
    repeats: int = 10
    warmup: int = 2


@dataclass(frozen=True)
class Timing:
    """Latency of one way to use the network, in seconds.

    Attributes:
        frames: New frames per pair.
        reuses_features: Whether the features of the first frame are there from the pair before, as in a video.
        median: Median of the runs.
        fastest: Fastest run.
        slowest: Slowest run.
        fps: New frames per second, at the median.
    """

    frames: int
    reuses_features: bool
    median: float
    fastest: float
    slowest: float
    fps: float


@dataclass(frozen=True)
class Runtime:
    """What was found out about one network.

    Attributes:
        model: What it was called.
        engine: What ran its convolutions.
        parameters: How many it has.
        gflops: Thousand million floating-point operations of one frame (a multiply-add counts as two), as torch
            counts them: convolutions and matrix products, not splatting and the cost volume.
        num_levels: Levels of the pyramid.
        skip_finest: Finest levels without motion estimation.
        timings: One for each number of frames, with features made anew and reused.
        convolution_share: Time that torch takes for the convolutions of one frame alone, over that of the frame; above
            1 where an engine is faster.
        peak_memory: Bytes that one frame takes: of the device on CUDA, else of the whole process so far, which only
            grows from one network to the next. None where the system does not say.
    """

    model: str
    engine: str
    parameters: int
    gflops: float
    num_levels: int
    skip_finest: int
    timings: tuple[Timing, ...]
    convolution_share: float
    peak_memory: int | None


@dataclass(frozen=True)
class RuntimeReport:
    """The outcome of `measure_runtime`.

    Attributes:
        options: What was asked for.
        machine: Device, threads and versions.
        runtimes: One for each model.
    """

    options: RuntimeOptions
    machine: dict[str, str]
    runtimes: tuple[Runtime, ...]

    def write_json(self, path: Path, *, overwrite: bool = False) -> None:
        """Write everything to a JSON file, whole or not at all."""
        with write_whole(path, overwrite=overwrite) as hidden:
            hidden.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def table(self) -> Table:
        """Return what a terminal shows."""
        where = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        title = f"{self.options.width}x{self.options.height}, {self.options.precision}, seconds; {where}"
        table = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("model", overflow="fold")
        table.add_column("features", no_wrap=True)
        for name in ("frames", "median", "from", "to", "fps", "conv.", "MiB"):
            table.add_column(name, justify="right", no_wrap=True)
        for runtime in self.runtimes:
            heads = [
                f"{runtime.model}, {runtime.gflops:.1f} GFLOP",
                f"{runtime.parameters:,} parameters",
                runtime.engine,
            ]
            share = f"{runtime.convolution_share:.0%}"
            memory = "" if runtime.peak_memory is None else f"{runtime.peak_memory / 2**20:.0f}"
            for place, timing in enumerate(runtime.timings):
                table.add_row(
                    Text(heads[place] if place < len(heads) else ""),
                    "reused" if timing.reuses_features else "new",
                    str(timing.frames),
                    *(f"{value:.3f}" for value in (timing.median, timing.fastest, timing.slowest)),
                    f"{timing.fps:.2f}",
                    *((share, memory) if place == 0 else ("", "")),
                )
        return table


def measure_runtime(options: RuntimeOptions, progress: Callable[[str], None] | None = None) -> RuntimeReport:
    """Time networks on made-up frames of one size.

    Every run ends when the device has finished. The share of convolutions is found by recording the convolutions of
    one frame with their inputs and timing them alone, by torch, in turn with the whole, so that noise hits both.

    Args:
        options: What to time and how.
        progress: Called with the name of each model before it is timed.

    Raises:
        InvalidInputError: If a number is out of range or there is no such device.
        WeightsError: If weights cannot be read.

    Example:
        >>> report = measure_runtime(RuntimeOptions(("small",), 64, 96, repeats=1, warmup=0))
        >>> report.runtimes[0].parameters
        420009
    """
    _check(options)
    device = pick_device(options.device)
    threads = torch.get_num_threads()
    try:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        machine = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "threads": str(torch.get_num_threads()),
            "torch": torch.__version__,
            "platform": platform.machine(),
        }
        runtimes = []
        for model in options.models:
            if progress is not None:
                progress(model)
            runtimes.append(_measure_model(model, options))
    finally:
        torch.set_num_threads(threads)
    return RuntimeReport(options, machine, tuple(runtimes))


def _check(options: RuntimeOptions) -> None:
    if min(options.height, options.width) < 16:
        raise InvalidInputError(f"frames must be at least 16 x 16 pixels, got {options.height} x {options.width}")
    if not options.times or min(options.times) < 1 or not options.models:
        raise InvalidInputError(f"one or more models and numbers of frames from 1 are needed, got {options.times}")
    if options.repeats < 1 or options.warmup < 0 or (options.threads is not None and options.threads < 1):
        raise InvalidInputError("repeats and threads must be at least 1, and warmup at least 0")


def _measure_model(name: str, options: RuntimeOptions) -> Runtime:
    network = _network(name).eval().requires_grad_(False)
    interpolator = Interpolator(
        network,
        options.device,
        engine=options.engine,
        precision=options.precision,
        memory=options.memory,
        compile=options.compile,
    )
    device = interpolator.device
    levels, skip = interpolator.levels_for(options.height, options.width)
    img0, img1 = _frames(options, levels, device)

    def frames(count: int, is_known: bool) -> Callable[[], object]:
        def run() -> None:
            with interpolator._at_work():
                features0 = known if is_known else used.encode(img0, levels, skip)
                features1 = used.encode(img1, levels, skip)
                motion = used.estimate_motion(features0, features1)
                for k in range(1, count + 1):
                    used.synthesize(features0, features1, motion, k / (count + 1))

        return run

    with torch.inference_mode():
        used = interpolator._planned(img0)
        one = frames(1, False)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        one()
        peak_memory = _peak_memory(device)  # before the plain network and its convolutions take some, too
        known = used.encode(img0, levels, skip)
        # The plain network: counters and hooks do not see into engines and compiled code.
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        plain = with_convolutions_in(choose_dtype(options.precision, device), network)
        counter = FlopCounterMode(display=False)
        with counter:
            plain(img0, img1, 0.5, levels, skip)
        calls = convolutions_of(plain, lambda: plain(img0, img1, 0.5, levels, skip))

        def convolutions() -> None:
            for convolution, tensor in calls:
                convolution(tensor)

        runs = {f"{count} {known}": frames(count, known) for count in options.times for known in (False, True)}
        seconds = _time({"one": one, "convolutions": convolutions, **runs}, options, device)
    timings = tuple(
        _timing(count, is_known, seconds[f"{count} {is_known}"])
        for count in options.times
        for is_known in (False, True)
    )
    share = statistics.median(seconds["convolutions"]) / statistics.median(seconds["one"])
    parameters = sum(parameter.numel() for parameter in network.parameters())
    gflops = counter.get_total_flops() / 1e9
    return Runtime(name, interpolator.engine, parameters, gflops, levels, skip, timings, share, peak_memory)


def convolutions_of(model: nn.Module, run: Callable[[], object]) -> list[tuple[nn.Module, Tensor]]:
    """Return every convolution that ``run`` calls, with an input of the size and layout that it got."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append((module, torch.empty_like(inputs[0]).normal_()))

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [convolution.register_forward_pre_hook(record) for convolution in convolutions]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _network(name: str) -> UPRNet:
    embedded = name in ("small", "base")
    is_size = name in SIZES or name == "LARGE"
    return UPRNet(ModelConfig.from_size(name)) if is_size and not embedded else load_model(name)


def _frames(options: RuntimeOptions, levels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two padded frames: smooth noise, and the same moved by some pixels."""
    multiple = size_multiple(levels)
    height, width = options.height, options.width
    noise = torch.rand(1, 3, -(-height // 8), -(-width // 8), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    padding = [0, -width % multiple, 0, -height % multiple]
    first, second = (
        torch.nn.functional.pad(image, padding, value=PADDING_VALUE).to(device, memory_format=torch.channels_last)
        for image in (smooth, smooth.roll(MOTION, dims=3))
    )
    return first, second


def _time(
    runs: dict[str, Callable[[], object]], options: RuntimeOptions, device: torch.device
) -> dict[str, list[float]]:
    """Time each run in turn, round after round, so that what disturbs the machine disturbs all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(options.warmup + options.repeats):
        for name, run in runs.items():
            _wait_for(device)
            start = time.perf_counter()
            run()
            _wait_for(device)
            if round_ >= options.warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait_for(device: torch.device) -> None:
    if device.type not in ("cpu", "meta"):
        torch.accelerator.synchronize(device)


def _timing(count: int, is_known: bool, seconds: Sequence[float]) -> Timing:
    median = statistics.median(seconds)
    return Timing(count, is_known, median, min(seconds), max(seconds), count / median)


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
