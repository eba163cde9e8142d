"""Two images in, the images between them out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from uprnet.errors import InvalidInputError
from uprnet.files import check_folder
from uprnet.media.colour import Image
from uprnet.media.images import ENDINGS, alike, encode_image, loss_in, read_image
from uprnet.media.linear_light import as_displayed
from uprnet.media.output import check_file, complete_file, complete_folder
from uprnet.media.timeline import Rational, as_rational
from uprnet.pipeline.interpolator import BATCH, PairInterpolator, default_interpolator, frames_between

if TYPE_CHECKING:
    from uprnet.interpolate import Interpolator

logger = logging.getLogger(__name__)


def interpolate_images(
    path0: str | Path,
    path1: str | Path,
    output: str | Path,
    times: Sequence[Rational] = (Fraction(1, 2),),
    *,
    overwrite: bool = False,
    interpolator: PairInterpolator | None = None,
    show: str | Path | None = None,
) -> tuple[Path, ...]:
    """Make images between two images and write them.

    Images of different kind are brought to the richer one: 16 bits if one has them, alpha if one has it.

    Args:
        path0: Image at time 0.
        path1: Image at time 1.
        output: An image file for one time. For several, the same name with ``-1``, ``-2``, ... before the ending.
        times: Moments in [0, 1]; 0 and 1 give the images themselves.
        overwrite: Whether files that are there may be replaced.
        interpolator: What makes the frames; the default network if None.
        show: A new or empty folder for pictures of flow and masks (`uprnet.show`); needs an `uprnet.Interpolator`.

    Returns:
        The files written, one for each of ``times``. If one cannot be written, none is.

    Raises:
        InvalidInputError: If the sizes of the images differ, there are no times, or one is outside [0, 1].
        MediaError: If an image cannot be read or written.

    Example:
        >>> interpolate_images("a.png", "b.png", "mid.png")  # doctest: +SKIP
        (PosixPath('mid.png'),)
    """
    moments = [as_rational(t, "t") for t in times]
    if not moments or not all(0 <= t <= 1 for t in moments):
        raise InvalidInputError(f"one or more times in [0, 1] are needed, got {', '.join(map(str, times)) or 'none'}")
    path0, path1, output = Path(path0), Path(path1), Path(output)
    paths = _numbered(output, len(moments))
    for path in paths:
        check_file(path, ENDINGS, overwrite)
    if show is not None:
        if interpolator is not None and not hasattr(interpolator, "pair"):
            raise InvalidInputError(f"show needs an uprnet.Interpolator, got {type(interpolator).__name__}")
        check_folder(Path(show), overwrite=overwrite)
    pictures = [read_image(path) for path in (path0, path1)]
    for path, picture in zip((path0, path1), pictures, strict=True):
        if picture.note:
            logger.warning("%s: %s", path.name, picture.note)
    img0, img1 = alike(pictures[0].pixels, pictures[1].pixels)
    loss = loss_in(output.suffix, img0)
    if loss:
        logger.warning("%s: %s", output.name, loss)
    interpolator = interpolator or default_interpolator()
    seconds = [float(t) for t in moments]
    with ExitStack() as stack:  # what is entered last is completed first
        for first in range(0, len(paths), BATCH):
            batch = slice(first, first + BATCH)
            made = frames_between(interpolator, img0, img1, seconds[batch])
            for path, image in zip(paths[batch], made, strict=True):
                hidden = stack.enter_context(complete_file(path, overwrite))
                hidden.write_bytes(encode_image(path.suffix, image))
        if show is not None:
            _show(Path(show), overwrite, interpolator, img0, img1, seconds)
    return tuple(paths)


def _show(
    folder: Path, overwrite: bool, interpolator: PairInterpolator, img0: Image, img1: Image, times: list[float]
) -> None:
    from uprnet.show import explain, write_pictures  # they need torch, which takes seconds to import

    seen0, seen1 = (img0, img1) if img0.dtype.kind != "f" else as_displayed(img0, img1)[:2]
    with complete_folder(folder, overwrite) as hidden:
        write_pictures(explain(cast("Interpolator", interpolator), seen0, seen1, times), hidden)


def _numbered(output: Path, count: int) -> list[Path]:
    if count == 1:
        return [output]
    width = len(str(count))
    return [output.with_name(f"{output.stem}-{number:0{width}d}{output.suffix}") for number in range(1, count + 1)]
