"""Checkpoints: all that a run needs to go on exactly where it stopped."""

import logging
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from uprnet.errors import TrainingError
from uprnet.files import write_whole

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)


class CheckpointFolder:
    """The last few checkpoints of a run.

    A checkpoint is written under a temporary name, flushed to disk and renamed, so that a run that is killed at any
    moment leaves whole checkpoints only.

    Args:
        folder: Where they lie; made when the first is saved.
        keep: How many are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self._keep = max(1, keep)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint, then delete the oldest ones.

        Args:
            step: Steps that are done.
            state: Nested dictionaries and lists of tensors and numbers.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with write_whole(self._path(step), overwrite=True) as temporary:
            torch.save(state, temporary)
        _flush(self.folder)
        for path in self._paths()[: -self._keep]:
            path.unlink(missing_ok=True)
        for leftover in self.folder.glob(".*.part.pt"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)

    def exists(self) -> bool:
        """Whether there is any checkpoint."""
        return bool(self._paths())

    def latest(self) -> dict[str, Any]:
        """Read the newest checkpoint that is whole.

        Returns:
            What was saved.

        Raises:
            TrainingError: If there is none.
        """
        for path in reversed(self._paths()):
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
                logger.warning("the checkpoint %s is damaged (%s); trying the one before", path, type(error).__name__)
                continue
            return state
        raise TrainingError(f"{self.folder} must hold a checkpoint to resume from, found none")

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))


#: Files whose locks this process holds.
_locks: set[IO[str]] = set()


def _leave_locks_to_parent() -> None:
    """Close, in a process just forked, the files through which it would hold its parent's locks."""
    while _locks:
        _locks.pop().close()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_locks_to_parent)


@contextmanager
def only_process(run: Path) -> Iterator[None]:
    """Keep a second process from training in the same folder while this one does.

    The system gives the lock back when the process ends, however it ends; data workers, which may live on for some
    seconds, have no part in it. Where there are no such locks (Windows) nothing is checked.

    Args:
        run: Folder of the run; made if it is not there.

    Raises:
        TrainingError: If another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(
                    f"another process is training in {run}; wait for it or give another folder"
                ) from error
        _locks.add(file)
        try:
            yield
        finally:
            _locks.discard(file)


def _flush(folder: Path) -> None:
    """Make the renaming itself durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
