"""Folders of numbered images, read like videos."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

from uprnet.errors import MediaError
from uprnet.media.colour import ColourTags, Image
from uprnet.media.images import alike, list_images, read_image
from uprnet.media.numbering import name_gaps, positions, strays
from uprnet.media.stream import VideoInfo
from uprnet.media.video import SourceFrame

logger = logging.getLogger(__name__)

Gaps = Literal["refuse", "fill", "close"]
"""What happens where numbers are missing: the work is refused, the missing frames are made, or it goes on as if
nothing were missing."""


class FolderReader:
    """Iterate over the images of a folder as frames of a steady rate, in the order of their numbers.

    Numbers may begin anywhere and go on in any steps. Where some are missing, say because a renderer broke off,
    the sequence is refused unless ``gaps`` says what to do: with ``"fill"`` the images keep the times that their
    numbers give them, so that frames are made for the missing ones; with ``"close"`` they follow each other.

    Convention:
        The image at place i is shown from i / rate on. All have the kind of the first: a plain one among images with
        alpha or 16 bits gets them.

    Args:
        folder: Folder of images.
        rate: Images per second.
        gaps: What happens where numbers are missing.

    Attributes:
        info: What would be said of a video of these images.
        kind: Type of the samples.
        warnings: What was converted, one line each.

    Raises:
        MediaError: If there is no such folder, no image in it, one cannot be read, two have the same number, numbers
            are missing and ``gaps`` is ``"refuse"``, the names have none and it is ``"fill"``, or an image does not
            belong to the others and it is not ``"close"``.
    """

    def __init__(self, folder: Path, rate: Fraction, gaps: Gaps = "refuse") -> None:
        self.path = folder
        self.warnings: list[str] = []
        self._paths = list_images(folder)
        self._places = self._find_places(gaps)
        self._first = self._read(self._paths[0])
        height, width, channels = self._first.shape
        self.kind = self._first.dtype
        depth = 8 * self._first.itemsize
        self.info = VideoInfo(
            height=height,
            width=width,
            rate=rate,
            tick=1 / rate,
            start=Fraction(0),
            duration=(self._places[-1] + 1) / rate,
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
        for index, (place, path) in enumerate(zip(self._places, self._paths, strict=True)):
            image = self._first if index == 0 else self._like_first(self._read(path), path)
            yield SourceFrame(place * step, step, image)

    def _find_places(self, gaps: Gaps) -> list[int]:
        """Give each image its place in time, or refuse."""
        places = positions(self._paths)
        if places is None:
            odd = strays(self._paths) if gaps != "close" else []
            if odd:
                usual = next(path for path in self._paths if path not in odd)
                raise MediaError(
                    f"{self.path} holds {odd[0].name} beside images that are numbered like {usual.name}; "
                    "move it elsewhere, or take all by their names (--gaps close)"
                )
            if gaps == "fill":
                raise MediaError(
                    f"--gaps fill needs one number in each name that counts the images; in {self.path} are "
                    f"{self._paths[0].name} and {self._paths[-1].name}"
                )
            if len(self._paths) > 1:
                self._warn("the names have no evenly spaced numbers; the images are taken in the order of their names")
            return list(range(len(self._paths)))
        missing = name_gaps(self._paths, places)
        if missing and gaps == "refuse":
            raise MediaError(
                f"{self.path} is missing frames {missing}; --gaps fill makes them, --gaps close goes on without them"
            )
        if missing:
            how = "made from their neighbours" if gaps == "fill" else "passed over"
            self._warn(f"missing and {how}: frames {missing}")
        return places if gaps == "fill" else list(range(len(self._paths)))

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
            self._warn(f"{path.name}, and perhaps others: {picture.note}")
        return picture.pixels

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        logger.warning("%s: %s", self.path.name, text)
