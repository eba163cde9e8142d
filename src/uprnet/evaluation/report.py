"""What came out of a benchmark: results per frame, means, JSON and CSV; and results kept to go on after a stop."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from uprnet.errors import InvalidInputError, MediaError
from uprnet.evaluation.loop import FrameResult
from uprnet.files import write_whole

NAME_BYTES = 200
"""Bytes that a file's name has of an item's: file systems take 255 for the whole name."""

SETTINGS_FILE = "settings.json"

EXACT = "Exact frames have an infinite PSNR and are not in its mean."
"""What stands below a table that has some."""

SHORT_TABLE = 9
"""Groups or times below which a table is shown even if each holds a single item: X-TEST has seven times."""


@dataclass(frozen=True)
class Mean:
    """Means over some frames.

    Attributes:
        method: What predicted them.
        part: ``all``, or the group or time that the frames have in common.
        frames: How many.
        exact: By metric, how many of them are infinite, predicted exactly, and not in its mean.
        scores: Mean of each metric.
        worst_psnr: PSNR of the worst frame, in decibel.
    """

    method: str
    part: str
    frames: int
    exact: dict[str, int]
    scores: dict[str, float]
    worst_psnr: float


@dataclass(frozen=True)
class Report:
    """The outcome of a benchmark.

    Attributes:
        title: What was measured.
        settings: All that the numbers depend on, and what the user called it.
        results: One entry for each frame and method.
        published: PSNR and SSIM of the paper, by size of network; empty where it has none.
        size: Size of the network that ran, ``base`` or another.
        left_out: What was not measured, and how often.
        is_whole: Whether all items were measured, so that the means can be compared with the paper's.
    """

    title: str
    settings: dict[str, Any]
    results: tuple[FrameResult, ...]
    published: dict[str, tuple[float, float]] = field(default_factory=dict)
    size: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    is_whole: bool = True

    def means(self) -> list[Mean]:
        """Mean of each method over all frames."""
        return self._means(lambda _: "all")

    def by_group(self) -> list[Mean]:
        """Mean of each method over the frames of each group."""
        return self._means(lambda result: result.group)

    def by_time(self) -> list[Mean]:
        """Mean of each method over the frames of each time."""
        return self._means(lambda result: str(result.t))

    def _means(self, part_of: Callable[[FrameResult], str]) -> list[Mean]:
        parts: dict[tuple[str, str], list[FrameResult]] = {}
        for result in self.results:
            parts.setdefault((part_of(result), result.method), []).append(result)
        return [_mean(method, part, results) for (part, method), results in parts.items()]

    def worst(self, count: int, method: str) -> list[FrameResult]:
        """Return the frames of a method with the lowest PSNR, worst first."""
        return sorted((r for r in self.results if r.method == method), key=lambda r: r.scores["psnr"])[:count]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold; an infinite PSNR is null."""
        tables = {"means": self.means(), "by_group": self.by_group(), "by_time": self.by_time()}
        published = {size: {"psnr": psnr, "ssim": ssim} for size, (psnr, ssim) in self.published.items()}
        return {
            "title": self.title,
            "settings": self.settings,
            "size": self.size,
            "is_whole": self.is_whole,
            **{name: [_as_json(mean) for mean in means] for name, means in tables.items()},
            "published": published,
            "left_out": self.left_out,
            "results": [_as_record(result) for result in self.results],
        }

    def write_json(self, path: Path, *, overwrite: bool = False) -> None:
        """Write everything to a JSON file, whole or not at all."""
        _write(path, json.dumps(self.as_dict(), indent=1, allow_nan=False), overwrite)

    def write_csv(self, path: Path, *, overwrite: bool = False) -> None:
        """Write one line for each frame and method to a CSV file, whole or not at all."""
        metrics = list(self.results[0].scores) if self.results else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["item", "group", "t", "method", *metrics])
        for r in self.results:
            writer.writerow([r.item, r.group, r.t, r.method, *(r.scores[metric] for metric in metrics)])
        _write(path, text.getvalue(), overwrite)


def tables(report: Report) -> list[Table]:
    """Return the tables that a terminal shows: means beside published numbers, then groups and times if several."""
    metrics = list(report.results[0].scores)
    exact = any(any(mean.exact.values()) for mean in report.means())
    overall = Table(title=escape(report.title), caption=EXACT if exact else None)
    overall.add_column("", overflow="fold")
    for name in ("frames", *metrics, "worst psnr"):
        overall.add_column(name.replace("_", " "), justify="right")
    means = report.means()
    for mean in means:
        overall.add_row(mean.method, str(mean.frames), *_cells(mean, metrics))
    for size, (psnr, ssim) in report.published.items():
        printed = {"psnr": f"{psnr:.2f}", "ssim": f"{ssim:.4f}"}
        overall.add_row(f"paper, {size}", "", *(printed.get(metric, "") for metric in metrics))
    if report.is_whole and report.size in report.published:
        psnr, ssim = report.published[report.size]
        printed = {
            "psnr": f"{means[0].scores['psnr'] - psnr:+.2f}",
            "ssim": f"{means[0].scores['ssim'] - ssim:+.4f}",
        }
        overall.add_row("difference to it", "", *(printed.get(metric, "") for metric in metrics))
    shown = [overall]
    for name, parts in (("group", report.by_group()), ("t", report.by_time())):
        # Parts of one item each, or times that jitter from pair to pair, are for the files and not for a terminal.
        if 1 < len({mean.part for mean in parts}) < max(len({r.item for r in report.results}), SHORT_TABLE):
            table = Table(title=f"by {name}")
            for column in (name, "method"):
                table.add_column(column, overflow="fold")
            for column in ("frames", *metrics, "worst psnr"):
                table.add_column(column.replace("_", " "), justify="right")
            for mean in parts:
                table.add_row(Text(mean.part), mean.method, str(mean.frames), *_cells(mean, metrics))
            shown.append(table)
    return shown


class ResultsFolder:
    """Results kept item by item, so that a benchmark that was stopped goes on where it was.

    Each item is a file of its own that appears when it is complete, so several processes may share the folder.

    Args:
        folder: Where they lie; made if it is not there.
        settings: All that the numbers depend on.

    Raises:
        InvalidInputError: If the folder holds results of other settings.
        MediaError: If the folder cannot be read or made, or holds something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        settings = json.loads(json.dumps(settings))
        file = folder / SETTINGS_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if file.is_file():
                _check_settings(file, settings)
                return
            if any(folder.glob("[!.]*.json")):
                raise MediaError(f"{folder} holds no {SETTINGS_FILE}, so it is no folder of results; give another")
            with write_whole(file, overwrite=True) as hidden:
                hidden.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        except OSError as error:
            raise MediaError(f"cannot keep results in {folder}: {error.strerror}") from error

    def read(self, item: str) -> list[FrameResult] | None:
        """Return the results of an item, or None if it was not measured yet."""
        file = self._file(item)
        if not file.is_file():
            return None
        try:
            results = [_from_record(record) for record in json.loads(file.read_text(encoding="utf-8"))]
        except (ValueError, KeyError, TypeError, AttributeError):
            results = []
        if not results:
            raise MediaError(f"{file} is damaged; remove it, and its item is measured again")
        return results

    def write(self, item: str, results: Sequence[FrameResult]) -> None:
        """Keep the results of an item."""
        _write(self._file(item), json.dumps([_as_record(result) for result in results], allow_nan=False), True)

    def _file(self, item: str) -> Path:
        return self.folder / f"item-{short_name(quote(item, safe='', errors='surrogateescape'))}.json"


def short_name(name: str) -> str:
    """Return what a file is called after ``name``: the name, its end replaced by a hash if it is long.

    Example:
        >>> short_name("a"), len(short_name(300 * "a"))
        ('a', 200)
    """
    data = name.encode(errors="surrogateescape")
    if len(data) <= NAME_BYTES:
        return name
    digest = sha256(data).hexdigest()[:16]
    return f"{data[: NAME_BYTES - 1 - len(digest)].decode(errors='ignore')}-{digest}"


def _check_settings(file: Path, settings: dict[str, Any]) -> None:
    try:
        before = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise MediaError(f"{file} is damaged; give another folder for the results") from error
    for name in sorted(before.keys() | settings.keys()):
        if before.get(name) != settings.get(name):
            raise InvalidInputError(
                f"{file.parent} holds results with {name} = {before.get(name)}, now it is {settings.get(name)}; "
                "give another folder for the results"
            )


def _mean(method: str, part: str, results: Iterable[FrameResult]) -> Mean:
    results = list(results)
    scores, exact = {}, {}
    for metric in results[0].scores:
        finite = [r.scores[metric] for r in results if not math.isinf(r.scores[metric])]
        scores[metric] = math.fsum(finite) / len(finite) if finite else math.inf
        exact[metric] = len(results) - len(finite)
    worst = min(r.scores["psnr"] for r in results)
    return Mean(method, part, len(results), exact, scores, worst)


def _as_json(mean: Mean) -> dict[str, Any]:
    return asdict(mean) | {"scores": _finite(mean.scores)} | _finite({"worst_psnr": mean.worst_psnr})


def _as_record(result: FrameResult) -> dict[str, Any]:
    return asdict(result) | {"t": str(result.t), "scores": _finite(result.scores)}


def _from_record(record: dict[str, Any]) -> FrameResult:
    scores = {name: math.inf if value is None else float(value) for name, value in record["scores"].items()}
    return FrameResult(record["item"], record["group"], Fraction(record["t"]), record["method"], scores)


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _cells(mean: Mean, metrics: list[str]) -> list[str]:
    exact = {metric: f" ({count} exact)" for metric, count in mean.exact.items() if count}
    means = (_digits(metric, mean.scores[metric]) + exact.get(metric, "") for metric in metrics)
    return [*means, _digits("psnr", mean.worst_psnr)]


def _digits(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric.startswith("psnr") else f"{value:.4f}"


def _write(path: Path, text: str, overwrite: bool) -> None:
    with write_whole(path, overwrite=overwrite) as hidden:
        hidden.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files are any bytes
