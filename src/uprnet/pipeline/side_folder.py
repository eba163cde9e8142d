"""The folder next to an output in which its finished segments wait, so that interrupted work can go on.

It is ``.NAME.uprnet`` for the output ``NAME`` and holds a manifest (what the segments were made from and how), a lock
and the segments. It goes when the output is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from uprnet.errors import MediaError, OutputExistsError
from uprnet.files import write_whole
from uprnet.media.images import list_images

PROBE = 1 << 16
"""Bytes at both ends of a source that its fingerprint covers; time and size of the file speak for the rest."""

MANIFEST, LOCK = "manifest.json", "lock"

MOVING = "moving"
"""Marks a folder whose images are all made and are being moved to their place."""


class SideFolder:
    """Hold the finished segments of one output; a context manager that holds the lock.

    Leaving it with an error keeps the finished segments; if there are none, the folder goes.

    Args:
        output: The output that the segments will make.
        settings: All that decides the bytes of the segments, as texts by name.
        restart: Throw away what an interrupted run left.
        is_kept: Whether segments stay when work breaks off; not where the source can be read only once.

    Attributes:
        path: The folder.

    Raises:
        OutputExistsError: If the folder was made from another source or with other settings and ``restart`` is False.
        MediaError: If another process works on the same output, or the folder cannot be made.
    """

    def __init__(
        self, output: Path, settings: Mapping[str, str], *, restart: bool = False, is_kept: bool = True
    ) -> None:
        self.output = output
        self.path = side_path(output)
        self._settings, self._restart, self._is_kept = dict(settings), restart or not is_kept, is_kept

    def __enter__(self) -> SideFolder:
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise MediaError(f"cannot make the folder {self.path} for unfinished work: {error.strerror}") from error
        self._lock = FileLock(self.path / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise MediaError(f"another process is working on {self.output}; wait for it, or stop it") from None
        try:
            self._take_over()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self._is_kept or not self.segments():
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    def segments(self) -> list[int]:
        """Give the numbers of the segments that are finished."""
        return sorted(int(path.stem) for path in self.path.glob("*") if _is_segment(path))

    def segment(self, number: int, ending: str) -> Path:
        """Give the path of a segment, a file with this ending or a folder without one."""
        return self.path / f"{number:08d}{ending}"

    def _take_over(self) -> None:
        """Check what an earlier run left, or begin."""
        manifest = self.path / MANIFEST
        if not self._restart and manifest.exists():
            other = _differences(_read(manifest), self._settings)
            if other and self.segments():
                raise OutputExistsError(
                    f"the unfinished work for {self.output} was begun with another {other}; repeat that command to "
                    f"finish it, or throw it away with --restart"
                )
        for path in self.path.iterdir():
            is_ours = _is_segment(path) and not self._restart and manifest.exists()
            is_ours |= path.name == MOVING and not self._restart
            if path.name not in (LOCK, MANIFEST) and not is_ours:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with write_whole(manifest, overwrite=True) as hidden:
            hidden.write_text(json.dumps(self._settings, indent=1))


def _is_segment(path: Path) -> bool:
    return path.stem.isdigit() and path.suffix != ".part"  # that is what a killed writer left


def side_path(output: Path) -> Path:
    """Give the path of the folder for an output."""
    # The name of "frames/." is found by making the path absolute.
    return output.absolute().parent / f".{output.absolute().name}.uprnet"


def source_fingerprint(source: Path) -> str:
    """Tell one source from another, and from itself after a change: size, time of change, hash of both ends.

    For a folder, the names, sizes and times of its images.
    """
    found = hashlib.sha256()
    for path in list_images(source) if source.is_dir() else [source]:
        facts = path.stat()
        found.update(os.fsencode(path.name) + f" {facts.st_size} {facts.st_mtime_ns}".encode())
    if source.is_file():
        with source.open("rb") as file:
            found.update(file.read(PROBE))
            file.seek(max(0, source.stat().st_size - PROBE))
            found.update(file.read(PROBE))
    return found.hexdigest()


def _read(manifest: Path) -> dict[str, str]:
    try:
        known = json.loads(manifest.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _differences(known: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Name the settings that differ, with both values where they are short."""
    texts = []
    for name in [*wanted, *(set(known) - set(wanted))]:
        was, now = known.get(name, "none"), wanted.get(name, "none")
        if was != now:
            texts.append(name if max(len(was), len(now)) > 40 else f"{name} ({was}, now {now})")
    return ", ".join(texts)
