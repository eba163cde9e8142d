"""Reading what is not plain: interlaced, transparent, standard input, frames that are skipped, odd metadata."""

import re
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from uprnet.errors import MediaError
from uprnet.media.video import SkippedFrame, VideoReader

FIELDS = "tinterlace=interleave_top,fieldorder=tff"


def moving(rate, seconds=0.4):
    bar = "geq=lum=60+120*lt(abs(X-10-N*3)\\,12):cb=128:cr=128"
    return ["-f", "lavfi", "-i", f"nullsrc=size=96x64:rate={rate}:duration={seconds},format=yuv420p,{bar}"]


def combs(images):
    """How much each row differs from both its neighbours: large where fields of two moments are woven."""
    rows = np.stack(list(images)).astype(float)
    return np.abs(2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]).mean()


class TestInterlaced:
    @pytest.fixture(params=["fields.mpg", "fields.mp4"])
    def fields(self, request, tmp_path, ffmpeg):
        """Return a video of ten frames, each woven of two moments."""
        codec = ["-c:v", "mpeg2video", "-q:v", "2"] if request.param.endswith("mpg") else ["-c:v", "libx264"]
        path = tmp_path / request.param
        ffmpeg(*moving(50), "-vf", FIELDS, *codec, "-flags", "+ildct+ilme", str(path))
        return path

    def test_is_refused_in_one_line(self, fields):
        with pytest.raises(MediaError, match=r"is interlaced; add --deinterlace") as error:
            VideoReader(fields)
        assert "\n" not in str(error.value)

    def test_is_mended_at_the_same_times(self, fields):
        with av.open(str(fields)) as container:
            decoded = list(container.decode(video=0))
        with VideoReader(fields, deinterlace=True) as reader:
            frames = list(reader)
            assert reader.warnings == []
        assert [frame.pts for frame in frames] == [frame.pts * frame.time_base for frame in decoded]
        assert all(frame.duration == Fraction(1, 25) for frame in frames)
        assert combs(frame.image for frame in frames) < 0.6 * combs(
            frame.to_ndarray(format="rgb24") for frame in decoded
        )

    def test_what_is_not_called_interlaced_is_mended_if_asked_for(self, tmp_path, ffmpeg):
        path = tmp_path / "secret.mkv"
        ffmpeg(*moving(50), "-vf", "tinterlace=interleave_top,setfield=prog", "-c:v", "libx264", str(path))
        with VideoReader(path) as woven, VideoReader(path, deinterlace=True) as mended:
            assert combs(frame.image for frame in mended) < 0.6 * combs(frame.image for frame in woven)

    def test_a_few_frames_are_said(self, tmp_path, ffmpeg):
        common = ["-c:v", "mpeg2video", "-q:v", "2", "-f", "mpeg2video", "-"]
        whole = ffmpeg(*moving(25, 0.8), *common)
        woven = ffmpeg(*moving(50), "-vf", FIELDS, "-flags", "+ildct+ilme", *common)
        (tmp_path / "mixed.m2v").write_bytes(whole + woven)
        with VideoReader(tmp_path / "mixed.m2v") as reader:
            assert len(list(reader)) > 25
        said = r"interlaced frames: 10, the first at 0\.8\d\d s; they show combs, --deinterlace mends them"
        assert any(re.fullmatch(said, text) for text in reader.warnings)

    def test_progressive_is_not(self, make_clip):
        with VideoReader(make_clip()) as reader:
            list(reader)
        assert reader.warnings == []


class TestSkipping:
    def test_skipped_frames_have_times_and_thumbnails_only(self, make_clip):
        path = make_clip("s.mp4", range(12), height=96, width=320)
        with VideoReader(path) as reader:
            plain = list(reader)
        with VideoReader(path) as reader:
            frames = list(reader.frames(5, thumbnails=True))
        assert [type(frame) is SkippedFrame for frame in frames] == [True] * 5 + [False] * 7
        assert [(frame.pts, frame.duration) for frame in frames] == [(frame.pts, frame.duration) for frame in plain]
        assert all(frame.image is None for frame in frames[:5])
        assert all(np.array_equal(a.image, b.image) for a, b in zip(frames[5:], plain[5:], strict=True))
        for frame, whole in zip(frames, plain, strict=True):
            assert frame.thumbnail.shape == (77, 256, 3)
            assert frame.thumbnail.dtype == np.uint8
            assert np.abs(frame.thumbnail.mean((0, 1)) - whole.image.mean((0, 1))).max() < 2

    def test_thumbnails_are_not_larger_than_the_picture_and_only_made_if_asked_for(self, make_clip):
        path = make_clip("s.mkv", range(3), codec="ffv1", pixel_format="yuv420p10le")
        with VideoReader(path) as reader:
            assert {frame.thumbnail.shape for frame in reader.frames(thumbnails=True)} == {(48, 64, 3)}
        with VideoReader(path) as reader:
            assert {frame.thumbnail for frame in reader.frames(1)} == {None}


class TestStandardInput:
    def read(self, data):
        code = (
            "import sys; from pathlib import Path; from uprnet.errors import UprnetError\n"
            "from uprnet.media.video import VideoReader\n"
            "try: reader = VideoReader(Path('-'))\n"
            "except UprnetError as error: sys.exit(str(error))\n"
            "info = reader.info\n"
            "print(info.height, info.width, info.rate, info.depth, info.colour.chroma_location,"
            " *(frame.pts for frame in reader))"
        )
        return subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=60)

    def test_y4m(self, ffmpeg):
        source = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=24000/1001", "-frames:v", "4"]
        result = self.read(ffmpeg(*source, "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-"))
        assert result.stderr == b""
        height, width, rate, depth, _, *times = result.stdout.decode().split()
        assert (height, width, rate, depth) == ("64", "96", "24000/1001", "8")
        assert [Fraction(time) for time in times] == [Fraction(1001 * k, 24000) for k in range(4)]

    def test_ctrl_c_ends_the_wait_for_the_first_byte(self):
        code = "from uprnet.media.video import VideoReader, Path; print('ready', flush=True); VideoReader(Path('-'))"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) != 0
            assert b"KeyboardInterrupt" in process.stderr.read()

    def test_something_else(self):
        result = self.read(b"this is not a video")
        assert result.returncode == 1
        assert result.stderr.startswith(b"standard input is not a readable video")


class TestAlpha:
    @pytest.mark.parametrize(
        ("name", "codec", "pixel_format"),
        [("a.webm", "libvpx-vp9", "yuva420p"), ("a.mov", "prores_ks", "yuva444p10le"), ("a.mkv", "ffv1", "bgra"),
         ("a.mov", "png", "rgba"), ("a.mov", "qtrle", "argb")],
    )  # fmt: skip
    def test_comes_as_fourth_channel(self, tmp_path, ffmpeg, name, codec, pixel_format):
        ramp = "format=rgba,geq=r=200:g=100:b=50:a=X*255/(W-1)"
        ffmpeg(*moving(25, 0.12), "-vf", ramp, "-c:v", codec, "-pix_fmt", pixel_format, str(tmp_path / name))
        with VideoReader(tmp_path / name) as reader:
            frames = list(reader)
        assert len(frames) == 3
        assert reader.info.has_alpha
        assert reader.warnings == []
        image = frames[1].image / (np.iinfo(frames[1].image.dtype).max / 255)
        assert np.abs(image[..., 3] - np.linspace(0, 255, 96)).max() < 4
        assert np.abs(image[:, 60:, :3] - (200, 100, 50)).max() < 6


def test_metadata_of_single_frames_is_said_to_be_dropped(tmp_path, ffmpeg, monkeypatch):
    ffmpeg(*moving(25, 0.12), str(tmp_path / "d.mp4"))
    monkeypatch.setattr("uprnet.media.video.dynamic_metadata", lambda frame: ["Dolby Vision", "HDR10+"])  # noqa: ARG005
    with VideoReader(tmp_path / "d.mp4") as reader:
        said = "dropped: Dolby Vision, HDR10+; single frames hold it, and new ones have none"
        assert reader.warnings == [said]


def test_location_of_chroma_is_read_from_files(tmp_path, ffmpeg):
    for location, number in (("topleft", 3), ("center", 2), ("left", 1)):
        ffmpeg(*moving(25, 0.12), "-pix_fmt", "yuv420p", "-chroma_sample_location", location, str(tmp_path / "c.mp4"))
        with VideoReader(tmp_path / "c.mp4") as reader:
            assert reader.info.colour.chroma_location == number
