"""The command that makes more frames: ``uprnet video``."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from uprnet.console import (
    JsonLines,
    Network,
    Output,
    Overwrite,
    progress_bar,
    stderr,
    stdout,
)
from uprnet.errors import InvalidInputError, MediaError
from uprnet.files import check_output
from uprnet.media.encoding import EncoderSettings
from uprnet.media.output import complete_file
from uprnet.media.sequence import Gaps
from uprnet.media.video import STANDARD_INPUT
from uprnet.options import NetworkOptions
from uprnet.pipeline.folder import FolderSummary, holds_videos, interpolate_folder
from uprnet.pipeline.options import SceneOptions, SoundOptions
from uprnet.pipeline.pipe import STANDARD_OUTPUT, PipeFormat
from uprnet.pipeline.section import SectionOptions
from uprnet.pipeline.video import Summary, interpolate_video


@dataclass(frozen=True)
class TimeOptions:
    """How many frames, and when.

    Attributes:
        factor: Frames out per frame in: 2 (the default), 4, 2.5, ... A variable frame rate stays variable.
        fps: Frames per second of the output, constant: 60, 60000/1001, 59.94, ...
        slow: Slow motion: 4 makes it four times as long, at the source's frame rate.
        keep_timestamps: Insist that every source frame keeps its time stamp; needs a whole factor.
    """

    factor: str | None = None
    fps: str | None = None
    slow: str | None = None
    keep_timestamps: Annotated[bool, Parameter(negative="")] = False


@dataclass(frozen=True)
class FormatOptions:
    """How the output is stored; what is left out is chosen to suit the source and the container.

    Attributes:
        codec: h264, hevc, vp9, av1, prores, ffv1, png, or libav's name of any encoder.
        crf: Constant rate factor: smaller is better and larger. What it means depends on the encoder.
        preset: Speed against size, in the words of the encoder.
        pix_fmt: libav's name of the pixel format, such as yuv420p10le.
        encoder_options: Further options of the encoder: name=value,name=value.
        image_format: Ending of the images, where the output is a folder: png, tiff, webp, jpg, exr. The default is png,
            and exr for OpenEXR images.
        pipe_format: What is written to standard output: y4m, or nut with exact times and transparency.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    encoder_options: str = ""
    image_format: str | None = None
    pipe_format: PipeFormat = "y4m"

    def settings(self) -> EncoderSettings:
        """Give what concerns the encoder."""
        pairs = [part.partition("=") for part in self.encoder_options.split(",") if part]
        for name, equals, _ in pairs:
            if not (name and equals):
                raise InvalidInputError(f"encoder-options must be name=value,name=value, got {self.encoder_options!r}")
        options = {name.strip(): value for name, _, value in pairs}
        return EncoderSettings(self.codec, self.crf, self.preset, self.pix_fmt, options)


@dataclass(frozen=True)
class ReportOptions:
    """What is said of the work.

    Attributes:
        json_progress: One JSON object for every frame on a line of its own instead of the bar, for other programs.
        progress_fd: File descriptor for these lines; 2 is standard error.
        report: Write what was done, the cuts that were found included, to this new JSON file.
    """

    json_progress: Annotated[bool, Parameter(negative="")] = False
    progress_fd: int = 2
    report: Path | None = None


def video(
    source: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    *,
    output: Annotated[Output, Parameter(allow_leading_hyphen=True)],
    times: Annotated[TimeOptions, Parameter(name="*", group="Times")] = TimeOptions(),
    section: Annotated[SectionOptions, Parameter(name="*", group="Section")] = SectionOptions(),  # noqa: B008
    scenes: Annotated[SceneOptions, Parameter(name="*", group="Scenes")] = SceneOptions(),  # noqa: B008
    form: Annotated[FormatOptions, Parameter(name="*", group="Format")] = FormatOptions(),
    sound: Annotated[SoundOptions, Parameter(name="*", group="Sound and other tracks")] = SoundOptions(),  # noqa: B008
    network: Network = NetworkOptions(),  # noqa: B008
    reports: Annotated[ReportOptions, Parameter(name="*", group="Reports")] = ReportOptions(),
    deinterlace: Annotated[bool, Parameter(negative="")] = False,
    gaps: Gaps = "refuse",
    overwrite: Overwrite = False,
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make more frames for a video, a folder of videos or a folder of numbered images.

    The duration stays, and sound, subtitles, chapters and metadata are copied. Interrupted work goes on when the same
    command is given again.

    Args:
        source: A video file, a folder of videos or of numbered images, or - for standard input.
        output: A video file (.mp4, .mkv, .mov, .webm), a folder for videos or numbered images, or - for y4m on
            standard output.
        times: How many frames, and when.
        section: Which part.
        scenes: What happens at cuts.
        form: How it is stored.
        sound: What goes along.
        network: The network.
        reports: What is said.
        deinterlace: Make whole pictures of an interlaced video, which is refused otherwise.
        gaps: Where images of a folder are missing: refuse, fill makes them, close goes on without.
        overwrite: Replace an output that is there.
        restart: Throw away what an interrupted run left, and begin anew.
    """
    if reports.report is not None:
        _check_report(reports.report, (source, output), overwrite=overwrite)
    lines = JsonLines(reports.progress_fd) if reports.json_progress else None
    if source != STANDARD_INPUT and not source.exists():
        raise MediaError(f"there is no file {source}")  # said before the network is loaded
    settings, is_batch = form.settings(), source.is_dir() and holds_videos(source)
    interpolator = network.interpolator()

    def make(one: Path, made: Path) -> Summary:
        if lines is not None:
            lines.begin()
        with nullcontext(lines.progress) if lines else progress_bar() as progress:
            summary = interpolate_video(
                one,
                made,
                **asdict(times),
                section=section,
                scenes=scenes,
                sound=sound,
                encoder=settings,
                image_format=form.image_format,
                pipe_format=form.pipe_format,
                deinterlace=deinterlace,
                gaps=gaps,
                overwrite=overwrite,
                restart=restart,
                interpolator=interpolator,
                progress=progress,
            )
        if lines is not None:
            lines.write(event="done", **_facts(summary))
        else:
            _say(summary)
        return summary

    done = interpolate_folder(source, output, make, overwrite=overwrite) if is_batch else None
    summaries = [make(source, output)] if done is None else list(done.done)
    if reports.report is not None:
        _write_report(reports.report, summaries, done, overwrite=overwrite)
    if done is not None and done.failed:
        names = ", ".join(path.name for path, _ in done.failed)
        raise MediaError(f"{len(done.failed)} of {len(done.failed) + len(summaries)} videos failed: {names}")


def _say(summary: Summary) -> None:
    """Say in a line or two what was done."""
    parts = [f"{summary.interpolated} new", f"{summary.passed_through} of the source's own"]
    parts += [f"{summary.blended} blended"] if summary.blended else []
    kept = f"; {summary.kept} were there from an interrupted run" if summary.kept else ""
    stderr.print(f"{summary.frames_written} frames, {float(summary.duration):.3f} s: {', '.join(parts)}{kept}")
    if summary.cuts:
        times = ", ".join(f"{float(cut):.3f}" for cut in summary.cuts)
        stderr.print(f"{len(summary.cuts)} cut{'s' * (len(summary.cuts) > 1)}, at {times} s")
    if summary.output != STANDARD_OUTPUT:
        stdout.print(summary.output)


def _facts(summary: Summary) -> dict[str, Any]:
    """Give a summary as JSON takes it: times as seconds."""
    facts = asdict(summary)
    return facts | {
        "output": str(summary.output),
        "duration": float(summary.duration),
        "cuts": [float(cut) for cut in summary.cuts],
    }


def _check_report(report: Path, others: tuple[Path, Path], *, overwrite: bool) -> None:
    """Refuse, before work starts, a report that could not be written or would replace the source or the output."""
    if any(other not in (STANDARD_INPUT, STANDARD_OUTPUT) and report.resolve() == other.resolve() for other in others):
        raise InvalidInputError(
            f"the report must be a file of its own, got {report}, which is the source or the output"
        )
    check_output(report, overwrite=overwrite)


def _write_report(path: Path, summaries: list[Summary], batch: FolderSummary | None, *, overwrite: bool) -> None:
    facts: dict[str, Any] = {"videos": [_facts(summary) for summary in summaries]}
    if batch is not None:
        facts["skipped"] = [str(path) for path in batch.skipped]
        facts["failed"] = {str(path): reason for path, reason in batch.failed}
    with complete_file(path, overwrite) as hidden:
        hidden.write_text(json.dumps(facts, indent=1))
