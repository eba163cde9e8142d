"""The demo: the bundled clip at twice its frame rate, and a sheet of one new frame."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from uprnet.interpolate import Interpolator
from uprnet.media.output import complete_folder
from uprnet.media.video import VideoReader
from uprnet.pipeline import Progress, interpolate_video
from uprnet.show import explain, write_pictures

#: The clip that comes with uprnet; its source and licence stand beside it.
CLIP = Path(__file__).parent / "assets" / "pig.mp4"

#: The pair of the clip that the sheet shows: the camera moves most there, 8 pixels a frame.
SHEET_FRAME = 24


def make_demo(
    output: Path, interpolator: Interpolator, progress: Callable[[Progress], None], *, overwrite: bool = False
) -> list[Path]:
    """Write ``smooth.mp4``, the clip at 60 frames per second, and the pictures of one new frame.

    Args:
        output: The folder to write.
        interpolator: What makes the new frames.
        progress: Called after every output frame.
        overwrite: Whether the folder may hold files, and those of an earlier demo be replaced.

    Returns:
        The files to look at.

    Raises:
        OutputExistsError: If the folder holds anything and ``overwrite`` is false.
    """
    with complete_folder(output, overwrite=overwrite) as hidden:
        interpolate_video(CLIP, hidden / "smooth.mp4", factor=2, interpolator=interpolator, progress=progress)
        with VideoReader(CLIP) as reader:
            img0, img1 = (frame.image for frame in islice(reader, SHEET_FRAME, SHEET_FRAME + 2))
        write_pictures(explain(interpolator, img0, img1, [0.5]), hidden)
    return [output / "smooth.mp4", output / "sheet-1.png"]
