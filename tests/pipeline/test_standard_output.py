"""Frames to standard output: what arrives there, and nothing else."""

from fractions import Fraction

import av
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.images import write_image
from uprnet.pipeline import interpolate_video
from uprnet.pipeline.pipe import STANDARD_OUTPUT


@pytest.fixture
def piped(tmp_path, capfdbinary, blend):
    """Return a function that interpolates to standard output, and opens what arrived there."""

    def run(source, **options):
        summary = interpolate_video(source, STANDARD_OUTPUT, interpolator=blend, **options)
        (tmp_path / "stream").write_bytes(capfdbinary.readouterr().out)
        with av.open(str(tmp_path / "stream")) as container:
            return summary, container.format.name, container.streams.video[0], list(container.decode(video=0))

    return run


def test_y4m(make_clip, tmp_path, piped):
    summary, form, stream, frames = piped(make_clip("s.mp4", range(5), Fraction(1001, 24000), audio="aac"))
    assert form == "yuv4mpegpipe"
    assert stream.base_rate == Fraction(48000, 1001)
    assert len(frames) == summary.frames_written == 10
    assert summary.warnings == ("the sound is dropped: standard output takes the picture alone",)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["s.mp4", "stream"]


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_light_beyond_white_is_refused(tmp_path, blend, kind):
    (tmp_path / "in").mkdir()
    for index in range(2):
        write_image(tmp_path / "in" / f"{index}.exr", np.full((16, 16, 3), 0.5, kind))
    with pytest.raises(InvalidInputError, match="no video holds the linear light of OpenEXR images"):
        interpolate_video(tmp_path / "in", STANDARD_OUTPUT, fps=25, interpolator=blend)


@pytest.mark.parametrize("pixel_format", ["yuv444p10le", "yuv422p", "yuv444p16le"])
def test_y4m_keeps_depth_and_chroma(make_clip, piped, pixel_format):
    source = make_clip("s.mkv", range(2), codec="ffv1", pixel_format=pixel_format)
    assert piped(source)[3][0].format.name == pixel_format


def test_y4m_has_one_rate_and_says_so(make_clip, blend):
    source = make_clip("s.mp4", [0, 30, 40, 300, 330], Fraction(1, 1000), options={"bf": "0"})
    with pytest.raises(MediaError, match="y4m has one frame rate, but that of the source varies; give fps"):
        interpolate_video(source, STANDARD_OUTPUT, interpolator=blend)


def test_varying_rate_becomes_constant_with_fps(make_clip, piped):
    source = make_clip("s.mp4", [0, 30, 40, 300, 330], Fraction(1, 1000), options={"bf": "0"})
    assert len(piped(source, fps=50)[3]) == 17


def test_nut_keeps_varying_times(make_clip, piped):
    source = make_clip("s.mp4", [0, 30, 40, 300, 330], Fraction(1, 1000), options={"bf": "0"})
    _, form, _, frames = piped(source, pipe_format="nut")
    assert form == "nut"
    times = [frame.pts * frame.time_base for frame in frames]
    assert times[::2] == [Fraction(stamp, 1000) for stamp in (0, 30, 40, 300, 330)]


def test_nut_keeps_transparency(tmp_path, piped):
    (tmp_path / "in").mkdir()
    for index in range(2):
        write_image(tmp_path / "in" / f"{index}.png", np.full((16, 16, 4), 100 * index + 50, np.uint8))
    _, _, _, frames = piped(tmp_path / "in", pipe_format="nut", fps=25)
    assert [int(frame.to_ndarray(format="rgba")[0, 0, 3]) for frame in frames] == [50, 100, 150, 150]
