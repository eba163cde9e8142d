"""Outputs of the media room: known endings, errors in one line, folders that appear when complete."""

import errno
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from uprnet.errors import MediaError, OutputExistsError
from uprnet.files import check_output, write_whole

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""libav's format by the ending of a video file. AVI is not among them: it cannot hold exact or varying times."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""System errors that mean: the disk, the quota or the largest file of the file system is full."""


def check_file(path: Path, endings: Iterable[str], overwrite: bool) -> None:
    """Refuse an output file that could not be finished, before work starts.

    Raises:
        OutputExistsError: If it is there and ``overwrite`` is False.
        MediaError: If its folder is missing, it is a folder, or its ending is not one of ``endings``.
    """
    if path.suffix.lower() not in endings:
        was = f"ends in {path.suffix}" if path.suffix else "has no ending"
        known = ", ".join(sorted(endings))
        raise MediaError(f"the name of the output must end in one of {known}; {path} {was}")
    if path.is_dir():
        raise MediaError(f"the output must be a file, but {path} is a folder")
    check_output(path, overwrite=overwrite)


@contextmanager
def complete_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a hidden name to write to; on success it becomes ``path``, on any error it is removed.

    Raises:
        OutputExistsError: If ``path`` is there and ``overwrite`` is False.
        MediaError: If the disk is full or the file cannot be written.
    """
    with explained(path), write_whole(path, overwrite=overwrite) as hidden:
        yield hidden


@contextmanager
def complete_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder to write numbered files to; on success they are moved to ``path``.

    A new or empty folder becomes exactly what was written. With ``overwrite``, files in ``path`` whose name is
    a number with the ending of a new file are from an earlier run and go; everything else stays.

    Raises:
        OutputExistsError: If ``path`` is a file, or holds anything and ``overwrite`` is False.
        MediaError: If the folder above is missing, the disk is full or nothing can be written there.
    """
    if path.exists() and not path.is_dir():
        raise OutputExistsError(f"{path} is a file; a folder was expected")
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.is_dir() and not is_empty and not overwrite:
        raise OutputExistsError(f"{path} is not empty; choose another folder or allow overwriting (--overwrite)")
    check_output(path, overwrite=path.is_dir())
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with explained(path):
            hidden.mkdir()
            yield hidden
            path.mkdir(exist_ok=True)
            new = sorted(hidden.iterdir())
            endings = {file.suffix for file in new}
            for old in list(path.iterdir()):
                if old.stem.isdigit() and old.suffix in endings and old.is_file():
                    old.unlink()
            for file in new:
                file.replace(path / file.name)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say in one line why ``path`` could not be written.

    Raises:
        MediaError: If the system or libav refused anything inside.
    """
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        if error.errno in NO_ROOM:
            raise MediaError(f"no space left on the disk while writing {path}") from error
        reason = error.strerror or str(error)
        raise MediaError(f"cannot write {path}: {reason}") from error
