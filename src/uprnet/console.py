"""What all commands share: results to stdout, all else to stderr, the progress bar, common options."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from uprnet.errors import InvalidInputError
from uprnet.options import ComputeOptions, NetworkOptions

if TYPE_CHECKING:
    from uprnet.pipeline import Progress as PipelineProgress

Output = Annotated[Path, Parameter(name=("--output", "-o"))]
Overwrite = Annotated[bool, Parameter(name="--overwrite", negative="")]


Compute = Annotated[ComputeOptions, Parameter(name="*", group="Network")]
Network = Annotated[NetworkOptions, Parameter(name="*", group="Network")]

stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False)

WIDEST = 10_000
"""Characters that a line of a table has at most where no terminal cuts it."""


class Pace:
    """How fast new frames are made, those of an earlier run not counted, and how long the rest takes at that pace."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def measure(self, progress: PipelineProgress) -> tuple[float | None, float | None]:
        """Give frames per second and remaining seconds; None where they are not known yet."""
        now, made = time.monotonic(), progress.done - progress.kept
        if self._first is None:
            self._first = (now, made) if made else None
            return None, None
        rate = (made - self._first[1]) / max(now - self._first[0], 1e-9)
        if progress.total is None or rate == 0:
            return rate or None, None
        return rate, max(progress.total - progress.done, 0) / rate


@contextmanager
def progress_bar() -> Iterator[Callable[[PipelineProgress], None]]:
    """Draw a bar on stderr: frames done, rate, remaining time, current time stamp."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", style="progress.data.speed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TextColumn("{task.fields[left]}", style="progress.remaining"),
        TextColumn("at {task.fields[stamp]}"),
    )
    bar, pace = Progress(*columns, console=stderr), Pace()
    task = bar.add_task("frames", total=None, stamp="", rate="", left="")

    def report(progress: PipelineProgress) -> None:
        bar.start()  # at the first frame, and not before an error that would stand below an empty bar
        rate, left = pace.measure(progress)
        bar.update(
            task,
            completed=progress.done,
            total=progress.total,
            stamp=f"{float(progress.time):.3f} s",
            rate="" if rate is None else f"{rate:.2f} frames/s",
            left="-:--:--" if left is None else str(timedelta(seconds=round(left))),
        )

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


class JsonLines:
    """One JSON object a line, for other programs.

    Args:
        descriptor: File descriptor to write to.

    Raises:
        InvalidInputError: If it is not open.
    """

    def __init__(self, descriptor: int) -> None:
        try:
            os.fstat(descriptor)
        except OSError:
            raise InvalidInputError(f"progress-fd must be an open file descriptor, got {descriptor}") from None
        self._descriptor, self._pace = descriptor, Pace()

    def begin(self) -> None:
        """Measure the pace anew, for the next of several videos."""
        self._pace = Pace()

    def progress(self, progress: PipelineProgress) -> None:
        """Write how far the work is."""
        rate, left = self._pace.measure(progress)
        self.write(
            event="progress",
            done=progress.done,
            total=progress.total,
            kept=progress.kept,
            time=float(progress.time),
            rate=rate and round(rate, 3),
            remaining=left and round(left, 1),
        )

    def write(self, **values: Any) -> None:
        """Write one object."""
        os.write(self._descriptor, (json.dumps(values) + "\n").encode())


def show_table(table: Table) -> None:
    """Print a table on stdout, in a file or a pipe as wide as it is."""
    if not stdout.is_terminal:
        table.width = stdout.measure(table, options=stdout.options.update(width=WIDEST)).maximum
    stdout.print(table)


def complain(message: str, advice: str = "") -> None:
    """Say what went wrong in one line."""
    stderr.print(Text.assemble(("uprnet: ", "bold"), ("error: ", "bold red"), message))
    if advice:
        stderr.print(advice)
