"""Sources that are damaged: one line says what and where, and what can be had is kept."""

from fractions import Fraction

import pytest

from uprnet.errors import MediaError
from uprnet.media.video import VideoReader
from uprnet.pipeline import interpolate_video


def frames_of(path):
    with VideoReader(path) as reader:
        return list(reader)


@pytest.fixture
def source(make_clip):
    return make_clip("s.mkv", range(60), height=96, width=128, options={"g": "10", "bf": "0"}, audio="aac")


def test_corrupt_packets_in_the_middle(source, tmp_path, blend):
    data = bytearray(source.read_bytes())
    for position in range(len(data) // 3, len(data) // 2, 97):
        data[position] ^= 0x55
    source.write_bytes(data)
    summary = interpolate_video(source, tmp_path / "o.mp4", interpolator=blend)
    made = frames_of(tmp_path / "o.mp4")
    assert len(made) == summary.frames_written >= 60
    assert any("damaged" in text or "breaks off" in text for text in summary.warnings)
    assert all("\n" not in text for text in summary.warnings)


def test_gap_keeps_the_duration(source, tmp_path, blend):
    whole = interpolate_video(source, tmp_path / "whole.mp4", fps=60, interpolator=blend)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    source.write_bytes(data)
    damaged = interpolate_video(source, tmp_path / "o.mp4", fps=60, interpolator=blend)
    assert damaged.frames_read < whole.frames_read
    assert damaged.frames_written == whole.frames_written
    assert damaged.duration == whole.duration == Fraction(2)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_cut_off(source, tmp_path, blend, share):
    source.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    summary = interpolate_video(source, tmp_path / "o.mp4", interpolator=blend)
    assert 0 < summary.frames_read < 60
    assert len(frames_of(tmp_path / "o.mp4")) == summary.frames_written
    assert any("breaks off" in text for text in summary.warnings)


def test_codec_that_nobody_knows(make_clip, tmp_path, blend):
    source = make_clip("s.mp4")
    source.write_bytes(source.read_bytes().replace(b"avc1", b"xyz1"))
    with pytest.raises(MediaError, match="no decoder for the video in") as error:
        interpolate_video(source, tmp_path / "o.mp4", interpolator=blend)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


def test_nothing_but_noise(tmp_path, blend):
    (tmp_path / "s.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(MediaError, match="not a readable video"):
        interpolate_video(tmp_path / "s.mp4", tmp_path / "o.mp4", interpolator=blend)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


def test_source_that_vanishes(source, tmp_path, blend):
    """The copied tracks are read at the end; without the file there are none, and that is said."""

    def remove(step):
        if step.done == 10:
            source.unlink()

    with pytest.raises(MediaError, match=r"there is no file .*s\.mkv; 1 finished segment is kept"):
        interpolate_video(source, tmp_path / "o.mp4", interpolator=blend, progress=remove)
