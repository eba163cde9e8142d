"""Decide what an output will be, and refuse what cannot work, before the first frame is made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from uprnet import __version__
from uprnet.errors import InvalidInputError
from uprnet.files import check_folder
from uprnet.media.encoder import check_track
from uprnet.media.encoding import EncoderSettings, PictureFormat, choose_encoding
from uprnet.media.images import ENDINGS, FLOAT, loss_in
from uprnet.media.output import CONTAINERS, check_file
from uprnet.media.sequence import FolderReader
from uprnet.media.tracks import TrackPlan, plan_tracks
from uprnet.media.video import STANDARD_INPUT, VideoReader
from uprnet.pipeline.options import SoundOptions
from uprnet.pipeline.pipe import STANDARD_OUTPUT
from uprnet.pipeline.preview import SideBySide
from uprnet.pipeline.side_folder import MOVING, SideFolder, side_path
from uprnet.pipeline.targets import FolderTarget, Target, VideoTarget
from uprnet.pipeline.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputRequest:
    """The output that is asked for.

    Attributes:
        path: Video file, folder, or ``-``.
        sound: What goes along with the picture.
        encoder: How a video is encoded.
        image_format: Ending of the images in a folder; None for that which suits the source.
        overwrite: Whether what is there may be replaced.
    """

    path: Path
    sound: SoundOptions
    encoder: EncoderSettings
    image_format: str | None
    overwrite: bool

    @property
    def is_pipe(self) -> bool:
        """Whether it is standard output."""
        return self.path == STANDARD_OUTPUT

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of images: no ending, or a folder that is there."""
        return not self.is_pipe and (self.path.is_dir() or not self.path.suffix)

    @property
    def is_file(self) -> bool:
        """Whether it is a video file."""
        return not (self.is_pipe or self.is_folder)

    @property
    def image_ending(self) -> str:
        """Ending of the images that is asked for; empty if none is."""
        return f".{self.image_format.lower().lstrip('.')}" if self.image_format else ""

    def check(self, source: Path, *, restart: bool = False) -> None:
        """Refuse an output that cannot be; ``restart`` says that what an earlier run left will be thrown away.

        Raises:
            InvalidInputError: If it is the source, no images with this ending can be written, or settings are given
                that are none of this kind of output.
            OutputExistsError: If it is there and may not be replaced.
            MediaError: If it has an unknown ending or its folder is missing.
        """
        self._check_settings(source)
        if self.is_pipe:
            return
        if self.path.exists() and self.path.resolve() == source.resolve():
            raise InvalidInputError(f"source and output must differ, both are {source}")
        if not self.is_folder:
            check_file(self.path, CONTAINERS, self.overwrite)
        elif self.image_ending not in ("", *ENDINGS):
            known = ", ".join(ending.lstrip(".") for ending in ENDINGS)
            raise InvalidInputError(f"image_format must be one of {known}, got {self.image_format}")
        elif restart or not (side_path(self.path) / MOVING).exists():
            check_folder(self.path, overwrite=self.overwrite)

    def _check_settings(self, source: Path) -> None:
        """Refuse what would be ignored."""
        place = "standard output" if self.is_pipe else f"the folder {self.path}"
        if not self.is_file and self.encoder != EncoderSettings():
            raise InvalidInputError(f"codec, crf, preset, pix_fmt and encoder options are for video files, not {place}")
        if self.image_format and not self.is_folder:
            raise InvalidInputError(f"image_format is for a folder as output, got {self.path}")
        if self.sound.slow_audio and (source == STANDARD_INPUT or source.is_dir() or not self.is_file):
            raise InvalidInputError("slow_audio needs a video file as source and as output")


@dataclass(frozen=True)
class OutputPlan:
    """What the output will be.

    Attributes:
        settings: All of it that decides the bytes, as texts by name.
        warnings: What of the source it will not have, one line each; they were logged.
        target: Makes the place where frames go, given the folder for segments.
    """

    settings: dict[str, str]
    warnings: tuple[str, ...]
    target: Callable[[SideFolder], Target]


def plan_output(request: OutputRequest, source: Path, task: Task, compose: SideBySide | None) -> OutputPlan:
    """Decide how the frames of ``task`` are stored and what goes along; say to ``task`` whether alpha is wanted.

    Raises:
        MediaError: If the encoder or the container cannot hold it.
    """
    return _plan_folder(request, task) if request.is_folder else _plan_video(request, source, task, compose)


def _plan_folder(request: OutputRequest, task: Task) -> OutputPlan:
    info, kind = task.reader.info, _kind(task)
    task.has_alpha = info.has_alpha
    ending = request.image_ending or (FLOAT if kind.kind == "f" else ".png")
    sample = np.zeros((1, 1, 4 if info.has_alpha else 3), kind)
    warnings = [text for text in [loss_in(ending, sample)] if text] + left_out(request, task, "a folder has none")

    def target(side: SideFolder) -> Target:
        return FolderTarget(request.path, side, ending, request.overwrite)

    settings = {"image-format": ending, "uprnet": __version__}
    return OutputPlan(settings, say(request, tuple(warnings)), target)


def left_out(request: OutputRequest, task: Task, why: str) -> list[str]:
    """Say what of the source does not go along where no tracks are copied, unless none are wanted."""
    info = task.reader.info
    if request.sound.tracks == "none":
        return []
    texts = [f"the sound is dropped: {why}"] if info.audio else []
    return texts + ([f"tracks that are left out: {', '.join(info.other_tracks)}"] if info.other_tracks else [])


def picture_of(task: Task, compose: SideBySide | None) -> PictureFormat:
    """Say what the frames of the output are.

    Raises:
        InvalidInputError: If no video can hold them.
    """
    if _kind(task).kind == "f":
        raise InvalidInputError(f"no video holds the linear light of OpenEXR images; write a folder of {FLOAT} images")
    picture = PictureFormat.of(task.reader.info, task.rate, task.tick)
    if compose is None:
        return picture
    height, width = compose.size
    return replace(picture, height=height, width=width)


def _plan_video(request: OutputRequest, source: Path, task: Task, compose: SideBySide | None) -> OutputPlan:
    info = task.reader.info
    ending = request.path.suffix.lower()
    picture = picture_of(task, compose)
    encoding = choose_encoding(ending, picture, request.encoder)
    check_track(ending, encoding, picture)
    task.has_alpha = info.has_alpha and encoding.has_alpha
    tracks, missing = TrackPlan(), left_out(request, task, "the source can be read only once")
    if isinstance(task.reader, VideoReader) and source.is_file():
        missing = []
        tracks = plan_tracks(
            source,
            ending,
            task.timing,
            slow_audio=request.sound.slow_audio,
            section=task.section.times(info),
            policy=request.sound.tracks,
        )
    settings = {
        "picture": str(picture),
        "encoding": str(encoding),
        "uprnet": __version__,
        "libav": str(av.library_versions),
    }

    def target(side: SideFolder) -> Target:
        return VideoTarget(request.path, side, picture, encoding, tracks, request.overwrite)

    return OutputPlan(settings, (*say(request, (*encoding.warnings, *missing)), *tracks.warnings), target)


def _kind(task: Task) -> np.dtype[Any]:
    """Give the type of the samples of the source."""
    if isinstance(task.reader, FolderReader):
        return task.reader.kind
    return np.dtype(np.uint16 if task.reader.info.depth > 8 else np.uint8)


def say(request: OutputRequest, warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Log warnings about an output, and return them."""
    for text in warnings:
        logger.warning("%s: %s", request.path.name, text)
    return warnings
