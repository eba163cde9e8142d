"""Interrupted work goes on, and what comes out is the same to the byte."""

import errno
import json
import shutil
import threading
from itertools import islice

import av
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError, OutputExistsError
from uprnet.media import video as video_module
from uprnet.media.decoding import Decoder
from uprnet.media.images import write_image
from uprnet.pipeline import EncoderSettings, SceneOptions, SectionOptions, interpolate_video
from uprnet.pipeline import targets as targets_module
from uprnet.pipeline import task as task_module
from uprnet.pipeline.side_folder import SideFolder


class Failing:
    """A blend that fails at the frame with this number; the number of those that were made."""

    def __init__(self, at=None, error=KeyboardInterrupt):
        self.made, self._at, self._error = 0, at, error

    identity = "blend"

    def between(self, img0, img1, times):
        frames = []
        for t in times:
            if self.made == self._at:
                raise self._error
            self.made += 1
            frames.append(np.rint(img0 * (1 - t) + img1 * t).astype(img0.dtype))
        return frames


class FailingDisk:
    """An open file whose disk fails after some packets."""

    def __init__(self, container, packets=50):
        self._container, self._packets = container, packets

    def __getattr__(self, name):
        return getattr(self._container, name)

    def demux(self):
        yield from islice(self._container.demux(), self._packets)
        raise av.error.FFmpegError(errno.EIO, "Input/output error")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(task_module, "SEGMENT", 8)


@pytest.fixture
def source(make_clip):
    return make_clip("s.mp4", range(30), audio="aac")


def content(output):
    """The bytes of a file, or of all files of a folder."""
    if output.is_dir():
        return {path.name: path.read_bytes() for path in sorted(output.iterdir())}
    return output.read_bytes()


def side_of(output):
    return output.with_name(f".{output.name}.uprnet")


class TestGoingOn:
    @pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "frames"])
    @pytest.mark.parametrize("options", [{}, {"fps": 50}])
    def test_output_is_the_same_to_the_byte(self, source, tmp_path, name, options):
        whole = Failing()
        (tmp_path / "whole").mkdir()
        interpolate_video(source, tmp_path / "whole" / name, interpolator=whole, **options)
        made = 0
        for at in (9, 3):  # within the second segment, and again within the third
            broken = Failing(at)
            with pytest.raises(KeyboardInterrupt, match="the same command goes on from there"):
                interpolate_video(source, tmp_path / name, interpolator=broken, **options)
            assert not (tmp_path / name).exists()
            made += broken.made
        last = Failing()
        summary = interpolate_video(source, tmp_path / name, interpolator=last, **options)
        assert content(tmp_path / name) == content(tmp_path / "whole" / name)
        assert 0 < summary.kept < summary.frames_written
        assert last.made < whole.made
        assert made + last.made <= whole.made + 2 * 8  # an interruption costs a segment at most
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["s.mp4", "whole", name])

    @pytest.mark.parametrize("scenes", [{"cuts": "none"}, {"duplicates": "retime"}, {"at_cut": "blend"}])
    def test_with_cuts_and_repeated_frames(self, tmp_path, scenes):
        (tmp_path / "in").mkdir()
        for index, value in enumerate([0, 0, 40, 40, 80, 80, 80, 120, *[200] * 12, 20, 60, 60, 100, 140, 180, 180]):
            write_image(tmp_path / "in" / f"{index}.png", np.full((32, 48, 3), value, np.uint8))
        options = {"scenes": SceneOptions(**scenes), "fps": 25, "factor": 3}
        interpolate_video(tmp_path / "in", tmp_path / "whole.mkv", interpolator=Failing(), **options)
        for at in (5, 9):
            with pytest.raises(KeyboardInterrupt):
                interpolate_video(tmp_path / "in", tmp_path / "o.mkv", interpolator=Failing(at), **options)
        interpolate_video(tmp_path / "in", tmp_path / "o.mkv", interpolator=Failing(), **options)
        assert content(tmp_path / "o.mkv") == content(tmp_path / "whole.mkv")

    def test_a_section(self, source, tmp_path):
        section = SectionOptions(start=0.2, end="0:00.9")
        interpolate_video(source, tmp_path / "whole.mp4", section=section, interpolator=Failing())
        with pytest.raises(KeyboardInterrupt):
            interpolate_video(source, tmp_path / "o.mp4", section=section, interpolator=Failing(15))
        summary = interpolate_video(source, tmp_path / "o.mp4", section=section, interpolator=Failing())
        assert summary.kept
        assert content(tmp_path / "o.mp4") == content(tmp_path / "whole.mp4")

    def test_folder_of_images(self, source, tmp_path):
        interpolate_video(source, tmp_path / "in", factor=1, interpolator=Failing())
        interpolate_video(tmp_path / "in", tmp_path / "whole", interpolator=Failing())
        with pytest.raises(KeyboardInterrupt):
            interpolate_video(tmp_path / "in", tmp_path / "out", interpolator=Failing(13))
        assert interpolate_video(tmp_path / "in", tmp_path / "out", interpolator=Failing()).kept
        assert content(tmp_path / "out") == content(tmp_path / "whole")

    def test_half_written_segment_is_made_again(self, source, tmp_path):
        interpolate_video(source, tmp_path / "whole.mp4", interpolator=Failing())
        with pytest.raises(KeyboardInterrupt):
            interpolate_video(source, tmp_path / "o.mp4", interpolator=Failing(20))
        side = side_of(tmp_path / "o.mp4")
        last = max(side.glob("*.segment"))
        (side / f".{last.stem}.1234.part.segment").write_bytes(last.read_bytes()[:100])
        last.unlink()
        interpolate_video(source, tmp_path / "o.mp4", interpolator=Failing())
        assert content(tmp_path / "o.mp4") == content(tmp_path / "whole.mp4")
        assert not side.exists()

    def test_broken_off_while_joining(self, source, tmp_path, monkeypatch):
        interpolate_video(source, tmp_path / "whole.mp4", interpolator=Failing())

        def fail(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(targets_module, "join", fail)
            with pytest.raises(KeyboardInterrupt):
                interpolate_video(source, tmp_path / "o.mp4", interpolator=Failing())
        again = Failing()
        interpolate_video(source, tmp_path / "o.mp4", interpolator=again)
        assert again.made == 0
        assert content(tmp_path / "o.mp4") == content(tmp_path / "whole.mp4")

    def test_broken_off_while_moving_images(self, source, tmp_path, monkeypatch):
        interpolate_video(source, tmp_path / "whole", interpolator=Failing())
        moved = []
        replace = type(tmp_path).replace

        def fail_soon(path, target):
            if path.suffix == ".png":
                moved.append(path)
                if len(moved) == 20:
                    raise KeyboardInterrupt
            return replace(path, target)

        with monkeypatch.context() as patched:
            patched.setattr(type(tmp_path), "replace", fail_soon)
            with pytest.raises(KeyboardInterrupt):
                interpolate_video(source, tmp_path / "out", interpolator=Failing())
        assert len(list((tmp_path / "out").iterdir())) == 19
        again = Failing()
        interpolate_video(source, tmp_path / "out", interpolator=again)
        assert again.made == 0
        assert content(tmp_path / "out") == content(tmp_path / "whole")

    def test_restart_after_that_begins_afresh_or_refuses_at_once(self, source, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "00000000.png").write_bytes(b"moved already")
        (tmp_path / ".out.uprnet").mkdir()
        (tmp_path / ".out.uprnet" / "moving").touch()
        interpolator = Failing()
        with pytest.raises(OutputExistsError, match="is not empty"):
            interpolate_video(source, tmp_path / "out", interpolator=interpolator, restart=True)
        assert interpolator.made == 0

    @pytest.mark.parametrize("name", ["o.mkv", "out"])
    def test_a_disk_that_fails_leaves_no_short_segment(self, source, tmp_path, monkeypatch, name):
        (tmp_path / "whole").mkdir()
        interpolate_video(source, tmp_path / "whole" / name, interpolator=Failing())
        with monkeypatch.context() as patched:
            patched.setattr(video_module, "Decoder", lambda container, *rest: Decoder(FailingDisk(container), *rest))
            with pytest.raises(MediaError, match=r"cannot be read any further: Input/output error.*goes on from there"):
                interpolate_video(source, tmp_path / name, interpolator=Failing())
        assert not (tmp_path / name).exists()
        assert interpolate_video(source, tmp_path / name, interpolator=Failing()).kept
        assert content(tmp_path / name) == content(tmp_path / "whole" / name)

    def test_a_segment_that_is_too_short_is_not_trusted(self, make_clip, source, tmp_path, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        short, output = make_clip("short.mp4", range(3)), tmp_path / "o.mkv"
        with monkeypatch.context() as patched:
            patched.setattr(targets_module, "join", interrupt)
            for clip, made in ((source, output), (short, tmp_path / "short.mkv")):
                with pytest.raises(KeyboardInterrupt):
                    interpolate_video(clip, made, interpolator=Failing())
        (side_of(tmp_path / "short.mkv") / "00000000.segment").replace(side_of(output) / "00000000.segment")
        with pytest.raises(MediaError, match=r"00000000\.segment does not reach to its end; begin afresh"):
            interpolate_video(source, output, interpolator=Failing())
        assert not output.exists()

    def test_a_segment_without_its_last_image_is_not_trusted(self, source, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            interpolate_video(source, tmp_path / "out", interpolator=Failing(20))
        max((side_of(tmp_path / "out") / "00000000").iterdir()).unlink()
        with pytest.raises(MediaError, match=r"00000000 does not reach to its end; begin afresh with --restart"):
            interpolate_video(source, tmp_path / "out", interpolator=Failing())
        assert not (tmp_path / "out").exists()

    def test_a_folder_on_another_file_system(self, source, tmp_path, monkeypatch):
        interpolate_video(source, tmp_path / "whole", interpolator=Failing())
        (tmp_path / "out").mkdir()
        replace = type(tmp_path).replace

        def within_a_file_system(path, target):
            if ("out" in path.parts) != ("out" in target.parts):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return replace(path, target)

        monkeypatch.setattr(type(tmp_path), "replace", within_a_file_system)
        interpolate_video(source, tmp_path / "out", interpolator=Failing())
        assert content(tmp_path / "out") == content(tmp_path / "whole")


class TestRefusal:
    def interrupted(self, source, output, **options):
        with pytest.raises(KeyboardInterrupt):
            interpolate_video(source, output, interpolator=Failing(20), **options)
        return {path.name: path.read_bytes() for path in side_of(output).iterdir()}

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"factor": 3}, r"factor \(2, now 3\)"),
            ({"fps": 60}, r"fps \(None, now 60\), factor \(2, now None\)"),
            ({"scenes": SceneOptions(at_cut="blend")}, "scenes"),
            ({"encoder": EncoderSettings(crf=30)}, "encoding"),
            ({"section": SectionOptions(frames=20)}, "section"),
        ],
    )
    def test_other_settings(self, source, tmp_path, options, name):
        output = tmp_path / "o.mp4"
        before = self.interrupted(source, output)
        with pytest.raises(OutputExistsError, match=f"begun with another {name}.*--restart"):
            interpolate_video(source, output, interpolator=Failing(), **options)
        assert {path.name: path.read_bytes() for path in side_of(output).iterdir()} == before

    def test_other_network(self, source, tmp_path):
        self.interrupted(source, tmp_path / "o.mp4")
        other = Failing()
        other.identity = "another"
        with pytest.raises(OutputExistsError, match=r"network \(blend, now another\)"):
            interpolate_video(source, tmp_path / "o.mp4", interpolator=other)

    def test_source_that_was_changed(self, source, make_clip, tmp_path):
        self.interrupted(source, tmp_path / "o.mp4")
        make_clip("s.mp4", range(31))
        with pytest.raises(OutputExistsError, match="begun with another source;"):
            interpolate_video(source, tmp_path / "o.mp4", interpolator=Failing())

    def test_restart_begins_anew(self, source, tmp_path):
        interpolate_video(source, tmp_path / "whole.mp4", factor=3, interpolator=Failing())
        self.interrupted(source, tmp_path / "o.mp4")
        summary = interpolate_video(source, tmp_path / "o.mp4", factor=3, interpolator=Failing(), restart=True)
        assert summary.kept == 0
        assert content(tmp_path / "o.mp4") == content(tmp_path / "whole.mp4")

    def test_output_that_came_up_meanwhile(self, source, tmp_path):
        self.interrupted(source, tmp_path / "o.mp4")
        (tmp_path / "o.mp4").write_bytes(b"mine")
        with pytest.raises(OutputExistsError, match="already exists"):
            interpolate_video(source, tmp_path / "o.mp4", interpolator=Failing())
        assert (tmp_path / "o.mp4").read_bytes() == b"mine"

    def test_two_at_the_same_output(self, source, tmp_path):
        arrived, go = threading.Event(), threading.Event()

        class Waiting(Failing):
            def between(self, img0, img1, times):
                arrived.set()
                go.wait(10)
                return super().between(img0, img1, times)

        first = threading.Thread(
            target=interpolate_video, args=(source, tmp_path / "o.mp4"), kwargs={"interpolator": Waiting()}
        )
        first.start()
        arrived.wait(10)
        try:
            with pytest.raises(MediaError, match="another process is working on"):
                interpolate_video(source, tmp_path / "o.mp4", interpolator=Failing())
        finally:
            go.set()
            first.join()
        assert (tmp_path / "o.mp4").exists()


class TestSideFolder:
    def test_manifest_says_what_the_segments_are(self, tmp_path):
        with SideFolder(tmp_path / "o.mp4", {"fps": "60"}) as side:
            assert json.loads((side.path / "manifest.json").read_text()) == {"fps": "60"}
        assert list(tmp_path.iterdir()) == []

    def test_damaged_manifest_is_not_trusted(self, tmp_path):
        side = SideFolder(tmp_path / "o.mp4", {"fps": "60"})
        side.path.mkdir()
        (side.path / "manifest.json").write_text("{")
        (side.path / "00000000.segment").write_bytes(b"?")
        with pytest.raises(OutputExistsError, match=r"another fps \(none, now 60\)"), side:
            pass

    def test_what_a_killed_writer_left_is_no_segment(self, tmp_path):
        side = SideFolder(tmp_path / "o", {"fps": "60"})
        side.path.mkdir()
        (side.path / "manifest.json").write_text('{"fps": "50"}')
        (side.path / "00000000.part").mkdir()
        with side:
            assert side.segments() == []
            assert not (side.path / "00000000.part").exists()

    def test_nothing_is_kept_of_what_can_be_read_only_once(self, tmp_path):
        def work():
            with SideFolder(tmp_path / "o.mp4", {}, is_kept=False) as side:
                (side.path / "00000000.segment").write_bytes(b"frames")
                raise InvalidInputError("no")

        with pytest.raises(InvalidInputError):
            work()
        assert list(tmp_path.iterdir()) == []


class TestTrouble:
    def test_place_and_what_is_kept_are_said(self, source, tmp_path):
        failing = Failing(20, MediaError("the network is ill"))
        with pytest.raises(MediaError) as error:
            interpolate_video(source, tmp_path / "o.mp4", interpolator=failing)
        expected = "the network is ill (making a frame at 0.683 s); 5 finished segments are kept in .o.mp4.uprnet"
        assert str(error.value) == f"{expected}, and the same command goes on from there"

    @pytest.mark.parametrize("name", ["o.mp4", "frames"])
    def test_full_disk(self, tmp_path, make_clip, name, file_size_limit):
        source = make_clip("s.mkv", range(30), width=320, height=240, codec="ffv1", options={})
        with (
            file_size_limit(7000 if name == "o.mp4" else 3000),
            pytest.raises(MediaError, match="no space left") as error,
        ):
            interpolate_video(source, tmp_path / name, interpolator=Failing())
        assert "\n" not in str(error.value)
        assert not (tmp_path / name).exists()

    def test_output_folder_is_removed(self, source, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()

        class Removing(Failing):
            def between(self, img0, img1, times):
                if self.made == 20:
                    shutil.rmtree(folder)
                return super().between(img0, img1, times)

        with pytest.raises(MediaError) as error:
            interpolate_video(source, folder / "o.mp4", interpolator=Removing())
        assert "\n" not in str(error.value)
        assert not folder.exists()
