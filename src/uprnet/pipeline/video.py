"""More frames for a video or a folder of images, file to file.

Frames flow one by one: a source is read as far as the next output frame needs, so memory does not grow with the
length. An output appears when it is complete. Until then its finished segments wait in a folder beside it, so that
interrupted work goes on when the same call is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

from uprnet.errors import MediaError, OutputExistsError, UprnetError
from uprnet.media.encoder import CARRIES_ORIENTATION
from uprnet.media.encoding import EncoderSettings
from uprnet.media.sequence import FolderReader, Gaps
from uprnet.media.timeline import Rational, Timing
from uprnet.media.video import STANDARD_INPUT
from uprnet.pipeline.interpolator import PairInterpolator, default_interpolator, identity_of
from uprnet.pipeline.options import SceneOptions, SoundOptions
from uprnet.pipeline.outputs import OutputRequest, left_out, picture_of, plan_output, say
from uprnet.pipeline.pipe import PipeFormat, open_pipe
from uprnet.pipeline.preview import SideBySide
from uprnet.pipeline.section import Section, SectionOptions
from uprnet.pipeline.shots import Decision
from uprnet.pipeline.side_folder import SideFolder, source_fingerprint
from uprnet.pipeline.sources import open_source
from uprnet.pipeline.targets import Target
from uprnet.pipeline.task import Task
from uprnet.pipeline.work import Progress, Tally, write_segments


@dataclass(frozen=True)
class Summary:
    """What was done.

    Attributes:
        output: The video file or folder.
        frames_read: Source frames.
        frames_written: Output frames.
        interpolated: Output frames that the network made.
        blended: Output frames that fade across a cut.
        passed_through: Output frames that are source frames, untouched.
        kept: Output frames that an earlier, interrupted run had made.
        cuts: Times at which scenes begin, in seconds from the first frame of the source.
        duration: Length of the output, in seconds.
        warnings: What the user should know, one line each; they were logged, too.
    """

    output: Path
    frames_read: int
    frames_written: int
    interpolated: int
    blended: int
    passed_through: int
    kept: int
    cuts: tuple[Fraction, ...]
    duration: Fraction
    warnings: tuple[str, ...]


def interpolate_video(
    source: Path | str,
    output: Path | str,
    *,
    factor: Rational | None = None,
    fps: Rational | None = None,
    slow: Rational | None = None,
    keep_timestamps: bool = False,
    section: SectionOptions | None = None,
    scenes: SceneOptions | None = None,
    sound: SoundOptions | None = None,
    encoder: EncoderSettings | None = None,
    image_format: str | None = None,
    pipe_format: PipeFormat = "y4m",
    deinterlace: bool = False,
    gaps: Gaps = "refuse",
    overwrite: bool = False,
    restart: bool = False,
    interpolator: PairInterpolator | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Make more frames for a video or a folder of numbered images; `uprnet.media.timeline` says which.

    Sound, subtitles, chapters and metadata of a video are copied as they are. A folder has no times of its own:
    there ``factor`` (or ``slow``) says how many frames are made, and ``fps`` how fast the output plays. It is needed
    where the output is a video.

    Interrupted work (Ctrl-C, an error, a kill) leaves its finished segments in a folder beside the output; the same
    call goes on after them, and gives the same output as without the interruption.

    Args:
        source: Video file, folder, or ``-`` for standard input.
        output: Video file (its ending says which kind), folder (no ending, or one that is there), or ``-`` for y4m on
            standard output.
        factor: Output frames per source frame; 2 if neither this, ``fps`` nor ``slow`` is given.
        fps: Constant rate of the output.
        slow: How many times slower time runs.
        keep_timestamps: Insist that every source frame keeps its time stamp.
        section: The part of the source that is wanted, or a preview.
        scenes: What happens at cuts and with repeated frames.
        sound: What goes along with the picture.
        encoder: How the output is encoded.
        image_format: Ending of the images in an output folder; png, or exr for linear light, if None.
        pipe_format: What is written to standard output.
        deinterlace: Make whole pictures of interlaced ones.
        gaps: What happens where images of a folder are missing: ``fill`` makes them, ``close`` goes on without.
        overwrite: Whether an output that is there may be replaced.
        restart: Whether to throw away what an interrupted run left.
        interpolator: What makes the frames; the default network if None.
        progress: Called after every output frame.

    Raises:
        InvalidInputError: If the request makes no sense.
        OutputExistsError: If the output is there and ``overwrite`` is False, or unfinished work with other settings.
        MediaError: If the source cannot be read or the output cannot be written.

    Example:
        >>> interpolate_video("clip.mp4", "smooth.mp4", fps=60).frames_written  # doctest: +SKIP
        392
    """
    source, output = Path(source), Path(output)
    # Images have no times: there fps says how fast the output plays, not which frames are made.
    timing = Timing.choose(factor, None if source.is_dir() else fps, slow, keep_timestamps=keep_timestamps)
    section, scenes = section or SectionOptions(), scenes or SceneOptions()
    request = OutputRequest(output, sound or SoundOptions(), encoder or EncoderSettings(), image_format, overwrite)
    request.check(source, restart=restart)
    interpolator = interpolator or default_interpolator()
    upright = not (request.is_file and CARRIES_ORIENTATION and section.preview is None)
    with open_source(
        source, timing, fps, deinterlace=deinterlace, upright=upright, to_folder=request.is_folder, gaps=gaps
    ) as reader:
        if isinstance(reader, FolderReader):
            timing = timing.constant(reader.info.rate)  # so that missing images are made, not passed over
        task = Task(reader, timing, Section.of(section, reader.info), scenes)
        compose = None if section.preview is None else SideBySide.of(reader.info, task.rate)
        if request.is_pipe:
            task.has_alpha = reader.info.has_alpha
            picture = picture_of(task, compose)
            missing = say(request, tuple(left_out(request, task, "standard output takes the picture alone")))
            with open_pipe(picture, pipe_format) as target:
                tally = _run(task, target, interpolator, compose, progress)
            return _summary(output, task, tally, (*missing, *reader.warnings))
        plan = plan_output(request, source, task, compose)
        settings = {
            "source": "" if source == STANDARD_INPUT else source_fingerprint(source),
            "fps": str(timing.fps),
            "factor": str(timing.factor),
            "slow": str(timing.slow),
            "section": str(section),
            "scenes": scenes.identity,
            "deinterlace": str(deinterlace),
            "gaps": gaps,
            "network": identity_of(interpolator),
            **plan.settings,
        }
        side = SideFolder(output, settings, restart=restart, is_kept=source != STANDARD_INPUT)
        with _explained(side), side:
            tally = _run(task, plan.target(side), interpolator, compose, progress)
        return _summary(output, task, tally, (*plan.warnings, *reader.warnings))


def _run(
    task: Task,
    target: Target,
    interpolator: PairInterpolator,
    compose: SideBySide | None,
    progress: Callable[[Progress], None] | None,
) -> Tally:
    """Write all segments that are not there yet, and make the output of them."""
    length, total = task.segment_length, task.total

    def report(tally: Tally, decision: Decision) -> None:
        if progress is not None:
            progress(Progress(sum(tally.frames.values()), total, decision.pts, tally.kept))

    first_wanted = next(number for number in count() if not target.is_done(number))
    tally = write_segments(
        task.decisions(first_wanted * length),
        target,
        interpolator,
        length=length,
        compose=compose,
        report=report,
    )
    if not tally.segments:
        raise MediaError(f"no frame of {task.reader.path} is in the section that is asked for")
    target.finish(tally.segments, task, tally.end)
    return tally


def _summary(output: Path, task: Task, tally: Tally, warnings: tuple[str, ...]) -> Summary:
    return Summary(
        output=output,
        frames_read=task.read,
        frames_written=sum(tally.frames.values()),
        interpolated=tally.frames["network"],
        blended=tally.frames["blend"],
        passed_through=tally.frames["source"],
        kept=tally.kept,
        cuts=tuple(task.cuts),
        duration=tally.end - (tally.start or 0),
        warnings=warnings,
    )


@contextmanager
def _explained(side: SideFolder) -> Iterator[None]:
    """Say what is kept when work breaks off, and how to go on."""
    try:
        yield
    except UprnetError as error:
        kept = side.segments()
        if not kept or isinstance(error, OutputExistsError):
            raise
        raise type(error)(f"{error}; {_kept(side)}") from error
    except KeyboardInterrupt as error:
        if not side.segments():
            raise
        raise type(error)(f"interrupted; {_kept(side)}") from None


def _kept(side: SideFolder) -> str:
    kept = len(side.segments())
    how_many = "1 finished segment is" if kept == 1 else f"{kept} finished segments are"
    return f"{how_many} kept in {side.path.name}, and the same command goes on from there"
