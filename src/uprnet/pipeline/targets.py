"""Where frames go, segment by segment: a video file, a folder of images, or standard output.

A segment is what becomes of a fixed run of source frames. It appears in the side folder when it is complete, so work
that was interrupted goes on after the last one; the finished output is the same either way.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn, Protocol

import numpy as np

from uprnet.errors import MediaError
from uprnet.files import check_folder, check_output
from uprnet.media.colour import Image
from uprnet.media.encoder import Segment, SegmentEncoder
from uprnet.media.encoding import Encoding, PictureFormat
from uprnet.media.images import encode_image
from uprnet.media.muxer import join
from uprnet.media.output import explained
from uprnet.media.tracks import TrackPlan
from uprnet.pipeline.side_folder import MOVING, SideFolder
from uprnet.pipeline.task import Task

DIGITS = 8
"""Length of the numbers that name output images: enough for weeks of video."""


SEGMENT_ENDING = ".segment"
"""Ending of the files of packets that `SegmentEncoder` writes."""


class LastFrame(NamedTuple):
    """The last frame of a segment: its number in the whole output, and the time at which it is shown."""

    number: int
    pts: Fraction


class SegmentWriter(Protocol):
    """One segment that is being written."""

    def write(self, image: Image, pts: Fraction, duration: Fraction) -> None:
        """Add a frame that is shown from ``pts`` on, for ``duration`` seconds."""


class Target(Protocol):
    """An output that is made of segments."""

    def is_done(self, number: int) -> bool:
        """Say whether a segment is there from an earlier run."""

    def segment(self, number: int, first: int) -> AbstractContextManager[SegmentWriter]:
        """Open a segment; ``first`` is the number of its first frame in the whole output."""

    def finish(self, segments: Mapping[int, LastFrame], task: Task, end: Fraction) -> None:
        """Make the output of all its segments, when ``task`` is read to its end; ``end`` is that of the last frame.

        Raises:
            MediaError: If a segment, perhaps of an earlier run, does not reach to its last frame, or writing fails.
        """


@dataclass(frozen=True)
class VideoTarget:
    """A video file, joined from segments that are small videos.

    Attributes:
        output: The file.
        side: Where the segments wait.
        picture: What the frames are.
        encoding: How they are encoded.
        tracks: What goes along.
        overwrite: Whether a file that is there may be replaced.
    """

    output: Path
    side: SideFolder
    picture: PictureFormat
    encoding: Encoding
    tracks: TrackPlan
    overwrite: bool

    def is_done(self, number: int) -> bool:
        """Say whether a segment is there from an earlier run."""
        return self.side.segment(number, SEGMENT_ENDING).exists()

    def segment(self, number: int, first: int) -> AbstractContextManager[SegmentWriter]:  # noqa: ARG002 - as Target
        """Open a segment."""
        return SegmentEncoder(self.side.segment(number, SEGMENT_ENDING), self.encoding, self.picture)

    def finish(self, segments: Mapping[int, LastFrame], task: Task, end: Fraction) -> None:
        """Join the segments and what is copied from the source."""
        paths = [self.side.segment(number, SEGMENT_ENDING) for number in segments]
        for path, last in zip(paths, segments.values(), strict=True):
            if max((pts for pts, _ in Segment(path).times()), default=None) != round(last.pts / self.picture.tick):
                _refuse(path)
        # In the side folder, so that whatever happens meanwhile leaves nothing elsewhere.
        whole = self.side.path / f"whole{self.output.suffix}"
        tracks = replace(self.tracks, splices=task.splices)
        if not task.section.is_whole:
            tracks = replace(tracks, start=task.begin, end=task.end)
        join(paths, whole, picture=self.picture, encoding=self.encoding, tracks=tracks, end=end, overwrite=True)
        check_output(self.output, overwrite=self.overwrite)  # somebody may have written it meanwhile
        with explained(self.output):
            whole.replace(self.output)


@dataclass(frozen=True)
class FolderTarget:
    """A folder of numbered images; a segment is a folder of them.

    Attributes:
        output: The folder; new or empty, unless ``overwrite``. Then files in it that are named as ours, with `DIGITS`
            digits and the same ending, are from an earlier run and go; everything else stays.
        side: Where the segments wait.
        ending: Ending of the images.
        overwrite: Whether images of an earlier run may be replaced.
    """

    output: Path
    side: SideFolder
    ending: str
    overwrite: bool

    def is_done(self, number: int) -> bool:
        """Say whether a segment is there from an earlier run."""
        return self.side.segment(number, "").exists()

    def segment(self, number: int, first: int) -> AbstractContextManager[SegmentWriter]:
        """Open a segment."""
        return ImageSegment(self.side.segment(number, ""), self.ending, first)

    def finish(self, segments: Mapping[int, LastFrame], task: Task, end: Fraction) -> None:  # noqa: ARG002 - as Target
        """Move the images to their place; killed half-way, it goes on with the rest."""
        marker = self.side.path / MOVING
        with explained(self.output):
            if not marker.exists():
                for number, last in segments.items():
                    folder = self.side.segment(number, "")
                    if not (folder / image_name(last.number, self.ending)).exists():
                        _refuse(folder)
                check_folder(self.output, overwrite=self.overwrite)
                self.output.mkdir(exist_ok=True)
                for old in list(self.output.iterdir()):
                    if old.suffix == self.ending and old.stem.isdecimal() and len(old.stem) == DIGITS:
                        old.unlink()
                marker.touch()
            for number in segments:
                for image in sorted(self.side.segment(number, "").iterdir()):
                    _move(image, self.output / image.name)


def _refuse(segment: Path) -> NoReturn:
    raise MediaError(f"the finished segment {segment.name} does not reach to its end; begin afresh with --restart")


def _move(file: Path, target: Path) -> None:
    """Move a file, also to another file system; ``target`` is there whole or not at all."""
    try:
        file.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        hidden = target.with_name(f".{target.name}.part")
        shutil.copyfile(file, hidden)
        hidden.replace(target)
        file.unlink()


class ImageSegment:
    """Write frames as numbered images to a folder that appears when it is complete.

    Args:
        path: The folder.
        ending: Ending of the images.
        first: Number of the first one.
    """

    def __init__(self, path: Path, ending: str, first: int) -> None:
        self._path, self._ending, self._number = path, ending, first
        self._hidden = path.with_name(f"{path.name}.part")

    def __enter__(self) -> ImageSegment:
        shutil.rmtree(self._hidden, ignore_errors=True)
        self._hidden.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._hidden.replace(self._path)
        else:
            shutil.rmtree(self._hidden, ignore_errors=True)

    def write(self, image: Image, pts: Fraction, duration: Fraction) -> None:  # noqa: ARG002 - a folder has no times
        """Add a frame, ``(H, W, 3)`` or ``(H, W, 4)``."""
        path = self._hidden / image_name(self._number, self._ending)
        path.write_bytes(encode_image(self._ending, np.ascontiguousarray(image)))
        self._number += 1


def image_name(number: int, ending: str) -> str:
    """Give the name of an image of an output folder."""
    return f"{number:0{DIGITS}d}{ending}"
