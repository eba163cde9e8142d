"""Writing files so that they are there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uprnet.errors import MediaError, OutputExistsError

#: Bytes that a temporary name keeps of the file's own: file systems take 255 for the whole name.
NAME_BYTES = 200


#: System errors that mean: the disk, the quota or the largest file of the file system is full.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Check, before work starts, that the file ``path`` can be written.

    Raises:
        OutputExistsError: If it exists and ``overwrite`` is false.
        MediaError: If it is a folder, its name is impossible, or its folder does not exist.
    """
    try:
        if path.is_dir():
            raise MediaError(f"the output must be a file, but {path} is a folder")
    except OSError as error:
        raise write_error(path, error) from error
    if os.path.lexists(path) and not overwrite:  # a link to nowhere is there, too
        raise OutputExistsError(f"{path} already exists; choose another name or allow overwriting (--overwrite)")
    _check_parent(path)


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Check, before work starts, that files can be written to the folder ``path``, which need not be there.

    Raises:
        OutputExistsError: If it is a file, or holds anything and ``overwrite`` is false.
        MediaError: If the folder above does not exist, its name is impossible, or nothing may be written to it.
    """
    try:
        is_there = path.is_dir()
    except OSError as error:
        raise write_error(path, error) from error
    if not is_there and os.path.lexists(path):
        raise OutputExistsError(f"{path} is a file; a folder was expected")
    if is_there and any(path.iterdir()) and not overwrite:
        raise OutputExistsError(f"{path} is not empty; choose another folder or allow overwriting (--overwrite)")
    if is_there and not os.access(path, os.W_OK):
        raise MediaError(f"nothing may be written to the folder {path}; change its permissions or choose another")
    _check_parent(path)


def _check_parent(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise MediaError(f"the output folder {path.parent} does not exist; make it first")


def hidden_name(path: Path) -> Path:
    """Return a name next to ``path`` that nobody has; its ending is kept, because libraries choose the format by it."""
    whole = path.absolute()  # "." has no name
    stem = whole.stem.encode(errors="surrogateescape")[:NAME_BYTES].decode(errors="ignore")
    return whole.with_name(f".{stem}.{secrets.token_hex(4)}.part{whole.suffix}")


def write_error(path: Path, error: Exception) -> MediaError:
    """Return an error that says in one line why ``path`` could not be written; ``error`` is the system's."""
    if getattr(error, "errno", None) in NO_ROOM:
        return MediaError(f"no space left on the disk while writing {path}")
    return MediaError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}")


@contextmanager
def write_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary file name next to ``path``; rename it to ``path`` when the block ends well.

    On any error, Ctrl-C included, the temporary file is removed and ``path`` is as it was before.

    Raises:
        OutputExistsError: If ``path`` exists and ``overwrite`` is false.
        MediaError: If the folder does not exist, ``path`` is a folder, or the file cannot be written.
    """
    check_output(path, overwrite=overwrite)
    temporary = hidden_name(path)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        check_output(path, overwrite=overwrite)  # somebody may have written it meanwhile
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
