"""A curve of quality over time; the only file that knows matplotlib."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from uprnet.errors import MissingDependencyError
from uprnet.evaluation.report import Report
from uprnet.files import write_whole


def check_matplotlib() -> None:
    """Check, before work starts, that plots can be drawn.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "plots are drawn by matplotlib, which is not installed; run: pip install 'uprnet[eval]'"
        ) from error


def plot_over_time(report: Report, clip: str, path: Path, *, overwrite: bool = False) -> None:
    """Draw the PSNR of every frame of a clip, one curve for each method, to a PNG file.

    A curve is broken where frames were left out.

    Args:
        report: What `run_video_benchmark` returned.
        clip: The group of the results to draw: the name of a clip.
        path: The file to write.
        overwrite: Replace a file that is there.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
        OutputExistsError: If the file exists and ``overwrite`` is false.
    """
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    means = {mean.method: mean.scores["psnr"] for mean in report.by_group() if mean.part == clip}
    for method, mean in means.items():
        numbers, values = curve(report, clip, method)
        axes.plot(numbers, values, label=f"{method}, mean {mean:.2f} dB", linewidth=1, marker=".", markersize=3)
    axes.set(title=f"{clip}, 1 of {report.settings['factor']} frames given", xlabel="frame", ylabel="PSNR in dB")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    data = BytesIO()
    figure.savefig(data, format="png", dpi=100)
    with write_whole(path, overwrite=overwrite) as hidden:
        hidden.write_bytes(data.getvalue())


def curve(report: Report, clip: str, method: str) -> tuple[list[float], list[float]]:
    """Return frame numbers and PSNR of a method on a clip; NaN where frames between two were left out."""
    factor = report.settings["factor"]
    numbers: list[float] = []
    values: list[float] = []
    last = 0
    for result in report.results:
        if (result.group, result.method) != (clip, method):
            continue
        first = int(result.item.rpartition("/")[2])
        if numbers and first - last > factor:
            numbers.append(numbers[-1])
            values.append(float("nan"))
        last = first
        numbers.append(first + float(result.t) * factor)
        values.append(result.scores["psnr"])
    return numbers, values
