"""Whole videos of every kind, made here by libav, through the public function, checked by an independent reader.

The reader is the `ffprobe` program: another version of libav than the one that wrote the files, and none of our code.
"""

import os
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError, OutputExistsError
from uprnet.media.encoding import EncoderSettings
from uprnet.pipeline import interpolate_video
from uprnet.pipeline.section import SectionOptions

FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
VARIABLE = [0, 33, 40, 500, 533, 610, 700, 733]
MILLISECOND = Fraction(1, 1000)


def check_times(probe, path, expected, end):
    """Every frame can be decoded and has its time; the picture lasts until ``end``, the first frame is at its time."""
    found = probe(path, "-select_streams", "v:0", "-show_entries", "frame=pts:stream=time_base,duration_ts")
    tick = Fraction(found["streams"][0]["time_base"])
    times = [frame["pts"] * tick for frame in found["frames"]]
    precision = MILLISECOND if path.suffix in (".mkv", ".webm") else 0
    assert len(times) == len(expected)
    assert all(abs(time - wanted) <= precision for time, wanted in zip(times, expected, strict=True))
    packets = probe(path, "-select_streams", "v:0", "-show_entries", "packet=pts,dts,duration")["packets"]
    decoded = [packet["dts"] for packet in packets if "dts" in packet]
    assert all(a < b for a, b in pairwise(decoded))
    assert all(packet["dts"] <= packet["pts"] for packet in packets if "dts" in packet)
    if precision == 0:
        assert abs(seconds(found["streams"][0], "duration") - (end - expected[0])) < MILLISECOND
    else:
        last = max(packets, key=lambda packet: packet["pts"])
        assert abs((last["pts"] + last["duration"]) * tick - end) <= 2 * MILLISECOND


def doubled(times, end):
    """Put one time into the middle of each pair, and hold the last."""
    return [time for a, b in zip(times, [*times[1:], end], strict=True) for time in (a, (a + b) / 2)]


def steady(start, end, fps):
    count = -(-(end - start) * fps // 1)
    return [start + k / fps for k in range(count)]


def hashes(probe, path, kind):
    """Give the payloads of all packets of one track, as hashes."""
    asked = ("-select_streams", kind, "-show_packets", "-show_data_hash", "md5")
    return [packet["data_hash"] for packet in probe(path, *asked)["packets"]]


def seconds(stream, name):
    return stream[f"{name}_ts"] * Fraction(stream["time_base"])


def picture(probe, path):
    return probe(path, "-select_streams", "v:0", "-show_streams")["streams"][0]


TIMES = {
    "film": (range(12), 1 / FILM),
    "ntsc": (range(12), 1 / NTSC),
    "thirty": (range(12), Fraction(1, 30)),
    "variable": (VARIABLE, MILLISECOND),
    "offset": (range(45, 57), Fraction(1, 30)),
}


class TestTimes:
    @pytest.mark.parametrize("options", [{}, {"fps": 60}, {"fps": "60000/1001"}], ids=["double", "60", "59.94"])
    @pytest.mark.parametrize("kind", TIMES)
    @pytest.mark.parametrize("ending", [".mp4", ".mkv"])
    def test_every_frame_is_on_time(self, make_clip, tmp_path, probe, kind, ending, options, blend):
        stamps, tick = TIMES[kind]
        # libav does not write how long the last frame of a varying rate is shown if there are B-frames.
        source = make_clip("s.mp4", stamps, tick, options={"bf": "0" if kind == "variable" else "2", "b-adapt": "0"})
        summary = interpolate_video(source, tmp_path / f"o{ending}", interpolator=blend, **options)
        times = [stamp * tick for stamp in stamps]
        end = seconds(picture(probe, source), "duration") if kind == "variable" else times[-1] + tick
        if options:
            fps = Fraction(options["fps"])
            expected = steady(times[0], end, fps)
            end = expected[-1] + 1 / fps
        else:
            expected = doubled(times, end)
        check_times(probe, tmp_path / f"o{ending}", expected, end)
        assert summary.duration == end - times[0]

    @pytest.mark.parametrize(("stamps", "tick"), [(range(12), 1 / FILM), (VARIABLE, MILLISECOND)])
    def test_kept_time_stamps_come_back_to_the_digit(self, make_clip, tmp_path, probe, stamps, tick, blend):
        source = make_clip("s.mkv", stamps, tick, options={"bf": "0"})
        interpolate_video(source, tmp_path / "o.mkv", factor=3, keep_timestamps=True, interpolator=blend)
        before, after = (
            [packet["pts"] for packet in probe(path, "-select_streams", "v:0", "-show_packets")["packets"]]
            for path in (source, tmp_path / "o.mkv")
        )
        assert sorted(after)[::3] == before

    @pytest.mark.parametrize("ending", [".mp4", ".mkv"])
    def test_edit_list_hides_what_it_hides(self, make_clip, tmp_path, probe, ffmpeg, ending, blend):
        """Cut without encoding: the file begins at a key frame, and its edit list in the middle of the pictures."""
        whole = make_clip("w.mp4", range(50), Fraction(1, 25), audio="aac", options={"g": "25", "bf": "2"})
        ffmpeg("-ss", "1.2", "-i", str(whole), "-c", "copy", str(tmp_path / "s.mp4"))
        shown = probe(tmp_path / "s.mp4", "-select_streams", "v:0", "-show_frames")["frames"]
        times = [Fraction(frame["pts_time"]) for frame in shown if Fraction(frame["pts_time"]) >= 0]
        assert len(times) == 20
        interpolate_video(tmp_path / "s.mp4", tmp_path / f"o{ending}", interpolator=blend)
        check_times(probe, tmp_path / f"o{ending}", doubled(times, times[-1] + Fraction(1, 25)), Fraction(4, 5))
        assert hashes(probe, tmp_path / f"o{ending}", "a:0") == hashes(probe, tmp_path / "s.mp4", "a:0")

    def test_times_that_a_muxer_wrote_in_decoding_order(self, make_clip, tmp_path, probe, blend):
        """Such files are about: every frame is shown, as if the times had been sorted."""
        right = make_clip("right.mp4", range(24), Fraction(1, 25), options={"bf": "3", "b-adapt": "0"})
        with av.open(str(right)) as old, av.open(str(tmp_path / "s.mp4"), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts = packet.dts = number
                packet.duration = 1
                new.mux(packet)
        summary = interpolate_video(tmp_path / "s.mp4", tmp_path / "o.mp4", interpolator=blend)
        assert summary.warnings == ()
        check_times(probe, tmp_path / "o.mp4", [Fraction(k, 50) for k in range(48)], Fraction(48, 50))

    def test_stream_without_times_or_duration(self, make_clip, tmp_path, probe, blend):
        source = make_clip("s.h264", range(6), Fraction(1, 25), options={"bf": "2", "b-adapt": "0"})
        summary = interpolate_video(source, tmp_path / "o.mp4", interpolator=blend)
        check_times(probe, tmp_path / "o.mp4", [Fraction(k, 50) for k in range(12)], Fraction(12, 50))
        assert any("no time stamp" in text for text in summary.warnings)


class TestPictures:
    """What a picture is must not change, whatever its kind."""

    @pytest.fixture
    def convert(self, make_clip, tmp_path, blend):
        def run(name, output, **clip):
            source = make_clip(name, range(6), Fraction(1, 25), **clip)
            interpolate_video(source, tmp_path / output, interpolator=blend)
            return tmp_path / output

        return run

    TAGS = ("color_space", "color_primaries", "color_transfer", "color_range", "pix_fmt", "width", "height")

    @pytest.mark.parametrize(
        ("name", "output", "clip"),
        [
            ("pq.mkv", "o.mkv", {"codec": "ffv1", "pixel_format": "yuv420p10le", "colour": (9, 9, 16, 1)}),
            ("pq.mkv", "o.mp4", {"codec": "ffv1", "pixel_format": "yuv420p10le", "colour": (9, 9, 16, 1)}),
            ("full.mp4", "o.mp4", {"pixel_format": "yuv444p", "colour": (1, 1, 1, 2)}),
            ("alpha.mkv", "o.mkv", {"codec": "ffv1", "pixel_format": "yuva444p", "colour": (1, 1, 1, 1)}),
            ("odd.mkv", "o.webm", {"codec": "ffv1", "width": 51, "height": 33, "colour": (1, 1, 1, 1)}),
        ],
        ids=["10-bit-pq", "10-bit-pq-mp4", "4:4:4-full-range", "alpha", "odd"],
    )
    def test_kind_stays(self, convert, tmp_path, probe, name, output, clip):
        path = convert(name, output, **clip)
        before, after = picture(probe, tmp_path / name), picture(probe, path)
        tags = [tag for tag in self.TAGS if tag in before]
        assert {tag: after.get(tag) for tag in tags} == {tag: before[tag] for tag in tags}
        check_times(probe, path, [Fraction(k, 50) for k in range(12)], Fraction(12, 50))

    @pytest.mark.parametrize("degrees", [90, 180])
    def test_turned_pictures_stay_upright(self, convert, tmp_path, probe, seen, degrees):
        path = convert("turned.mp4", "o.mp4", rotation=degrees, height=48, width=80)
        shown = []
        for file in (tmp_path / "turned.mp4", path):
            size = probe(
                file, "-select_streams", "v:0", "-show_entries", "stream=width,height:stream_side_data=rotation"
            )
            stream = size["streams"][0]
            turned = [side["rotation"] for side in stream.get("side_data_list", []) if "rotation" in side]
            sides = stream["width"], stream["height"]
            shown.append(sides[::-1] if turned and turned[0] % 180 else sides)
        assert shown[0] == shown[1]
        width, height = shown[0]
        before, after = (seen(file, (height, width))[0].astype(int) for file in (tmp_path / "turned.mp4", path))
        assert np.abs(before - after).mean() < 3
        check_times(probe, path, [Fraction(k, 50) for k in range(12)], Fraction(12, 50))

    def test_interlaced_is_refused_or_made_whole(self, make_clip, tmp_path, probe, blend):
        options = {"flags": "+ilme+ildct", "bf": "0", "b": "4M"}
        source = make_clip("s.mkv", range(8), Fraction(1, 25), codec="mpeg2video", options=options)
        with pytest.raises(MediaError, match="--deinterlace"):
            interpolate_video(source, tmp_path / "o.mp4", interpolator=blend)
        assert not (tmp_path / "o.mp4").exists()
        interpolate_video(source, tmp_path / "o.mp4", deinterlace=True, interpolator=blend)
        check_times(probe, tmp_path / "o.mp4", [Fraction(k, 50) for k in range(16)], Fraction(16, 50))
        assert picture(probe, tmp_path / "o.mp4").get("field_order", "progressive") == "progressive"

    def test_pixel_aspect_stays(self, convert, probe):
        path = convert("s.mp4", "o.mkv", aspect=Fraction(16, 15))
        assert picture(probe, path)["sample_aspect_ratio"] == "16:15"


class TestTracks:
    def test_all_goes_along_unchanged(self, film, tmp_path, probe, blend):
        interpolate_video(film, tmp_path / "o.mkv", interpolator=blend)
        before, after = (
            probe(path, "-show_streams", "-show_format", "-show_chapters") for path in (film, tmp_path / "o.mkv")
        )
        for old, new in zip(before["streams"], after["streams"], strict=True):
            assert (old["codec_type"], old["codec_name"]) == (new["codec_type"], new["codec_name"])
            assert old["disposition"] == new["disposition"]
            for name in ("language", "title", "filename", "mimetype"):
                assert old.get("tags", {}).get(name) == new.get("tags", {}).get(name)
        for kind in ("a:0", "a:1", "s:0", "s:1"):
            assert hashes(probe, tmp_path / "o.mkv", kind) == hashes(probe, film, kind)
        assert after["chapters"] == before["chapters"]
        assert {key: after["format"]["tags"][key] for key in ("title", "COMMENT")} == {
            "title": "A film",
            "COMMENT": "kept",
        }
        with av.open(str(film)) as old, av.open(str(tmp_path / "o.mkv")) as new:
            assert [bytes(a.data) for a in old.streams.attachments] == [bytes(a.data) for a in new.streams.attachments]

    def test_container_that_cannot_hold_a_track_is_refused_before_work(self, film, tmp_path, blend):
        with pytest.raises(MediaError) as error:
            interpolate_video(film, tmp_path / "o.mp4", interpolator=blend)
        assert "the subrip subtitles (track 3) and the subrip subtitles (track 4) of film.mkv; .mkv can" in str(
            error.value
        )
        assert "--tracks fitting" in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] == ["film.mkv"]


class TestRareSources:
    def test_a_rate_of_many_digits(self, make_clip, tmp_path, probe, blend):
        interpolate_video(make_clip("s.mp4"), tmp_path / "o.mp4", fps="25.123456789", interpolator=blend)
        rate = Fraction(picture(probe, tmp_path / "o.mp4")["avg_frame_rate"])
        assert float(rate) == pytest.approx(25.1, abs=0.1)
        with pytest.raises(InvalidInputError, match="frames a second can be stored"):
            interpolate_video(make_clip("s.mp4"), tmp_path / "p.mp4", fps=10**12, interpolator=blend)

    @pytest.mark.parametrize("codec", ["vp9", "av1"])
    def test_what_a_container_refuses_is_refused_before_work(self, make_clip, tmp_path, blend, codec):
        with pytest.raises(MediaError, match=f".mov cannot hold {codec} video"):
            interpolate_video(
                make_clip("s.mp4"), tmp_path / "o.mov", encoder=EncoderSettings(codec), interpolator=blend
            )
        assert blend.asked == []

    def test_slow_motion_of_chapters_that_begin_before_the_picture(self, film, ffmpeg, tmp_path, probe, blend):
        ffmpeg("-itsoffset", "0.1", "-i", str(film), "-i", str(film), "-map", "0:v", "-map", "1:a:0", "-c", "copy",
               "-map_chapters", "1", "-avoid_negative_ts", "disabled", str(tmp_path / "late.mkv"))  # fmt: skip
        interpolate_video(tmp_path / "late.mkv", tmp_path / "o.mkv", slow=2, interpolator=blend)
        chapters = probe(tmp_path / "o.mkv", "-show_chapters")["chapters"]
        assert [float(chapter["start_time"]) for chapter in chapters] == pytest.approx([0, 0.9], abs=0.03)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [({}, "01:00:00:24"), ({"factor": 4}, "01:00:00:48"), ({"fps": 30}, None), ({"slow": 2}, None)],
    )
    def test_time_codes_count_the_new_frames_or_are_dropped(
        self, make_clip, ffmpeg, tmp_path, probe, blend, options, expected
    ):
        source = make_clip("s.mp4", range(6), Fraction(1, 25))
        ffmpeg("-i", str(source), "-c", "copy", "-timecode", "01:00:00:12", str(tmp_path / "tc.mov"))
        interpolate_video(tmp_path / "tc.mov", tmp_path / "o.mov", interpolator=blend, **options)
        assert picture(probe, tmp_path / "o.mov").get("tags", {}).get("timecode") == expected

    def test_bits_that_change_in_mid_stream(self, make_clip, tmp_path, blend):
        kinds = {"yuv420p": range(6), "yuv420p10le": range(6, 12)}
        parts = [
            make_clip(f"{kind}.ts", stamps, Fraction(1, 25), pixel_format=kind, options={"bf": "0"}).read_bytes()
            for kind, stamps in kinds.items()
        ]
        (tmp_path / "s.ts").write_bytes(b"".join(parts))
        summary = interpolate_video(tmp_path / "s.ts", tmp_path / "o.mkv", interpolator=blend)
        assert summary.frames_read == 12
        assert any("bits or transparency change" in text for text in summary.warnings)

    def test_the_last_frame_of_a_section_lasts_until_the_next_one(self, make_clip, tmp_path, blend):
        source = make_clip("s.mkv", VARIABLE, MILLISECOND, options={"bf": "0"})
        section = SectionOptions(frames=3)
        summary = interpolate_video(source, tmp_path / "o.mkv", factor=1, section=section, interpolator=blend)
        assert summary.duration == Fraction(VARIABLE[3], 1000)

    def test_a_name_that_is_no_utf_8(self, make_clip, tmp_path, blend):
        source = make_clip("s.mp4").rename(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.mp4"))
        assert interpolate_video(source, tmp_path / "o.mp4", interpolator=blend).frames_written == 24

    def test_sound_that_an_edit_list_hides_does_not_move_the_picture(self, make_clip, ffmpeg, tmp_path, probe, blend):
        clip = make_clip("w.mp4", range(50), Fraction(1, 25), audio="aac", options={"g": "25"})
        ffmpeg("-i", str(clip), "-c:v", "copy", "-c:a", "pcm_s16le", str(tmp_path / "whole.mov"))
        ffmpeg("-ss", "0.5", "-i", str(tmp_path / "whole.mov"), "-c", "copy", str(tmp_path / "cut.mov"))
        interpolate_video(tmp_path / "cut.mov", tmp_path / "o.mkv", interpolator=blend)
        assert float(picture(probe, tmp_path / "o.mkv")["start_time"]) < 0.05  # a packet of sound at most

    def test_a_stereo_layout_is_said_to_be_dropped(self, make_clip, tmp_path, blend):
        source = make_clip("s.mp4", options={"x264-params": "frame-packing=3"})
        summary = interpolate_video(source, tmp_path / "o.mp4", interpolator=blend)
        assert any("both views of a stereo picture" in text for text in summary.warnings)

    def test_a_link_to_nowhere_is_not_replaced(self, make_clip, tmp_path, blend):
        (tmp_path / "o.mp4").symlink_to("nowhere.mp4")
        with pytest.raises(OutputExistsError):
            interpolate_video(make_clip("s.mp4"), tmp_path / "o.mp4", interpolator=blend)
