"""Run a public benchmark: from its folder to a report, worst cases and all."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from uprnet.errors import InvalidInputError
from uprnet.evaluation.layouts import BENCHMARKS, Benchmark, Protocol, choose, find_items
from uprnet.evaluation.loop import METRICS, OURS, FrameResult, evaluate, network_facts, network_methods
from uprnet.evaluation.metrics import metric_device
from uprnet.evaluation.perceptual import lpips_metric
from uprnet.evaluation.processes import joined
from uprnet.evaluation.progress import BenchmarkProgress, Counter
from uprnet.evaluation.published import published_scores
from uprnet.evaluation.report import Report, ResultsFolder, short_name
from uprnet.evaluation.samples import Item, as_tensor, read_ahead, read_item
from uprnet.files import check_folder
from uprnet.interpolate import Interpolator
from uprnet.media.images import encode_image
from uprnet.media.output import complete_folder
from uprnet.options import NetworkOptions
from uprnet.show import Picture, as_picture, sheet

logger = logging.getLogger(__name__)

ERROR_GAIN = 4.0
"""By how much errors are enlarged on the sheets of worst cases, so that a quarter of full scale is brightest."""

SHEET_NAME = re.compile(r"\d{2,}-.+-t0\.\d{3}-.+dB\.png", re.DOTALL)
"""What `save_worst` calls a sheet: place, item, time and PSNR."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure and how.

    Attributes:
        name: triplets, vimeo90k, septuplet, ucf101, snu-film or x4k1000fps.
        data_root: Folder of the data set.
        network: Which network, where it runs, and how.
        subset: Part of the data set: easy, medium, hard, extreme; 4k, 2k. The first if empty.
        factor: Frames after per frame before: snu-film 2, 4, 8; x4k1000fps 8, 4, 2. The first if None.
        tta: Measure the mean over flips, too, as a row of its own.
        lpips: Measure LPIPS, too; needs the extra ``lpips``.
        limit: Measure this many items only, spread evenly over the data set.
        batch_size: Items of one size that are predicted together.
        num_workers: Threads that read ahead.
        results: Folder that keeps results item by item; with it, a stopped benchmark goes on.
    """

    name: str
    data_root: Path
    network: NetworkOptions = field(default_factory=NetworkOptions)
    subset: str = ""
    factor: int | None = None
    tta: bool = False
    lpips: bool = False
    limit: int | None = None
    batch_size: int = 1
    num_workers: int = 1
    results: Path | None = None


def run_benchmark(options: BenchmarkOptions, progress: Callable[[BenchmarkProgress], None] | None = None) -> Report:
    """Measure a network on a public benchmark, by the protocol of the paper.

    Under torchrun each process measures a share of the items, and each item counts once.

    Args:
        options: What to measure and how.
        progress: Called after every item. Under torchrun it tells of the share of its own process.

    Returns:
        The report; under torchrun the whole of it in every process.

    Raises:
        InvalidInputError: If the request makes no sense, or images of an item differ in size.
        MediaError: If the data set is not there, is another one, or lacks frames.
        WeightsError: If the weights cannot be read.
        MissingDependencyError: If LPIPS is asked for and not installed.

    Example:
        >>> report = run_benchmark(BenchmarkOptions("ucf101", Path("ucf101_interp_ours")))  # doctest: +SKIP
        >>> report.means()[0].scores["psnr"]  # doctest: +SKIP
        35.41
    """
    benchmark, subset, factor, protocol = _chosen(options)
    if options.num_workers < 0:
        raise InvalidInputError(f"num_workers must be at least 0, got {options.num_workers}")
    listed = find_items(benchmark, options.data_root, subset, factor)
    items = _limited(listed, options.limit)
    count = benchmark.count or len(listed)
    with joined() as processes:
        network = replace(options.network, device=processes.device(options.network.device))
        interpolator = _interpolator(network, protocol)
        if len(listed) != count and processes.is_main:
            logger.warning("%d of %d items; not comparable with the paper", len(listed), count)
        facts = _facts(options, subset, factor, protocol) | network_facts(options.network, interpolator)
        folder = None
        if options.results:
            with processes.main_first():
                folder = ResultsFolder(options.results, facts)
        mine = _measure(processes.share(items), options, protocol, interpolator, folder, progress)
        found = {name: results for part in processes.gather(mine) for name, results in part.items()}
    size = interpolator.model.config.size
    title = " ".join(part for part in (benchmark.title, subset, f"x{factor}", options.network.model) if part)
    settings = facts | {"model": options.network.model, "limit": options.limit}
    in_order = tuple(result for item in items for result in found[item.name])
    published = published_scores(benchmark.name, subset, factor)
    return Report(title, settings, in_order, published, size, is_whole=len(items) == count)


def _measure(
    items: list[Item],
    options: BenchmarkOptions,
    protocol: Protocol,
    interpolator: Interpolator,
    folder: ResultsFolder | None,
    progress: Callable[[BenchmarkProgress], None] | None,
) -> dict[str, list[FrameResult]]:
    """Return the results of each item: those that were kept, and new ones for the others."""
    found = {item.name: results for item in items if folder and (results := folder.read(item.name)) is not None}
    counter = Counter(len(items), progress)
    for results in found.values():
        counter.count(results, is_new=False)
    left = [item for item in items if item.name not in found]
    samples = read_ahead(left, options.num_workers, protocol.shrink)
    methods = network_methods(interpolator, options.tta)
    metrics = dict(METRICS)
    if options.lpips and left:
        metrics["lpips"] = lpips_metric(metric_device(interpolator.device))
    device, size = interpolator.device, options.batch_size
    measured = evaluate(samples, methods, device=device, batch_size=size, metrics=metrics)
    try:
        for item, results in zip(left, measured, strict=True):
            if folder:
                folder.write(item.name, results)
            found[item.name] = results
            counter.count(results)
    except KeyboardInterrupt as error:
        if not folder:
            raise
        kept = f"{len(found)} of {len(items)} items are kept in {folder.folder}"
        raise type(error)(f"interrupted; {kept}; run the same command to go on") from None
    return found


def save_worst(report: Report, options: BenchmarkOptions, count: int, folder: Path, *, overwrite: bool = False) -> None:
    """Make the frames with the lowest PSNR again and write a sheet of each, worst first.

    A sheet shows the inputs, the target, the prediction and their difference (enlarged four times).

    Args:
        report: What `run_benchmark` returned.
        options: What it was given.
        count: How many sheets.
        folder: A folder that is not there yet, or is empty.
        overwrite: Replace the sheets of an earlier run; all else in the folder stays.

    Raises:
        InvalidInputError: If ``count`` is below 1.
        OutputExistsError: If the folder holds anything and ``overwrite`` is false.
        MediaError: If it cannot be written.
    """
    check_worst(count, folder, overwrite=overwrite)
    benchmark, subset, factor, protocol = _chosen(options)
    items = {item.name: item for item in find_items(benchmark, options.data_root, subset, factor)}
    interpolator = _interpolator(options.network, protocol)
    written = set()
    with complete_folder(folder, overwrite) as hidden:
        for place, result in enumerate(report.worst(count, OURS), 1):
            cells = _worst_cells(items[result.item], result, interpolator, protocol)
            name = short_name(result.item.replace("/", "-"))
            file = hidden / f"{place:02d}-{name}-t{float(result.t):.3f}-{result.scores['psnr']:.2f}dB.png"
            file.write_bytes(encode_image(".png", sheet(cells)))
            written.add(file.name)
    for path in folder.iterdir():
        if SHEET_NAME.fullmatch(path.name) and path.name not in written:
            path.unlink()


def check_worst(count: int, folder: Path, *, overwrite: bool) -> None:
    """Check, before a benchmark, that `save_worst` will be able to write its sheets.

    Raises:
        InvalidInputError: If ``count`` is below 1.
        OutputExistsError: If the folder holds anything and ``overwrite`` is false.
        MediaError: If it cannot be written.
    """
    if count < 1:
        raise InvalidInputError(f"the number of sheets of worst frames must be at least 1, got {count}")
    check_folder(folder, overwrite=overwrite)


def _worst_cells(item: Item, result: FrameResult, interpolator: Interpolator, protocol: Protocol) -> dict[str, Picture]:
    sample = read_item(item, protocol.shrink)
    target = as_picture(sample.targets[sample.times.index(result.t)])
    img0, img1 = as_tensor(sample.img0, interpolator.device), as_tensor(sample.img1, interpolator.device)
    frame = interpolator.between(img0, img1, [float(result.t)])[0]
    prediction = as_picture(frame[0].permute(1, 2, 0).cpu().numpy())
    difference = np.abs(prediction.astype(np.float32) - target).mean(axis=2) * ERROR_GAIN
    heat = cv2.applyColorMap(difference.clip(0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return {
        "img0, t = 0": as_picture(sample.img0),
        f"target, t = {result.t}": target,
        "img1, t = 1": as_picture(sample.img1),
        f"prediction, {result.scores['psnr']:.2f} dB": prediction,
        f"difference x {ERROR_GAIN:g}": np.asarray(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), dtype=np.uint8),
    }


def _chosen(options: BenchmarkOptions) -> tuple[Benchmark, str, int, Protocol]:
    if options.name not in BENCHMARKS:
        raise InvalidInputError(f"the benchmark must be one of {', '.join(BENCHMARKS)}, got {options.name}")
    benchmark = BENCHMARKS[options.name]
    subset, factor = choose(benchmark, options.subset, options.factor)
    return benchmark, subset, factor, benchmark.subsets[subset]


def _limited(items: list[Item], limit: int | None) -> list[Item]:
    if limit is None or limit >= len(items):
        return items
    if limit < 1:
        raise InvalidInputError(f"limit must be at least 1, got {limit}")
    return [items[index * len(items) // limit] for index in range(limit)]


def _interpolator(network: NetworkOptions, protocol: Protocol) -> Interpolator:
    return network.interpolator(
        num_levels=protocol.num_levels,
        skip_finest=protocol.skip_finest,
        padding="constant",  # as the published numbers were made
    )


def _facts(options: BenchmarkOptions, subset: str, factor: int, protocol: Protocol) -> dict[str, Any]:
    """What the numbers of an item depend on; how fast they come, and of how many items, is not part of it."""
    return {
        "benchmark": options.name,
        "data_root": str(options.data_root.resolve()),
        "subset": subset,
        "factor": factor,
        "num_levels": protocol.num_levels,
        "skip_finest": protocol.skip_finest,
        "shrink": protocol.shrink,
        "tta": options.tta,
        "lpips": options.lpips,
    }
