"""Several processes on one benchmark, started by torchrun: each measures a share, and each item counts once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed

from uprnet.errors import InvalidInputError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that work together, and which of them this is.

    Attributes:
        rank: Number of this process; the first is 0.
        count: How many there are.
        local_rank: Number of this process on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Processes:
        """Read what torchrun says; one process alone where it was not used."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        try:
            found = cls(*(int(os.environ.get(name, default)) for name, default in zip(names, "010", strict=True)))
        except ValueError as error:
            raise InvalidInputError(f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers: {error}") from None
        if not 0 <= found.rank < found.count:
            raise InvalidInputError(
                f"RANK must be from 0 to WORLD_SIZE - 1, got {found.rank} of {found.count}; use torchrun, or unset them"
            )
        return found

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that reports."""
        return self.rank == 0

    def share(self, items: list[T]) -> list[T]:
        """Return the items that this process measures: every ``count``-th."""
        return items[self.rank :: self.count]

    def device(self, device: str) -> str:
        """Return the device of this process: a GPU of its own where none was chosen by number."""
        if self.count > 1 and device in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return device

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block in the main process, then in the others."""
        if not self.is_main:
            self._wait()
        yield
        if self.is_main:
            self._wait()

    def gather(self, found: T) -> list[T]:
        """Return what each process found, in the order of their numbers, in every process."""
        if self.count == 1:
            return [found]
        everything: list[T | None] = [None] * self.count
        torch.distributed.all_gather_object(everything, found)
        return [part for part in everything if part is not None]

    def _wait(self) -> None:
        if self.count > 1:
            torch.distributed.barrier()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started, by the gloo backend: only results are exchanged, no tensors.

    Raises:
        InvalidInputError: If there is nobody to join.
    """
    processes = Processes.from_environment()
    if processes.count == 1:
        yield processes
        return
    try:
        torch.distributed.init_process_group("gloo")
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"RANK is {processes.rank} of {processes.count}, but there is nobody to join ({reason}); use torchrun, "
            "or unset RANK and WORLD_SIZE"
        ) from error
    try:
        yield processes
    finally:
        torch.distributed.destroy_process_group()
