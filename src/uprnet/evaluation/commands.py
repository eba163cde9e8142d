"""The commands that measure: ``uprnet benchmark`` and ``uprnet runtime``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from uprnet.console import Compute, Network, Overwrite, show_table, stderr, stdout
from uprnet.errors import InvalidInputError
from uprnet.evaluation.benchmark import BenchmarkOptions, check_worst, run_benchmark, save_worst
from uprnet.evaluation.own_video import VideoBenchmarkOptions, run_video_benchmark
from uprnet.evaluation.plot import check_matplotlib, plot_over_time
from uprnet.evaluation.processes import Processes
from uprnet.evaluation.progress import BenchmarkProgress
from uprnet.evaluation.report import Report, tables
from uprnet.evaluation.runtime import RuntimeOptions, measure_runtime
from uprnet.files import check_output
from uprnet.options import ComputeOptions, NetworkOptions

benchmark = App(name="benchmark", help="Measure quality: on the data sets of the papers, or on your own videos.")


@benchmark.default
def data_set(
    name: str,
    data_root: Path,
    *,
    network: Network = NetworkOptions(),  # noqa: B008 (it is frozen)
    subset: str = "",
    factor: int | None = None,
    tta: Annotated[bool, Parameter(negative="")] = False,
    lpips: Annotated[bool, Parameter(negative="")] = False,
    limit: int | None = None,
    batch_size: int = 1,
    num_workers: int = 1,
    results: Path | None = None,
    json: Path | None = None,
    csv: Path | None = None,
    save_worst: Annotated[tuple[int, Path] | None, Parameter(name="--save-worst")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a network on a data set, by the protocol of the paper.

    Args:
        name: triplets, vimeo90k, septuplet, ucf101, snu-film or x4k1000fps.
        data_root: Folder of the data set.
        network: The network.
        subset: Part of the data set: easy, medium, hard, extreme; 4k, 2k. The first if left out.
        factor: Frames after per frame before: snu-film 2, 4, 8; x4k1000fps 8, 4, 2. The first if left out.
        tta: Measure the mean over flips, too, as a row of its own.
        lpips: Measure LPIPS, too; needs `pip install uprnet[lpips]` and its weights.
        limit: Measure this many items only, spread evenly over the data set.
        batch_size: Items of one size that are predicted together.
        num_workers: Threads that read ahead.
        results: Folder that keeps results item by item; with it, a stopped benchmark goes on.
        json: Also write everything to this file.
        csv: Also write one line a frame to this file.
        save_worst: How many sheets of the worst frames to write, and a new folder for them.
        overwrite: Replace files that are there, and the sheets of an earlier run.
    """
    _check_outputs(json, csv, overwrite=overwrite)
    if save_worst is not None:
        check_worst(*save_worst, overwrite=overwrite)
    options = BenchmarkOptions(
        name,
        data_root,
        network,
        subset=subset,
        factor=factor,
        tta=tta,
        lpips=lpips,
        limit=limit,
        batch_size=batch_size,
        num_workers=num_workers,
        results=results,
    )
    with _progress_bar() as progress:
        report = run_benchmark(options, progress)
    if not Processes.from_environment().is_main:
        return  # under torchrun every process has the whole report, and one of them shows it
    _show(report, json, csv, overwrite)
    if save_worst is not None:
        count, folder = save_worst
        _save_worst(report, options, count, folder, overwrite=overwrite)
        stdout.print(folder)


@benchmark.command
def video(
    clips: Annotated[list[Path], Parameter(negative="", json_list=False)],
    /,
    *,
    factor: int = 2,
    network: Network = NetworkOptions(),  # noqa: B008 (it is frozen)
    limit: int | None = None,
    longer_side: int | None = None,
    plots: Path | None = None,
    json: Path | None = None,
    csv: Path | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Drop frames of your own videos, make them again, and compare: uprnet and what you would use instead.

    Args:
        clips: Video files.
        factor: Every 2nd, 4th or 8th frame is given, those between are made.
        network: The network.
        limit: Measure the first so many pairs of each clip; all if left out.
        longer_side: Shrink frames to this many pixels first.
        plots: Folder for a plot of each clip over time, NAME.png.
        json: Also write everything to this file.
        csv: Also write one line a frame to this file.
        overwrite: Replace files that are there.
    """
    drawn = []
    if plots is not None:
        if not plots.is_dir():
            raise InvalidInputError(f"--plots must be a folder that is there, got {plots}; make it first")
        check_matplotlib()
        drawn = [plots / f"{clip.stem}.png" for clip in clips]
    _check_outputs(json, csv, *drawn, overwrite=overwrite)
    options = VideoBenchmarkOptions(tuple(clips), factor, network, limit=limit, longer_side=longer_side)
    with _progress_bar() as progress:
        report = run_video_benchmark(options, progress)
    _show(report, json, csv, overwrite)
    for reason, count in report.left_out.items():
        stderr.print(f"left out: {count} {reason}")
    if plots is not None:
        for clip in {result.group: None for result in report.results}:
            path = plots / f"{clip}.png"
            plot_over_time(report, clip, path, overwrite=overwrite)
            stdout.print(path)


def runtime(
    *,
    size: str = "480x640",
    model: Annotated[list[str] | None, Parameter(negative="", json_list=False)] = None,
    times: str = "1,7",
    compute: Compute = ComputeOptions(),  # noqa: B008 (it is frozen)
    threads: int | None = None,
    repeats: int = 10,
    warmup: int = 2,
    json: Path | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Time the network: latency, frames per second, FLOPs, memory, and the share of its convolutions.

    Args:
        size: Height and width of the frames: 480x640.
        model: Sizes (small, base, large, xlarge) or weights files, several times; base if left out.
        times: Numbers of new frames per pair: 1,7.
        compute: Where the network runs, and how.
        threads: Threads on the CPU; torch's own choice if left out.
        repeats: Runs that are timed.
        warmup: Runs before them that are not.
        json: Also write everything to this file.
        overwrite: Replace a file that is there.
    """
    height, width = _numbers(size, "x", "--size must be height x width, such as 480x640", count=2)
    frames = _numbers(times, ",", "--times must be numbers with commas, such as 1,7")
    options = RuntimeOptions(
        tuple(model or ("base",)),
        height,
        width,
        frames,
        threads=threads,
        repeats=repeats,
        warmup=warmup,
        **asdict(compute),
    )
    _check_outputs(json, overwrite=overwrite)
    report = measure_runtime(options, lambda name: stderr.print(f"timing {name}"))
    show_table(report.table())
    if json is not None:
        report.write_json(json, overwrite=overwrite)


_save_worst = save_worst  # the option of that name hides it in `data_set`


def _numbers(text: str, separator: str, expected: str, count: int | None = None) -> tuple[int, ...]:
    parts = text.split(separator)
    if not all(part.isdecimal() for part in parts) or count not in (None, len(parts)):
        raise InvalidInputError(f"{expected}, got {text!r}")
    return tuple(map(int, parts))


def _check_outputs(*paths: Path | None, overwrite: bool) -> None:
    """Check, before anything is measured, that each of the files can be written."""
    seen = set()
    for path in paths:
        if path is not None:
            check_output(path, overwrite=overwrite)
            if path.resolve() in seen:
                raise InvalidInputError(f"each output must be a file of its own, got {path} twice")
            seen.add(path.resolve())


def _show(report: Report, json: Path | None, csv: Path | None, overwrite: bool) -> None:
    for table in tables(report):
        show_table(table)
    if json is not None:
        report.write_json(json, overwrite=overwrite)
    if csv is not None:
        report.write_csv(csv, overwrite=overwrite)


@contextmanager
def _progress_bar() -> Iterator[Callable[[BenchmarkProgress], None]]:
    """Draw a bar on stderr: items done, running mean, remaining time."""
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[mean]}"), TextColumn("{task.fields[left]}")
    bar = Progress(*columns, console=stderr)
    task = bar.add_task("items", total=None, mean="", left="")

    def report(progress: BenchmarkProgress) -> None:
        bar.start()
        left = "" if progress.seconds_left is None else f"{progress.seconds_left:.0f} s left"
        mean = f"mean {progress.mean_psnr:.2f} dB"
        bar.update(task, completed=progress.done, total=progress.total, mean=mean, left=left)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
