"""What all commands share: results to stdout, all else to stderr, the progress bar, common options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from uprnet.pipeline import Progress as PipelineProgress

Output = Annotated[Path, Parameter(name=("--output", "-o"))]
Overwrite = Annotated[bool, Parameter(name="--overwrite", negative="")]

stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


class _RateColumn(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.2f} frames/s", style="progress.data.speed")


@contextmanager
def progress_bar() -> Iterator[Callable[[PipelineProgress], None]]:
    """Draw a bar on stderr: frames done, rate, remaining time, current time stamp."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("at {task.fields[stamp]}"),
    )
    bar = Progress(*columns, console=stderr)
    task = bar.add_task("frames", total=None, stamp="")

    def report(progress: PipelineProgress) -> None:
        bar.start()  # at the first frame, and not before an error that would stand below an empty bar
        stamp = f"{float(progress.time):.3f} s"
        bar.update(task, completed=progress.done, total=progress.total, stamp=stamp)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


def complain(message: str, advice: str = "") -> None:
    """Say what went wrong in one line."""
    stderr.print(Text.assemble(("uprnet: ", "bold"), ("error: ", "bold red"), message))
    if advice:
        stderr.print(advice)
