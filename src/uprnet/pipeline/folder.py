"""Many videos: those of a folder, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uprnet.errors import InvalidInputError, MediaError, UprnetError
from uprnet.media.images import ENDINGS
from uprnet.media.output import CONTAINERS
from uprnet.pipeline.pipe import STANDARD_OUTPUT
from uprnet.pipeline.video import Summary

logger = logging.getLogger(__name__)

READ_ONLY = (".avi", ".flv", ".mpeg", ".mpg", ".mts", ".m2ts", ".ogv", ".ts", ".wmv", ".y4m", ".264", ".h264", ".mxf")
"""Endings of videos that are read but not written; their outputs are Matroska files."""

ELSEWHERE = ".mkv"
"""Ending of the output of a video whose own ending is not written."""


@dataclass(frozen=True)
class FolderSummary:
    """What became of the videos of a folder.

    Attributes:
        done: What was done, for each video that was made.
        skipped: Outputs that were there already.
        failed: Videos that could not be done, and why, in one line.
    """

    done: tuple[Summary, ...]
    skipped: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


def interpolate_folder(
    folder: Path, output: Path, make: Callable[[Path, Path], Summary], *, overwrite: bool = False
) -> FolderSummary:
    """Make more frames for every video in a folder; after a bad one go on with the next.

    Outputs have the names of their sources, with `ELSEWHERE` as ending where a source's own is not written. Those that
    are there already are skipped unless ``overwrite``, so that the same call goes on where it was interrupted.

    Args:
        folder: Folder that holds videos; folders in it are not looked into.
        output: Folder for the outputs; it is made if it is missing.
        make: Makes one output of one source, such as a `functools.partial` of `interpolate_video`.
        overwrite: Whether outputs that are there are made again.

    Raises:
        InvalidInputError: If both folders are the same, the output is no folder, or two videos would get the
            same output.
        MediaError: If the output folder cannot be made.

    Example:
        >>> interpolate_folder(Path("in"), Path("out"), partial(interpolate_video, fps=60)).failed  # doctest: +SKIP
        ()
    """
    if output.exists() and output.resolve() == folder.resolve():
        raise InvalidInputError(f"source and output must differ, both are {folder}")
    if output == STANDARD_OUTPUT or (output.suffix.lower() in CONTAINERS and not output.is_dir()):
        raise InvalidInputError(f"the output of a folder of videos must be a folder, got {output}")
    pairs = [(video, output / _output_name(video)) for video in videos_in(folder)]
    names = [made.name for _, made in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(f"two videos of {folder} would both become {twice[0]}; rename one")
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise MediaError(f"cannot make the folder {output}: {error.strerror}") from error
    done, skipped, failed = [], [], []
    for source, made in pairs:
        if made.exists() and not overwrite:
            logger.warning("%s is there already", made)
            skipped.append(made)
            continue
        try:
            done.append(make(source, made))
        except UprnetError as error:
            logger.error("%s: %s", source, error)  # noqa: TRY400 - it is a user's mistake, and the line says it all
            failed.append((source, str(error)))
        except KeyboardInterrupt as error:
            ready = len(done) + len(skipped)
            raise type(error)(
                f"{str(error) or 'interrupted'}; {ready} of {len(pairs)} videos are there, "
                "and the same command goes on with the rest"
            ) from None
    return FolderSummary(tuple(done), tuple(skipped), tuple(failed))


def holds_videos(folder: Path) -> bool:
    """Say whether a folder holds videos rather than images.

    Raises:
        InvalidInputError: If it holds both.
    """
    videos = videos_in(folder)
    images = [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith(".")]
    if videos and images:
        raise InvalidInputError(
            f"{folder} holds both videos, such as {videos[0].name}, and images, such as {min(images).name}; "
            "put them into folders of their own"
        )
    return bool(videos)


def videos_in(folder: Path) -> list[Path]:
    """List the videos of a folder by name; hidden files do not count."""
    endings = (*CONTAINERS, *READ_ONLY)
    found = (path for path in folder.iterdir() if path.suffix.lower() in endings and path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def _output_name(video: Path) -> str:
    return video.name if video.suffix.lower() in CONTAINERS else f"{video.stem}{ELSEWHERE}"
