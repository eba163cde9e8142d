"""File to file: frames between two images, and more frames for a video or a folder of images.

Frames flow one by one: a source is read as far as the next output frame needs, so memory does not grow with the
length. Outputs appear when they are complete; an error or Ctrl-C leaves nothing behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from uprnet.errors import InvalidInputError
from uprnet.media.colour import Image
from uprnet.media.images import ENDINGS, alike, encode_image, loss_in, read_image
from uprnet.media.output import check_file, complete_file, complete_folder
from uprnet.media.sequence import FolderReader, FolderWriter
from uprnet.media.timeline import DEFAULT_RATE, OutputFrame, Rational, Timing, as_rational, plan
from uprnet.media.video import SourceFrame, VideoInfo, VideoReader
from uprnet.media.video_writer import CONTAINERS, VideoWriter

if TYPE_CHECKING:
    from uprnet.interpolate import Interpolator

logger = logging.getLogger(__name__)

BATCH = 8
"""New frames of one pair that are made, and kept in memory, at a time."""


class PairInterpolator(Protocol):
    """What makes the new frames; `uprnet.Interpolator` does."""

    def between(self, img0: Image, img1: Image, times: Sequence[float]) -> list[Image]:
        """Make one frame for each of ``times`` in (0, 1), like the images in size and type."""


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        done: Output frames written.
        total: Output frames in all, an estimate where the source does not count its frames; None if unknown.
        time: Time of the last frame written, in seconds.
    """

    done: int
    total: int | None
    time: Fraction


@dataclass(frozen=True)
class Summary:
    """What was done.

    Attributes:
        output: The video file or folder.
        frames_read: Source frames.
        frames_written: Output frames.
        interpolated: Output frames that the network made.
        passed_through: Output frames that are source frames, untouched by the network.
        duration: Length of the output, in seconds.
        warnings: What the user should know, one line each; they were logged, too.
    """

    output: Path
    frames_read: int
    frames_written: int
    interpolated: int
    passed_through: int
    duration: Fraction
    warnings: tuple[str, ...]


def interpolate_images(
    path0: Path,
    path1: Path,
    output: Path,
    times: Sequence[Rational] = (Fraction(1, 2),),
    *,
    overwrite: bool = False,
    interpolator: PairInterpolator | None = None,
    show: Path | None = None,
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
        >>> interpolate_images(Path("a.png"), Path("b.png"), Path("mid.png"))  # doctest: +SKIP
        (PosixPath('mid.png'),)
    """
    moments = [as_rational(t, "t") for t in times]
    if not moments or not all(0 <= t <= 1 for t in moments):
        raise InvalidInputError(f"one or more times in [0, 1] are needed, got {', '.join(map(str, times)) or 'none'}")
    paths = _numbered(output, len(moments))
    for path in paths:
        check_file(path, ENDINGS, overwrite)
    pictures = [read_image(path) for path in (path0, path1)]
    for path, picture in zip((path0, path1), pictures, strict=True):
        if picture.note:
            logger.warning("%s: %s", path.name, picture.note)
    img0, img1 = alike(pictures[0].pixels, pictures[1].pixels)
    loss = loss_in(output.suffix, img0)
    if loss:
        logger.warning("%s: %s", output.name, loss)
    interpolator = interpolator or _default_interpolator()
    made = interpolator.between(img0, img1, [float(t) for t in moments])
    with ExitStack() as stack:
        if show is not None:
            from uprnet.show import explain, write_pictures  # they need torch, which takes seconds to import

            explained = explain(cast("Interpolator", interpolator), img0, img1, [float(t) for t in moments])
            write_pictures(explained, stack.enter_context(complete_folder(show, overwrite)))
        for path, image in zip(paths, made, strict=True):
            hidden = stack.enter_context(complete_file(path, overwrite))
            hidden.write_bytes(encode_image(path.suffix, image))
    return tuple(paths)


def interpolate_video(
    source: Path,
    output: Path,
    *,
    factor: Rational | None = None,
    fps: Rational | None = None,
    slow: Rational | None = None,
    overwrite: bool = False,
    interpolator: PairInterpolator | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Make more frames for a video or a folder of numbered images; `uprnet.media.timeline` says which.

    The audio of a video is copied packet by packet; with ``slow`` it is dropped, since it would no longer fit.
    A folder has no times of its own: there ``factor`` (or ``slow``) says how many frames are made, and ``fps`` how
    fast the output plays. It is needed where the output is a video.

    Args:
        source: Video file or folder.
        output: Video file (its ending says which kind) or folder (no ending, or one that is there).
        factor: Output frames per source frame; 2 if neither this, ``fps`` nor ``slow`` is given.
        fps: Constant rate of the output.
        slow: How many times slower time runs.
        overwrite: Whether an output that is there may be replaced.
        interpolator: What makes the frames; the default network if None.
        progress: Called after every output frame.

    Raises:
        InvalidInputError: If the request makes no sense.
        OutputExistsError: If the output is there and ``overwrite`` is False.
        MediaError: If the source cannot be read or the output cannot be written.

    Example:
        >>> interpolate_video(Path("clip.mp4"), Path("smooth.mp4"), fps=60).frames_written  # doctest: +SKIP
        392
    """
    to_folder = output.is_dir() or not output.suffix
    if not to_folder:
        check_file(output, CONTAINERS, overwrite)
    if output.exists() and output.resolve() == source.resolve():
        raise InvalidInputError(f"source and output must differ, both are {source}")
    reader, timing = _open_source(source, to_folder, factor, fps, slow)
    interpolator = interpolator or _default_interpolator()
    with reader:
        info = reader.info
        losses = _losses(info, timing, to_folder)
        for text in losses:
            logger.warning("%s: %s", output.name, text)
        has_alpha = to_folder and info.has_alpha
        read = interpolated = written = 0

        def frames() -> Iterator[SourceFrame]:
            nonlocal read
            for frame in reader:
                read += 1
                yield frame if has_alpha else replace(frame, image=frame.image[..., :3])

        end, total = info.start, _total(timing, info)
        with _open_output(output, source, info, timing, to_folder, overwrite) as writer:
            for made, image in _make(plan(frames(), timing, 1 / info.rate), interpolator):
                writer.write(image, made.pts, made.duration)
                end = made.pts + made.duration
                interpolated += made.t != 0
                written += 1
                if progress is not None:
                    progress(Progress(written, total, made.pts))
    return Summary(
        output=output,
        frames_read=read,
        frames_written=written,
        interpolated=interpolated,
        passed_through=written - interpolated,
        duration=end - info.start,
        warnings=(*losses, *reader.warnings, *writer.warnings),
    )


def _make(
    outputs: Iterable[OutputFrame[SourceFrame]], interpolator: PairInterpolator
) -> Iterator[tuple[OutputFrame[SourceFrame], Image]]:
    """Yield every output frame with its image: the source's own where ``t`` is 0, else a new one."""
    for batch in _batches(outputs):
        times = [float(out.t) for out in batch if out.t != 0]
        left, right = batch[0].left, batch[0].right
        new = iter(interpolator.between(left.image, right.image, times) if times and right else ())
        for out in batch:
            yield out, left.image if out.t == 0 else next(new)


def _batches(outputs: Iterable[OutputFrame[SourceFrame]]) -> Iterator[list[OutputFrame[SourceFrame]]]:
    """Group the outputs of one pair, so that its motion is estimated once, ``BATCH`` at most."""
    batch: list[OutputFrame[SourceFrame]] = []
    for out in outputs:
        if batch and (out.index != batch[0].index or len(batch) == BATCH):
            yield batch
            batch = []
        batch.append(out)
    if batch:
        yield batch


def _open_source(
    source: Path, to_folder: bool, factor: Rational | None, fps: Rational | None, slow: Rational | None
) -> tuple[FolderReader | VideoReader, Timing]:
    if not source.is_dir():
        timing = Timing.choose(factor, fps, slow)
        return VideoReader(source), timing
    if fps is None and not to_folder:
        raise InvalidInputError(f"the folder {source} has no frame rate; give fps, the rate of the video to make")
    timing = Timing.choose(factor=factor, slow=slow)
    # A folder has no times, so it gets those with which the output comes to play at fps.
    wanted = DEFAULT_RATE if fps is None else Timing.choose(fps=fps).output_rate(DEFAULT_RATE)
    return FolderReader(source, wanted / timing.output_rate(Fraction(1))), timing


def _open_output(
    output: Path, source: Path, info: VideoInfo, timing: Timing, to_folder: bool, overwrite: bool
) -> FolderWriter | VideoWriter:
    if to_folder:
        return FolderWriter(output, overwrite)
    return VideoWriter(
        output,
        info.height,
        info.width,
        timing.output_rate(info.rate),
        timing.time_base(info.start, info.tick),
        colour=info.colour,
        is_deep=info.depth > 8,
        sample_aspect=info.sample_aspect,
        audio_from=source if info.audio and timing.slow == 1 else None,
        overwrite=overwrite,
    )


def _losses(info: VideoInfo, timing: Timing, to_folder: bool) -> list[str]:
    """Say what of the source the output will not have."""
    losses = []
    if info.audio and to_folder:
        losses.append("the sound is dropped: a folder has none")
    elif info.audio and timing.slow != 1:
        losses.append("the sound is dropped: it does not fit slower time")
    if info.other_tracks:
        losses.append(f"tracks that are left out: {', '.join(info.other_tracks)}")
    if info.has_alpha and not to_folder:
        losses.append("transparency is dropped: the video has none")
    return losses


def _total(timing: Timing, info: VideoInfo) -> int | None:
    if info.frames is None or info.duration is None:
        return None
    return timing.count(info.frames, info.duration)


def _numbered(output: Path, count: int) -> list[Path]:
    if count == 1:
        return [output]
    width = len(str(count))
    return [output.with_name(f"{output.stem}-{number:0{width}d}{output.suffix}") for number in range(1, count + 1)]


def _default_interpolator() -> PairInterpolator:
    from uprnet.interpolate import Interpolator  # torch takes seconds to import: only when it is needed

    return Interpolator()
