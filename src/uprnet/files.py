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


def check_output(path: Path, *, overwrite: bool) -> None:
    """Check, before work starts, that ``path`` can be written.

    Raises:
        OutputExistsError: If it exists and ``overwrite`` is false.
        MediaError: If its folder does not exist.
    """
    if os.path.lexists(path) and not overwrite:  # a link to nowhere is there, too
        raise OutputExistsError(f"{path} already exists; choose another name or allow overwriting (--overwrite)")
    if not path.absolute().parent.is_dir():
        raise MediaError(f"the output folder {path.parent} does not exist; make it first")


@contextmanager
def write_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary file name next to ``path``; rename it to ``path`` when the block ends well.

    On any error, Ctrl-C included, the temporary file is removed and ``path`` is as it was before.

    Raises:
        OutputExistsError: If ``path`` exists and ``overwrite`` is false.
        MediaError: If the folder does not exist, ``path`` is a folder, or the disk is full.
    """
    check_output(path, overwrite=overwrite)
    if path.is_dir():
        raise MediaError(f"{path} is a folder; give the name of a file")
    # The ending stays last, because libraries choose the format by it.
    stem = path.stem.encode(errors="surrogateescape")[:NAME_BYTES].decode(errors="ignore")
    temporary = path.with_name(f".{stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        check_output(path, overwrite=overwrite)  # somebody may have written it meanwhile
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MediaError(f"no space left on the disk while writing {path}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
