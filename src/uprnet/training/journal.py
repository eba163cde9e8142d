"""What a run writes down: metrics.jsonl, TensorBoard, and a progress line on the terminal."""

import json
import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from uprnet.errors import MissingDependencyError
from uprnet.files import write_whole
from uprnet.training.sample import Image

logger = logging.getLogger(__name__)


class Journal:
    """Writes metrics of a run to where they can be read.

    Args:
        folder: Folder of the run.
        first_step: Step at which this process begins; later lines of an interrupted run are removed.
        steps: Steps of the whole run.
        tensorboard: Write TensorBoard files.

    Raises:
        MissingDependencyError: If TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, first_step: int, steps: int, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        _truncate(self._path, first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _open_board(folder, first_step) if tensorboard else None
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._interactive = self._progress.console.is_terminal
        self._task = self._progress.add_task("", total=steps, completed=first_step, note="")
        self._first_step, self._steps, self._began = first_step, steps, time.monotonic()

    def __enter__(self) -> "Journal":
        if self._interactive:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._interactive:
            self._progress.stop()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def advance(self, step: int) -> None:
        """Move the progress line to ``step`` steps done."""
        self._progress.update(self._task, completed=step)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write metrics.

        Args:
            step: Steps that are done.
            values: Numbers by name.
        """
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        shown = " ".join(f"{name}={value:.4g}" for name, value in values.items())
        if self._interactive:
            self._progress.update(self._task, completed=step, note=shown[:60])
        else:
            seconds = (time.monotonic() - self._began) / max(1, step - self._first_step) * (self._steps - step)
            logger.info("step %d/%d, %.1f h left: %s", step, self._steps, seconds / 3600, shown)

    def show(self, step: int, name: str, picture: Image) -> None:
        """Put a picture into TensorBoard.

        Args:
            step: Steps that are done.
            name: Its name there.
            picture: ``(H, W, 3)`` RGB uint8.
        """
        if self._board is not None:
            self._board.add_image(name, picture, step, dataformats="HWC")


def _open_board(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "TensorBoard is not installed; install uprnet[train] or set log.tensorboard = false"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)


def _truncate(path: Path, last_step: int) -> None:
    """Remove the lines after a step, and one that was cut off by a kill."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # Only a whole line ends with a newline.
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= last_step]
    with write_whole(path, overwrite=True) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
