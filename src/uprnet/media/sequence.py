"""Folders of numbered images, read and written like videos."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from uprnet.errors import MediaError
from uprnet.media.colour import ColourTags, Image
from uprnet.media.images import alike, encode_image, list_images, read_image
from uprnet.media.output import complete_folder
from uprnet.media.video import SourceFrame, VideoInfo

logger = logging.getLogger(__name__)

OUTPUT_ENDING = ".png"
"""Frames are written without loss, with 8 or 16 bits, with or without alpha."""

DIGITS = 8
"""Length of the numbers that name output frames: enough for weeks of video."""


class FolderReader:
    """Iterate over the images of a folder as frames of a steady rate, in the order of their numbers.

    Convention:
        Image i is shown from i / rate on. All have the kind of the first: a plain one among images with alpha
        or 16 bits gets them.

    Args:
        folder: Folder of images.
        rate: Images per second.

    Attributes:
        info: What would be said of a video of these images.
        warnings: What was converted, one line each.

    Raises:
        MediaError: If there is no such folder, no image in it, or one cannot be read.
    """

    def __init__(self, folder: Path, rate: Fraction) -> None:
        self.path = folder
        self.warnings: list[str] = []
        self._paths = list_images(folder)
        self._first = self._read(self._paths[0])
        height, width, channels = self._first.shape
        depth = 8 * self._first.itemsize
        self.info = VideoInfo(
            height=height,
            width=width,
            rate=rate,
            tick=1 / rate,
            start=Fraction(0),
            duration=len(self._paths) / rate,
            frames=len(self._paths),
            codec=self._paths[0].suffix.lower().lstrip("."),
            pixel_format=f"rgb{'a' * (channels - 3)}{depth * channels}",
            depth=depth,
            has_alpha=channels == 4,
            colour=ColourTags(),
            rotation=0,
            sample_aspect=Fraction(1),
            audio=(),
            other_tracks=(),
        )

    def __enter__(self) -> "FolderReader":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing stays open between two images."""

    def __iter__(self) -> Iterator[SourceFrame]:
        step = 1 / self.info.rate
        for index, path in enumerate(self._paths):
            image = self._first if index == 0 else self._like_first(self._read(path), path)
            yield SourceFrame(index * step, step, image)

    def _like_first(self, image: Image, path: Path) -> Image:
        first = self._first
        if image.shape[:2] != first.shape[:2]:
            raise MediaError(
                f"all images of a folder must have the size of the first, {first.shape[1]}x{first.shape[0]}; "
                f"{path} has {image.shape[1]}x{image.shape[0]}"
            )
        image = alike(image, first)[0]
        if (image.shape, image.dtype) != (first.shape, first.dtype):
            raise MediaError(
                f"all images of a folder must be of the kind of the first, {first.dtype} with {first.shape[2]} "
                f"channels; {path} is {image.dtype} with {image.shape[2]}"
            )
        return image

    def _read(self, path: Path) -> Image:
        picture = read_image(path)
        if picture.note and not any(picture.note in text for text in self.warnings):
            self.warnings.append(f"{path.name}, and perhaps others: {picture.note}")
            logger.warning("%s", self.warnings[-1])
        return picture.pixels


class FolderWriter:
    """Write frames as numbered PNG images to a folder that appears when complete.

    Use it as a context manager. Times are not kept: a folder has none.

    Args:
        path: The folder; see `complete_folder` for what happens to one that is there.
        overwrite: Whether images of an earlier run may be replaced.

    Raises:
        OutputExistsError: If the folder holds anything and ``overwrite`` is False.
        MediaError: If the folder above is missing, or the disk is full.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._overwrite = overwrite
        self._count = 0
        self._open = ExitStack()

    def __enter__(self) -> "FolderWriter":
        self._hidden = self._open.enter_context(complete_folder(self.path, self._overwrite))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, image: Image, pts: Fraction, duration: Fraction) -> None:  # noqa: ARG002 - as VideoWriter's
        """Add a frame, ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16."""
        name = f"{self._count:0{DIGITS}d}{OUTPUT_ENDING}"
        (self._hidden / name).write_bytes(encode_image(OUTPUT_ENDING, np.ascontiguousarray(image)))
        self._count += 1
