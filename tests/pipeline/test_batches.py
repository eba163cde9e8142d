"""Folders of videos: every one of them, whatever happens to the others."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.images import write_image
from uprnet.media.video import VideoReader
from uprnet.pipeline import interpolate_folder, interpolate_video
from uprnet.pipeline.folder import holds_videos


@pytest.fixture
def folder(make_clip, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("in/b.mp4", "in/a.mkv", "in/c.avi"):
        make_clip(name, range(4), options={"bf": "0"})
    (tmp_path / "in" / ".hidden.mp4").write_bytes(b"?")
    (tmp_path / "in" / "notes.txt").write_text("?")
    return tmp_path / "in"


def test_every_video(folder, tmp_path, blend):
    summary = interpolate_folder(folder, tmp_path / "out", partial(interpolate_video, interpolator=blend))
    assert [done.output.name for done in summary.done] == ["a.mkv", "b.mp4", "c.mkv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mkv", "b.mp4", "c.mkv"]
    for done in summary.done:
        with VideoReader(done.output) as reader:
            assert len(list(reader)) == 8


def test_goes_on_after_a_bad_one_and_names_it(folder, tmp_path, blend, caplog):
    (folder / "b.mp4").write_bytes(b"no video")
    summary = interpolate_folder(folder, tmp_path / "out", partial(interpolate_video, interpolator=blend))
    assert [done.output.name for done in summary.done] == ["a.mkv", "c.mkv"]
    assert [path.name for path, _ in summary.failed] == ["b.mp4"]
    assert "not a readable video" in summary.failed[0][1]
    assert "b.mp4" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mkv", "c.mkv"]


def test_what_is_there_is_skipped_unless_it_may_be_replaced(folder, tmp_path, blend):
    make = partial(interpolate_video, interpolator=blend, overwrite=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mkv").write_bytes(b"mine")
    summary = interpolate_folder(folder, tmp_path / "out", make)
    assert summary.skipped == (tmp_path / "out" / "a.mkv",)
    assert (tmp_path / "out" / "a.mkv").read_bytes() == b"mine"
    assert len(interpolate_folder(folder, tmp_path / "out", make, overwrite=True).done) == 3


def test_interruption_is_not_taken_for_a_bad_video_and_says_what_is_there(folder, tmp_path):
    def interrupt(_, made):
        if any(made.parent.iterdir()):
            raise KeyboardInterrupt
        made.touch()

    with pytest.raises(KeyboardInterrupt, match=r"^interrupted; 1 of 3 videos are there, and the same command goes on"):
        interpolate_folder(folder, tmp_path / "out", interrupt)


def test_two_of_the_same_name_are_refused(folder, tmp_path, blend):
    (folder / "a.avi").write_bytes(b"?")
    with pytest.raises(InvalidInputError, match=r"both become a\.mkv"):
        interpolate_folder(folder, tmp_path / "out", partial(interpolate_video, interpolator=blend))


@pytest.mark.parametrize("name", ["-", "all.mp4"])
def test_an_output_that_is_no_folder_is_refused(folder, monkeypatch, tmp_path, blend, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=f"must be a folder, got {name}"):
        interpolate_folder(folder, Path(name), partial(interpolate_video, interpolator=blend))
    assert not (tmp_path / name).exists()


def test_same_folder_is_refused(folder, blend):
    with pytest.raises(InvalidInputError, match="must differ"):
        interpolate_folder(folder, folder, partial(interpolate_video, interpolator=blend))


def test_no_place_for_the_outputs(folder, tmp_path, blend):
    with pytest.raises(MediaError, match="cannot make the folder"):
        interpolate_folder(folder, tmp_path / "no" / "out", partial(interpolate_video, interpolator=blend))


class TestContent:
    def test_videos(self, folder):
        assert holds_videos(folder)

    def test_images(self, tmp_path):
        write_image(tmp_path / "1.png", np.zeros((9, 9, 3), np.uint8))
        assert not holds_videos(tmp_path)

    def test_both(self, folder):
        write_image(folder / "1.png", np.zeros((9, 9, 3), np.uint8))
        with pytest.raises(InvalidInputError, match=r"holds both videos, such as a\.mkv, and images, such as 1\.png"):
            holds_videos(folder)
