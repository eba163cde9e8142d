"""A part of the source, a preview of it, and where it comes to lie in time."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.images import read_image
from uprnet.media.video import VideoReader
from uprnet.pipeline import EncoderSettings, SceneOptions, SectionOptions, interpolate_video
from uprnet.pipeline.preview import DIVIDER, STRIP
from uprnet.pipeline.section import as_time

DATA = Path(__file__).parents[1] / "data"
RATE = 25


@pytest.fixture
def source(make_clip):
    """Two seconds that begin half a second late, with sound."""
    return make_clip("s.mp4", range(13, 63), Fraction(1, RATE), audio="aac", audio_start=Fraction(13, RATE))


def frames_of(path):
    with VideoReader(path) as reader:
        return list(reader)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12.5", "12.5"), ("1:02:03.5", "3723.5"), ("02:03", "123"), (0.1, "0.1"), (7, "7"), (Fraction(1, 3), "1/3")],
)
def test_times_are_read_exactly(text, seconds):
    assert as_time(text, "start") == Fraction(seconds)


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-1", "", -1, "1:", "nan"])
def test_other_texts_are_no_times(text):
    with pytest.raises(InvalidInputError, match="start must"):
        as_time(text, "start")


class TestWhichFrames:
    @pytest.mark.parametrize(
        ("section", "numbers"),
        [
            ({"start": "0.4"}, range(10, 50)),
            ({"start": 0.39, "end": 1}, range(10, 25)),
            ({"end": "0:01"}, range(25)),
            ({"frames": 7}, range(7)),
            ({"frames": "7:12"}, range(7, 12)),
            ({"start": 1, "frames": "5"}, range(25, 30)),
            ({"start": 1.9, "end": 60}, range(48, 50)),
        ],
    )
    def test_of_the_source(self, source, tmp_path, blend, section, numbers):
        summary = interpolate_video(
            source, tmp_path / "o", factor=1, section=SectionOptions(**section), interpolator=blend
        )
        whole = frames_of(source)
        assert summary.frames_read == summary.frames_written == len(numbers)
        for made, number in zip(sorted((tmp_path / "o").iterdir()), numbers, strict=True):
            assert np.array_equal(read_image(made).pixels, whole[number].image)

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ({"start": 1, "end": 1}, "end must be after start"),
            ({"start": 2}, "start must be before the end, 2.000 s"),
            ({"frames": "9:3"}, "frames must leave one or more"),
            ({"frames": 0}, "frames must leave one or more"),
            ({"frames": "many"}, "frames must be a number such as 240 or a range"),
            ({"preview": 0}, "preview needs a length above 0"),
            ({"preview": 1, "start": 1}, "no start, end or frames beside it"),
        ],
    )
    def test_that_make_no_sense(self, source, tmp_path, blend, section, message):
        with pytest.raises(InvalidInputError, match=message):
            interpolate_video(source, tmp_path / "o.mp4", section=SectionOptions(**section), interpolator=blend)
        assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]

    def test_none_at_all(self, source, tmp_path, blend):
        with pytest.raises(MediaError, match=r"no frame of .* is in the section"):
            interpolate_video(source, tmp_path / "o.mp4", section=SectionOptions(frames="80:90"), interpolator=blend)
        assert [path.name for path in tmp_path.iterdir()] == ["s.mp4"]


class TestTimes:
    def test_begin_at_zero_and_sound_goes_along(self, source, tmp_path, blend):
        section = SectionOptions(start=0.4, end=1.4)
        summary = interpolate_video(source, tmp_path / "o.mp4", section=section, interpolator=blend)
        times = [frame.pts for frame in frames_of(tmp_path / "o.mp4")]
        assert times == [Fraction(k, 2 * RATE) for k in range(50)]
        assert summary.duration == 1
        with av.open(str(tmp_path / "o.mp4")) as container:
            stamps = [packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.size]
        assert -0.05 < stamps[0] <= 0.025
        assert 0.93 < stamps[-1] <= 1.0

    def test_total_of_progress_is_that_of_the_section(self, source, tmp_path, blend):
        seen = []
        interpolate_video(
            source, tmp_path / "o.mp4", section=SectionOptions(start=1), interpolator=blend, progress=seen.append
        )
        assert {step.total for step in seen} == {50}
        assert seen[-1].done == 50

    def test_listed_cuts_count_from_the_first_frame_of_the_source(self, source, tmp_path, blend):
        (tmp_path / "cuts.txt").write_text("0.8\n")
        options = {"scenes": SceneOptions(cuts=tmp_path / "cuts.txt"), "interpolator": blend}
        whole = interpolate_video(source, tmp_path / "a.mp4", **options)
        part = interpolate_video(source, tmp_path / "b.mp4", section=SectionOptions(start=0.4), **options)
        assert whole.cuts == part.cuts == (Fraction(4, 5),)
        assert whole.interpolated == 48
        assert part.interpolated == 38


class TestPreview:
    def test_source_and_result_side_by_side(self, source, tmp_path, blend):
        section = SectionOptions(preview=0.4)
        encoder = EncoderSettings(codec="ffv1", pix_fmt="yuv444p")
        summary = interpolate_video(source, tmp_path / "p.mkv", section=section, encoder=encoder, interpolator=blend)
        assert summary.frames_read == 10
        shown = frames_of(tmp_path / "p.mkv")
        whole = frames_of(source)
        assert shown[0].image.shape == (48 + STRIP, 2 * 64 + DIVIDER, 3)
        assert [frame.pts for frame in shown] == [Fraction(k, 2 * RATE) for k in range(20)]
        for number, frame in enumerate(shown):
            left, right = frame.image[STRIP:, :64].astype(float), frame.image[STRIP:, -64:].astype(float)
            assert np.abs(left - whole[20 + number // 2].image).mean() < 0.5
            assert np.array_equal(left, right) == (number % 2 == 0 or number == 19)

    def test_labels_and_divider(self, source, tmp_path, blend):
        interpolate_video(source, tmp_path / "p", section=SectionOptions(preview=0.1), interpolator=blend)
        image = read_image(min((tmp_path / "p").iterdir())).pixels
        assert (image[STRIP:, 64 : 64 + DIVIDER] == 255).all()
        assert image[:STRIP, :64].max() > 128
        assert image[:STRIP, -64:].max() > 128

    def test_length_must_be_known(self, tmp_path, blend):
        (tmp_path / "in").mkdir()
        (tmp_path / "raw.h264").write_bytes((DATA / "cars.h264").read_bytes())
        with pytest.raises(InvalidInputError, match="does not say how long it is"):
            interpolate_video(
                tmp_path / "raw.h264", tmp_path / "o.mp4", section=SectionOptions(preview=1), interpolator=blend
            )
