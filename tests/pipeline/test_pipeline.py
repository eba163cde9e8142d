"""File to file, with a plain blend in place of the network: which frames, when, with what sound."""

import logging
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError, OutputExistsError
from uprnet.media import video as video_module
from uprnet.media.images import read_image, write_image
from uprnet.media.video import SourceFrame, VideoReader
from uprnet.pipeline import interpolate_images, interpolate_video
from uprnet.pipeline.work import BATCH

DATA = Path(__file__).parents[1] / "data"
FILM = Fraction(24000, 1001)


def read(path):
    with VideoReader(path) as reader:
        return reader, list(reader)


def sound_of(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def write_folder(folder, count=4, names="frame_{}.png", **kind):
    folder.mkdir()
    for index in range(count):
        write_image(folder / names.format(index + 8), flat(index * 40, **kind))
    return folder


def flat(value, channels=3, dtype=np.uint8, size=(32, 48)):
    return np.full((*size, channels), value * (257 if dtype == np.uint16 else 1), dtype)


class TestVideo:
    @pytest.mark.parametrize("options", [{}, {"factor": 2}, {"factor": "3/2"}, {"factor": "1/2"}, {"fps": 60},
                                         {"fps": "60000/1001"}, {"fps": 12}, {"factor": 1}])  # fmt: skip
    @pytest.mark.parametrize(
        ("stamps", "tick"),
        [(range(24), 1 / FILM), (range(30, 54), Fraction(1, 30)), ([0, 30, 40, 300, 330, 400], Fraction(1, 1000))],
    )
    @pytest.mark.parametrize("ending", [".mp4", ".mkv"])
    def test_times_count_and_duration(self, make_clip, tmp_path, blend, stamps, tick, options, ending):
        source = make_clip("s.mp4", stamps, tick, options={"bf": "0"})
        summary = interpolate_video(source, tmp_path / f"o{ending}", interpolator=blend, **options)
        before, after = read(source), read(tmp_path / f"o{ending}")
        start = stamps[0] * tick
        length = stamps[-1] * tick + before[1][-1].duration - start
        times = [frame.pts for frame in after[1]]
        assert summary.frames_read == len(stamps)
        assert summary.frames_written == len(times) == summary.interpolated + summary.passed_through
        assert times[0] == start
        # MP4 knows the length of a varying track with frames in another order to a fraction of a frame only.
        assert abs(after[0].info.duration - summary.duration) <= Fraction(1, 100)
        if "fps" in options:
            fps = Fraction(options["fps"])
            assert times == [start + k / fps for k in range(len(times))]
            assert length <= summary.duration < length + 1 / fps
        else:
            factor = Fraction(options.get("factor", 2))
            assert len(times) == -(-len(stamps) * factor // 1)
            assert summary.duration == length
            if factor.denominator == 1:
                precision = Fraction(1, 1000) if ending == ".mkv" else 0
                every = zip(times[:: factor.numerator], stamps, strict=True)
                assert all(abs(time - stamp * tick) <= precision for time, stamp in every)
        assert all(a < b for a, b in pairwise(times))

    def test_new_frames_lie_between_and_source_frames_pass(self, make_clip, tmp_path, blend):
        source = make_clip("s.mp4", range(6), height=96, width=128)
        summary = interpolate_video(source, tmp_path / "o.mp4", interpolator=blend)
        before, after = read(source)[1], read(tmp_path / "o.mp4")[1]
        assert (summary.interpolated, summary.passed_through) == (5, 7)
        for index, frame in enumerate(before):
            assert np.abs(after[2 * index].image.astype(float) - frame.image).mean() < 1.5
        middle = (before[1].image.astype(float) + before[2].image) / 2
        assert np.abs(after[3].image - middle).mean() < 1.5

    def test_network_sees_each_pair_once_and_never_a_source_time(self, make_clip, tmp_path, blend):
        interpolate_video(
            make_clip("s.mp4", range(24), Fraction(1, 24)), tmp_path / "o.mkv", fps=60, interpolator=blend
        )
        assert len(blend.asked) == 23
        assert all(0 < t < 1 for _, _, times in blend.asked for t in times)
        assert {len(times) for _, _, times in blend.asked} == {2}

    def test_right_frame_comes_again_as_left_one(self, tmp_path, blend):
        folder = write_folder(tmp_path / "in")
        interpolate_video(folder, tmp_path / "out", interpolator=blend)
        assert all(a[1] == b[0] for a, b in pairwise(blend.asked))

    def test_many_frames_of_a_pair_are_made_in_batches(self, tmp_path, blend):
        folder = write_folder(tmp_path / "in", count=2)
        summary = interpolate_video(folder, tmp_path / "out", factor=20, interpolator=blend)
        assert summary.frames_written == 40
        assert sum(len(times) for _, _, times in blend.asked) == 19
        assert max(len(times) for _, _, times in blend.asked) <= BATCH

    @pytest.mark.parametrize("options", [{"factor": 2}, {"fps": 50}])
    def test_sound_is_copied(self, make_clip, tmp_path, blend, options):
        source = make_clip("s.mp4", range(30), audio="aac")
        interpolate_video(source, tmp_path / "o.mkv", interpolator=blend, **options)
        assert sound_of(tmp_path / "o.mkv") == sound_of(source)

    def test_slow_stretches_time_drops_the_sound_and_says_so(self, make_clip, tmp_path, blend, caplog):
        source = make_clip("s.mp4", range(10), Fraction(1, 25), audio="aac")
        summary = interpolate_video(source, tmp_path / "o.mp4", slow=4, interpolator=blend)
        after, frames = read(tmp_path / "o.mp4")
        assert [frame.pts for frame in frames] == [Fraction(k, 25) for k in range(40)]
        assert after.info.audio == ()
        assert any("left out: time runs slower; --slow-audio" in text for text in summary.warnings)
        assert caplog.text.count("--slow-audio") == 1

    def test_single_frame_is_held(self, make_clip, tmp_path, blend):
        summary = interpolate_video(make_clip("s.mp4", [0]), tmp_path / "o.mp4", interpolator=blend)
        assert (summary.frames_written, summary.interpolated) == (2, 0)
        assert read(tmp_path / "o.mp4")[0].info.duration == summary.duration == Fraction(1, 30)

    def test_cut_off_source_gives_what_there_is(self, make_clip, tmp_path, blend):
        whole = make_clip("w.mkv", range(60), codec="mjpeg", pixel_format="yuvj420p")
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        summary = interpolate_video(cut, tmp_path / "o.mp4", interpolator=blend)
        assert summary.frames_written == 2 * summary.frames_read
        assert any("breaks off" in text for text in summary.warnings)
        assert len(read(tmp_path / "o.mp4")[1]) == summary.frames_written

    def test_odd_width_and_ten_bits(self, make_clip, tmp_path, blend):
        source = make_clip("s.mkv", range(3), width=51, height=33, codec="ffv1", pixel_format="yuv444p10le")
        interpolate_video(source, tmp_path / "o.mkv", interpolator=blend)
        after, frames = read(tmp_path / "o.mkv")
        assert after.info.pixel_format == "yuv444p10le"
        assert frames[1].image.shape == (33, 51, 3)
        assert np.abs(frames[2].image.astype(float) - read(source)[1][1].image).mean() < 3 * 257

    def test_progress(self, make_clip, tmp_path, blend):
        seen = []
        interpolate_video(make_clip("s.mp4", range(5)), tmp_path / "o.mp4", interpolator=blend, progress=seen.append)
        assert [step.done for step in seen] == list(range(1, 11))
        assert {step.total for step in seen} == {10}
        assert [step.time for step in seen] == [Fraction(k, 60) for k in range(10)]

    def test_memory_holds_a_few_frames_however_long_the_video(self, make_clip, tmp_path, blend, monkeypatch):
        alive, counts = set(), []

        class Watched(SourceFrame):
            def __init__(self, *arguments, **named):
                super().__init__(*arguments, **named)
                alive.add(id(self))

            def __del__(self):
                alive.discard(id(self))

        def count(step):
            if step.done % 20 == 0:
                counts.append(len(alive))

        monkeypatch.setattr(video_module, "SourceFrame", Watched)
        interpolate_video(make_clip("s.mp4", range(120)), tmp_path / "o.mp4", interpolator=blend, progress=count)
        assert len(counts) == 12
        assert 1 <= max(counts) <= 8


class TestRealClips:
    def test_bear_at_sixty_frames_a_second(self, tmp_path, blend):
        summary = interpolate_video(DATA / "bear.webm", tmp_path / "o.webm", fps=60, interpolator=blend)
        assert (summary.frames_read, summary.frames_written) == (82, 165)
        assert sound_of(tmp_path / "o.webm") == sound_of(DATA / "bear.webm")
        before, after = read(DATA / "bear.webm")[1], read(tmp_path / "o.webm")[1]
        assert [frame.pts for frame in after] == [Fraction(k, 60) for k in range(165)]
        # 29.97 and 60 frames a second meet at the start, and 500 source frames later again.
        difference = after[0].image.astype(float) - before[0].image
        assert np.abs(difference).mean() < 1.5
        assert np.abs(difference.mean((0, 1))).max() < 0.3

    def test_cars_without_time_stamps(self, tmp_path, blend):
        summary = interpolate_video(DATA / "cars.h264", tmp_path / "o.mkv", factor="3/2", interpolator=blend)
        assert (summary.frames_read, summary.frames_written, summary.duration) == (30, 45, Fraction(30, 25))
        assert any("no time stamp" in text for text in summary.warnings)
        assert len(read(tmp_path / "o.mkv")[1]) == 45


class TestFolders:
    def test_folder_to_folder(self, tmp_path, blend):
        folder = write_folder(tmp_path / "in")
        summary = interpolate_video(folder, tmp_path / "out", interpolator=blend)
        names = sorted(file.name for file in (tmp_path / "out").iterdir())
        assert names == [f"{k:08d}.png" for k in range(8)]
        values = [read_image(tmp_path / "out" / name).pixels[0, 0, 0] for name in names]
        assert values == [0, 20, 40, 60, 80, 100, 120, 120]
        assert summary.frames_read == 4

    @pytest.mark.parametrize(("channels", "dtype"), [(4, np.uint8), (3, np.uint16), (4, np.uint16)])
    def test_kind_of_the_images_stays(self, tmp_path, blend, channels, dtype):
        folder = write_folder(tmp_path / "in", channels=channels, dtype=dtype)
        interpolate_video(folder, tmp_path / "out", interpolator=blend)
        image = read_image(tmp_path / "out" / "00000001.png").pixels
        assert np.array_equal(image, flat(20, channels, dtype))

    def test_video_to_folder(self, make_clip, tmp_path, blend):
        source = make_clip("s.mp4", range(5), audio="aac")
        summary = interpolate_video(source, tmp_path / "out", factor=1, interpolator=blend)
        for index, frame in enumerate(read(source)[1]):
            assert np.array_equal(read_image(tmp_path / "out" / f"{index:08d}.png").pixels, frame.image)
        assert "the sound is dropped: a folder has none" in summary.warnings

    def test_folder_to_video_plays_at_fps(self, tmp_path, blend):
        folder = write_folder(tmp_path / "in", channels=4)
        summary = interpolate_video(folder, tmp_path / "o.mp4", fps=50, interpolator=blend)
        assert [frame.pts for frame in read(tmp_path / "o.mp4")[1]] == [Fraction(k, 50) for k in range(8)]
        assert any("transparency" in text for text in summary.warnings)

    def test_folder_to_video_needs_fps(self, tmp_path, blend):
        with pytest.raises(InvalidInputError, match="give fps"):
            interpolate_video(write_folder(tmp_path / "in"), tmp_path / "o.mp4", interpolator=blend)

    def test_greyscale_is_said_once(self, tmp_path, blend, caplog):
        (tmp_path / "in").mkdir()
        for index in range(3):
            cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), flat(index)[..., 0])
        summary = interpolate_video(tmp_path / "in", tmp_path / "out", interpolator=blend)
        assert len(summary.warnings) == 1
        assert "greyscale" in summary.warnings[0]
        assert caplog.text.count("greyscale") == 1

    def test_mixed_sizes(self, tmp_path, blend):
        folder = write_folder(tmp_path / "in")
        write_image(folder / "frame_12.png", flat(1, size=(32, 50)))
        with pytest.raises(MediaError, match=r"48x32; .*frame_12.png has 50x32"):
            interpolate_video(folder, tmp_path / "out", interpolator=blend)
        assert [file.name for file in tmp_path.iterdir()] == ["in"]

    def test_empty_folder(self, tmp_path, blend):
        (tmp_path / "in").mkdir()
        with pytest.raises(MediaError, match="no images"):
            interpolate_video(tmp_path / "in", tmp_path / "out", interpolator=blend)

    def test_overwriting_replaces_the_earlier_run_only(self, tmp_path, blend):
        folder, out = write_folder(tmp_path / "in"), tmp_path / "out"
        interpolate_video(folder, out, factor=3, interpolator=blend)
        mine = ["1.png", "2024.png", "notes.txt"]
        for name in mine:
            (out / name).write_text("mine")
        with pytest.raises(OutputExistsError):
            interpolate_video(folder, out, interpolator=blend)
        assert len(list(out.iterdir())) == 15
        interpolate_video(folder, out, overwrite=True, interpolator=blend)
        assert sorted(file.name for file in out.iterdir()) == [*(f"{k:08d}.png" for k in range(8)), *mine]
        assert all((out / name).read_text() == "mine" for name in mine)

    def test_output_must_not_be_the_source(self, tmp_path, blend):
        folder = write_folder(tmp_path / "in")
        with pytest.raises(InvalidInputError, match="must differ"):
            interpolate_video(folder, folder, overwrite=True, interpolator=blend)
        assert len(list(folder.iterdir())) == 4


class TestNothingIsLeftBehind:
    @pytest.mark.parametrize("output", ["o.mp4", "o.mkv", "frames"])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
    def test_when_work_is_broken_off(self, make_clip, tmp_path, blend, output, error):
        source = make_clip("s.mp4", audio="aac")

        def stop(step):
            if step.done == 7:
                raise error

        with pytest.raises(error):
            interpolate_video(source, tmp_path / output, interpolator=blend, progress=stop)
        assert [file.name for file in tmp_path.iterdir()] == ["s.mp4"]

    @pytest.mark.parametrize("output", ["o.mp4", "frames"])
    def test_when_the_disk_is_full(self, tmp_path, blend, output, file_size_limit):
        folder, noise = tmp_path / "in", np.random.default_rng(0)
        folder.mkdir()
        for index in range(6):
            write_image(folder / f"{index}.png", noise.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        with file_size_limit(9000), pytest.raises(MediaError, match="no space left"):
            interpolate_video(folder, tmp_path / output, fps=25, interpolator=blend)
        assert [file.name for file in tmp_path.iterdir()] == ["in"]

    @pytest.mark.parametrize("output", ["o.avi", "o.png", "o.mp44", "no/o.mp4", "no/frames"])
    def test_when_the_output_cannot_be(self, make_clip, tmp_path, blend, output):
        source = make_clip("s.mp4")
        with pytest.raises(MediaError) as error:
            interpolate_video(source, tmp_path / output, interpolator=blend)
        assert "\n" not in str(error.value)
        assert blend.asked == []

    def test_existing_video_is_kept(self, make_clip, tmp_path, blend):
        (tmp_path / "o.mp4").write_bytes(b"mine")
        with pytest.raises(OutputExistsError):
            interpolate_video(make_clip("s.mp4"), tmp_path / "o.mp4", interpolator=blend)
        assert (tmp_path / "o.mp4").read_bytes() == b"mine"


class TestImages:
    def pair(self, tmp_path, first, second, ending=".png"):
        write_image(tmp_path / f"a{ending}", first)
        write_image(tmp_path / f"b{ending}", second)
        return tmp_path / f"a{ending}", tmp_path / f"b{ending}"

    def test_one_time(self, tmp_path, blend):
        paths = self.pair(tmp_path, flat(10), flat(30))
        names = [str(path) for path in (*paths, tmp_path / "m.png")]
        assert interpolate_images(*names, interpolator=blend) == (tmp_path / "m.png",)
        assert (read_image(tmp_path / "m.png").pixels == 20).all()

    def test_several_times_are_numbered(self, tmp_path, blend):
        paths = self.pair(tmp_path, flat(0), flat(100))
        made = interpolate_images(*paths, tmp_path / "m.png", ["0.25", "1/2", 1], interpolator=blend)
        assert [path.name for path in made] == ["m-1.png", "m-2.png", "m-3.png"]
        assert [read_image(path).pixels[0, 0, 0] for path in made] == [25, 50, 100]

    def test_richer_kind_wins(self, tmp_path, blend):
        paths = self.pair(tmp_path, flat(100, 4), flat(100, 3, np.uint16))
        interpolate_images(*paths, tmp_path / "m.png", interpolator=blend)
        image = read_image(tmp_path / "m.png").pixels
        assert image.dtype == np.uint16
        assert image[0, 0].tolist() == [25700, 25700, 25700, round((25700 + 65535) / 2)]

    def test_losses_and_conversions_are_said(self, tmp_path, blend, caplog):
        cv2.imwrite(str(tmp_path / "g.png"), flat(100, dtype=np.uint16)[..., 0])
        write_image(tmp_path / "c.png", flat(100))
        with caplog.at_level(logging.WARNING):
            interpolate_images(tmp_path / "g.png", tmp_path / "c.png", tmp_path / "m.jpg", interpolator=blend)
        assert "g.png: greyscale" in caplog.text
        assert "16 bits become 8" in caplog.text

    @pytest.mark.parametrize("times", [[], [1.5], [-0.1, 0.5], ["half"], [float("nan")]])
    def test_bad_times(self, tmp_path, blend, times):
        paths = self.pair(tmp_path, flat(0), flat(1))
        with pytest.raises(InvalidInputError):
            interpolate_images(*paths, tmp_path / "m.png", times, interpolator=blend)

    def test_sizes_differ(self, tmp_path, blend):
        paths = self.pair(tmp_path, flat(0), flat(0, size=(32, 47)))
        with pytest.raises(InvalidInputError, match="same size"):
            interpolate_images(*paths, tmp_path / "m.png", interpolator=blend)

    def test_many_images_are_made_a_few_at_a_time(self, tmp_path, blend):
        paths = self.pair(tmp_path, flat(0), flat(100))
        made = interpolate_images(*paths, tmp_path / "m.png", [i / 20 for i in range(21)], interpolator=blend)
        assert [int(read_image(path).pixels.mean()) for path in made] == [5 * i for i in range(21)]
        assert max(len(times) for _, _, times in blend.asked) == 8

    def test_pictures_of_what_happened_need_our_network(self, tmp_path, blend):
        paths = self.pair(tmp_path, flat(0), flat(100))
        with pytest.raises(InvalidInputError, match=r"show needs an uprnet.Interpolator, got Blend"):
            interpolate_images(*paths, tmp_path / "m.png", interpolator=blend, show=tmp_path / "show")

    def test_all_or_nothing(self, tmp_path, blend):
        paths = self.pair(tmp_path, flat(0), flat(100))
        (tmp_path / "m-2.png").write_bytes(b"mine")
        with pytest.raises(OutputExistsError):
            interpolate_images(*paths, tmp_path / "m.png", [0.25, 0.5], interpolator=blend)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png", "m-2.png"]
        assert blend.asked == []
