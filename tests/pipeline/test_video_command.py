"""``uprnet video`` as a user types it, with a blend in place of the network."""

import json

import av
import numpy as np
import pytest

from uprnet.cli import main
from uprnet.media.images import write_image
from uprnet.media.video import VideoReader
from uprnet.options import NetworkOptions


@pytest.fixture(autouse=True)
def here(make_clip, tmp_path, monkeypatch, blend):
    """A current folder that holds in.mp4, ten frames with sound; no network is loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(NetworkOptions, "interpolator", lambda _: blend)
    make_clip("in.mp4", range(10), audio="aac", options={"bf": "0"})
    return tmp_path


def video(options, code=0):
    assert main(f"video {options}".split()) == code


def test_everything_at_once(here, capsys):
    (here / "cuts.txt").write_text("0.1\n")
    video("in.mp4 -o out.mkv --fps 50 --cuts cuts.txt --at-cut blend --duplicates retime --codec ffv1 --tracks none "
          "--pix-fmt yuv444p --encoder-options slices=4,context=1 --report r.json")  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == "out.mkv\n"
    assert "17 frames, 0.340 s" in captured.err
    assert "1 cut, at 0.100 s" in captured.err
    report = json.loads((here / "r.json").read_text())["videos"][0]
    assert (report["frames_read"], report["frames_written"], report["cuts"]) == (10, 17, [0.1])
    assert report["interpolated"] + report["blended"] + report["passed_through"] == 17
    assert report["blended"] == 1
    with VideoReader(here / "out.mkv") as reader:
        assert (reader.info.codec, reader.info.pixel_format, reader.info.rate) == ("ffv1", "yuv444p", 50)
        assert reader.info.audio == ()


def test_crf_and_preset(here):
    for crf in (10, 40):
        video(f"in.mp4 -o {crf}.mp4 --crf {crf} --preset ultrafast")
    assert (here / "10.mp4").stat().st_size > (here / "40.mp4").stat().st_size


@pytest.mark.parametrize(
    ("options", "count"), [("--end 0.12", 4), ("--start 0.13 --end 0:00.3", 5), ("--frames 3", 3), ("--frames 2:6", 4)]
)
def test_parts_of_seconds_are_kept(capsys, options, count):
    """in.mp4 has 30 frames a second."""
    video(f"in.mp4 -o out.mkv --factor 1 {options}")
    assert f"{count} frames," in capsys.readouterr().err


def test_slow_sound(here):
    video("in.mp4 -o slow.mkv --slow 2 --slow-audio")
    with av.open(str(here / "slow.mkv")) as container:
        assert len(container.streams.audio) == 1


@pytest.mark.parametrize(("ending", "count"), [("png", 20), ("tiff", 20), ("jpg", 20)])
def test_images(here, ending, count):
    video(f"in.mp4 -o frames --image-format {ending}")
    assert len(list((here / "frames").glob(f"*.{ending}"))) == count


def test_gaps_in_a_folder_of_images(here, capsys):
    (here / "in").mkdir()
    for number in (1, 2, 5):
        write_image(here / "in" / f"{number}.png", np.full((16, 16, 3), 20 * number, np.uint8))
    video("in -o a", code=1)
    assert "frames 3-4" in capsys.readouterr().err
    video("in -o b --gaps fill")
    video("in -o c --gaps close")
    assert len(list((here / "b").iterdir())) == 10
    assert len(list((here / "c").iterdir())) == 6


def test_folder_of_videos_with_a_bad_one(here, make_clip, capsys):
    (here / "in").mkdir()
    make_clip("in/a.mp4")
    (here / "in" / "b.mp4").write_bytes(b"?")
    make_clip("in/c.mkv")
    video("in -o out --report r.json", code=1)
    captured = capsys.readouterr()
    assert captured.out.split() == ["out/a.mp4", "out/c.mkv"]
    assert captured.err.rstrip().endswith("error: 1 of 3 videos failed: b.mp4")
    assert list(json.loads((here / "r.json").read_text())["failed"]) == ["in/b.mp4"]
    video("in -o out", code=1)
    assert "out/a.mp4 is there already" in capsys.readouterr().err


def test_json_progress_replaces_the_bar(capfd):
    video("in.mp4 -o out.mp4 --json-progress")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * 20 + ["done"]
    assert {line["total"] for line in lines[:-1]} == {20}
    assert lines[10]["rate"] > 0
    assert lines[19]["remaining"] == 0
    assert lines[20]["output"] == "out.mp4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("in.mp4 -o out.mp4 --encoder-options fast", "name=value,name=value, got 'fast'"),
        ("in.mp4 -o out.mp4 --json-progress --progress-fd 77", "open file descriptor, got 77"),
        ("in.mp4 -o out.mp4 --codec h266", "there is no video encoder h266"),
        ("in.mp4 -o out.webm --codec h264", ".webm cannot hold"),
        ("in.mp4 -o out.mp4 --cuts none.txt", "cannot read the list of cuts"),
        ("in.mp4 -o out.mp4 --cut-threshold 0.5", "cut_threshold must be above 1"),
        ("in.mp4 -o out.mp4 --slow-audio", "give slow, such as 2, too"),
        ("in.mp4 -o frames --image-format bmp", "image_format must be one of"),
        ("in.mp4 -o out.mp4 --image-format png", "image_format is for a folder as output, got out.mp4"),
        ("in.mp4 -o out --crf 18", "are for video files, not the folder out"),
        ("in.mp4 -o - --codec hevc", "are for video files, not standard output"),
        ("in.mp4 -o out --slow 2 --slow-audio", "slow_audio needs a video file as source and as output"),
        ("in.mp4 -o out.mp4 --fps 50 --keep-timestamps", "keeping time stamps needs a whole factor"),
        ("in.mp4 -o out.mp4 --start soon", "start must be a time such as 12.5"),
        ("in.mp4 -o out.mp4 --report none/r.json", "output folder none does not exist"),
        ("in.mp4 -o out.mp4 --report in.mp4 --overwrite", "a file of its own, got in.mp4"),
        ("in.mp4 -o out.mp4 --report ./out.mp4 --overwrite", "a file of its own, got out.mp4"),
        ("in.mp4 -o in.mp4 --overwrite", "source and output must differ"),
        ("none.mp4 -o out.mp4", "there is no file none.mp4"),
    ],
)
def test_mistakes_are_said_in_one_line(here, capsys, options, message):
    video(options, code=1)
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert message in lines[0]
    assert sorted(path.name for path in here.iterdir()) == sorted({"in.mp4"})


def test_wrong_choice_is_wrong_usage(capsys):
    video("in.mp4 -o out.mp4 --at-cut melt", code=2)
    assert "hold" in capsys.readouterr().err
