"""Outputs of the media room: known endings, errors in one line, folders that appear when complete."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from uprnet.errors import MediaError
from uprnet.files import check_folder, check_output, hidden_name, write_error, write_whole

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""libav's format by the ending of a video file. AVI is not among them: it cannot hold exact or varying times."""


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
    """Give a hidden folder to write files to; on success they are moved to ``path``.

    A new or empty folder becomes exactly what was written. With ``overwrite``, files of the same names are replaced,
    and everything else stays.

    Raises:
        OutputExistsError: If ``path`` is a file, or holds anything and ``overwrite`` is False.
        MediaError: If the folder above is missing, the disk is full or nothing can be written there.
    """
    check_folder(path, overwrite=overwrite)
    hidden = hidden_name(path)
    try:
        with explained(path):
            hidden.mkdir()
            yield hidden
            path.mkdir(exist_ok=True)
            new = sorted(hidden.iterdir())
            for file in new:
                check_output(path / file.name, overwrite=True)  # before the first is moved
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
        raise write_error(path, error) from error
