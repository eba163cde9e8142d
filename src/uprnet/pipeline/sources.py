"""Sources of frames: a video, standard input or a folder of images, read alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from uprnet.errors import InvalidInputError
from uprnet.media.colour import Image
from uprnet.media.sequence import FolderReader, Gaps
from uprnet.media.timeline import DEFAULT_RATE, Rational, Timing
from uprnet.media.video import SkippedFrame, SourceFrame, VideoReader
from uprnet.pipeline.cuts import read_cuts, small, with_cuts, with_listed_cuts
from uprnet.pipeline.options import SceneOptions
from uprnet.pipeline.section import Section

Frame = SourceFrame | SkippedFrame
Reader = FolderReader | VideoReader


def open_source(
    source: Path,
    timing: Timing,
    fps: Rational | None,
    *,
    deinterlace: bool,
    upright: bool,
    to_folder: bool,
    gaps: Gaps,
) -> Reader:
    """Open a source.

    A folder has no times, so it gets those with which the output comes to play at ``fps``.

    Args:
        source: Video file, folder of images, or ``-`` for standard input.
        timing: Which frames are wanted.
        fps: How fast the output plays, where the source is a folder.
        deinterlace: Make whole pictures of interlaced ones.
        upright: Turn pictures as they are to be seen, where the output cannot say so itself.
        to_folder: Whether the output is a folder of images.
        gaps: What happens where images are missing.

    Raises:
        InvalidInputError: If the source is a folder, the output a video and no ``fps`` is given.
        MediaError: If it cannot be read.
    """
    if not source.is_dir():
        return VideoReader(source, deinterlace=deinterlace, upright=upright, keeps_stamps=timing.keep_timestamps)
    if fps is None and not to_folder:
        raise InvalidInputError(f"the folder {source} has no frame rate; give fps, the rate of the video to make")
    wanted = DEFAULT_RATE if fps is None else Timing.choose(fps=fps).output_rate(DEFAULT_RATE)
    return FolderReader(source, wanted / timing.output_rate(Fraction(1)), gaps)


def read_frames(reader: Reader, section: Section, skip: int, *, has_alpha: bool) -> Iterator[Frame]:
    """Yield the frames of a section, the first ``skip`` of them without their image.

    Args:
        reader: Where they come from.
        section: Which of them count.
        skip: So many of those that count come without their image.
        has_alpha: Whether transparency is wanted; it is taken off otherwise.
    """
    if isinstance(reader, VideoReader):
        # Frames before the section are not converted either, whether their number is known or their time.
        leading = skip + section.first if section.start == 0 else section.first
        frames = reader.frames(leading, since=reader.info.start + section.start, thumbnails=True)
    else:
        frames = _images(reader)
    for number, frame in enumerate(section.of_frames(frames, reader.info.start)):
        if number < skip or isinstance(frame, SkippedFrame):
            yield SkippedFrame(frame.pts, frame.duration, frame.thumbnail)
        else:
            yield frame if has_alpha else replace(frame, image=frame.image[..., :3])


def marked(frames: Iterable[Frame], scenes: SceneOptions, start: Fraction) -> Iterator[tuple[Frame, bool]]:
    """Say of every frame whether a scene begins with it.

    Args:
        frames: Frames with thumbnails.
        scenes: How cuts are found.
        start: Time of the first frame of the source, from which listed cuts count.
    """
    if scenes.cuts == "auto":
        return with_cuts(frames, _thumbnail, scenes.cut_threshold)
    times = () if scenes.cuts == "none" else read_cuts(Path(scenes.cuts))
    return with_listed_cuts(frames, lambda frame: frame.pts - start, times)


def _images(reader: FolderReader) -> Iterator[Frame]:
    for frame in reader:
        yield replace(frame, thumbnail=small(frame.image))


def _thumbnail(frame: Frame) -> Image:
    assert frame.thumbnail is not None, "the reader gives thumbnails"
    return frame.thumbnail
