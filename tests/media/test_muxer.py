"""Joining segments: the times of a whole track, and what is copied at what time."""

import random
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from uprnet.errors import MediaError, OutputExistsError
from uprnet.media.encoder import SegmentEncoder
from uprnet.media.encoding import EncoderSettings, PictureFormat, choose_encoding
from uprnet.media.muxer import Timetable, join
from uprnet.media.timeline import Timing
from uprnet.media.tracks import plan_tracks
from uprnet.media.video import VideoReader

TICK = Fraction(1, 1000)


@pytest.fixture
def make_segments(tmp_path):
    """Return a function that encodes frames shown from ``times`` to ``end``, a few in each segment."""

    def make(times, end, *, ending=".mp4", tick=TICK, per_segment=4, settings=None):
        picture = PictureFormat(48, 64, Fraction(25), tick)
        encoding = choose_encoding(ending, picture, settings)
        paths = []
        for first in range(0, len(times), per_segment):
            paths.append(tmp_path / f"{first}.seg")
            with SegmentEncoder(paths[-1], encoding, picture) as encoder:
                for number in range(first, min(first + per_segment, len(times))):
                    until = [*times, end][number + 1]
                    image = np.full((48, 64, 3), number * 5 % 256, np.uint8)
                    encoder.write(image, times[number], until - times[number])
        return paths, {"picture": picture, "encoding": encoding}

    return make


class TestTimetable:
    @pytest.mark.parametrize("seed", range(40))
    def test_laws_hold_for_any_order_and_rate(self, seed):
        dice = random.Random(seed)
        times = sorted(dice.sample(range(dice.choice([200, 100_000])), dice.randint(1, 60)))
        start = dice.randint(-50, 50)
        order = list(range(len(times)))
        for first in range(0, len(order), 4):  # packets come a few places before their turn, as with B-frames
            group = order[first : first + 4]
            dice.shuffle(group)
            order[first : first + 4] = group
        end = start + times[-1] + dice.randint(1, 300)
        table = Timetable.of([start + times[turn] for turn in order], TICK, Fraction(25), end)
        assert all(a < b for a, b in pairwise(table.dts))
        assert (table.dts <= table.pts).all()
        shown = sorted(zip(table.pts, table.duration, strict=True))
        assert all(a + length == b for (a, length), (b, _) in pairwise(shown))
        assert table.end == end
        # MP4 adds up decoding times to the length of the track; the last packet makes that right, and no frame longer.
        last = end - table.start - (table.dts[-1] - table.dts[0])
        assert 0 < last <= end - table.pts[-1]
        if table.pts[-1] == table.pts.max():
            assert last == table.duration[-1]

    def test_without_reordering_both_times_are_the_same(self):
        table = Timetable.of([0, 10, 30], TICK, Fraction(25), 70)
        assert table.dts.tolist() == table.pts.tolist()
        assert table.duration.tolist() == [10, 20, 40]

    def test_two_frames_at_one_time(self):
        with pytest.raises(MediaError, match=r"two frames are shown at 0\.010 s"):
            Timetable.of([0, 10, 10], TICK, Fraction(25), 70)


class TestJoin:
    @pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
    def test_last_frame_is_held_and_the_track_is_as_long(self, make_segments, tmp_path, probe, ending):
        times = [Fraction(ms, 1000) for ms in (0, 200, 300, 900, 1000, 1100, 1500, 1600)]
        paths, kind = make_segments(times, Fraction(3), ending=ending)
        join(paths, tmp_path / f"o{ending}", **kind)
        found = probe(tmp_path / f"o{ending}", "-show_packets", "-show_format", "-show_streams")
        assert sorted(Fraction(packet["pts_time"]) for packet in found["packets"]) == times
        assert float(found["format"]["duration"]) == 3
        assert float(found["streams"][0].get("duration", 3)) == 3

    @pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
    def test_reader_sees_how_long_the_last_frame_is_held(self, make_segments, tmp_path, ending):
        times = [Fraction(ms, 1000) for ms in (0, 200, 300, 900, 1000, 1100, 1500, 1600)]
        paths, kind = make_segments(times, Fraction(3), ending=ending, per_segment=8)
        join(paths, tmp_path / f"o{ending}", **kind)
        with VideoReader(tmp_path / f"o{ending}") as reader:
            frames = list(reader)
        assert [frame.pts for frame in frames] == times
        assert frames[-1].duration == Fraction(14, 10)

    @pytest.mark.parametrize("ending", [".mp4", ".mkv"])
    @pytest.mark.parametrize("start", [Fraction(-1, 5), Fraction(7, 4)])
    def test_start_stays(self, make_segments, tmp_path, probe, ending, start):
        paths, kind = make_segments([start + Fraction(k, 25) for k in range(6)], start + Fraction(6, 25), ending=ending)
        join(paths, tmp_path / f"o{ending}", **kind)
        stream = probe(tmp_path / f"o{ending}", "-show_streams")["streams"][0]
        assert Fraction(stream["start_time"]) == max(start, 0)  # players cut off what comes before 0

    def test_same_segments_give_the_same_bytes(self, make_segments, film, tmp_path):
        for ending in (".mkv", ".mp4"):
            paths, kind = make_segments([Fraction(k, 25) for k in range(9)], Fraction(9, 25), ending=ending)
            plan = plan_tracks(film, ending, Timing.choose(), policy="fitting")
            for number in range(2):
                join(paths, tmp_path / f"{number}{ending}", tracks=plan, **kind)
            assert (tmp_path / f"0{ending}").read_bytes() == (tmp_path / f"1{ending}").read_bytes()

    def test_segments_of_other_settings_are_refused(self, make_segments, tmp_path):
        times = [Fraction(k, 25) for k in range(4)]
        paths, kind = make_segments(times, Fraction(4, 25))
        paths[0].rename(tmp_path / "other")
        others, other = make_segments(times, Fraction(4, 25), settings=EncoderSettings(pix_fmt="yuv444p"))
        with pytest.raises(MediaError, match="different settings; start afresh"):
            join([tmp_path / "other", *others], tmp_path / "o.mp4", **kind)
        with pytest.raises(MediaError, match="other settings than those of"):
            join([tmp_path / "other"], tmp_path / "o.mp4", **other)
        assert not (tmp_path / "o.mp4").exists()

    def test_existing_output_stays(self, make_segments, tmp_path):
        paths, kind = make_segments([Fraction(0)], Fraction(1))
        (tmp_path / "o.mp4").write_bytes(b"mine")
        with pytest.raises(OutputExistsError):
            join(paths, tmp_path / "o.mp4", **kind)
        assert (tmp_path / "o.mp4").read_bytes() == b"mine"

    @pytest.mark.parametrize("ending", [".mp4", ".mkv"])
    def test_full_disk_leaves_nothing(self, make_segments, film, tmp_path, file_size_limit, ending):
        paths, kind = make_segments([Fraction(k, 25) for k in range(25)], Fraction(1), ending=ending)
        plan = plan_tracks(film, ending, Timing.choose(), policy="fitting")
        before = sorted(tmp_path.iterdir())
        with file_size_limit(4000), pytest.raises(MediaError, match="no space left"):
            join(paths, tmp_path / f"o{ending}", tracks=plan, **kind)
        assert sorted(tmp_path.iterdir()) == before


class TestThreeHours:
    """Made time stamps: a frame and a sound packet now and then, three hours long."""

    LENGTH = 3 * 3600

    @pytest.fixture
    def source(self, tmp_path):
        """Make a file with one packet of sound at every tenth minute, and nothing between."""
        with av.open(str(tmp_path / "s.mkv"), "w") as container:
            video = container.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.codec_context.time_base = Fraction(1, 25)
            sound = container.add_stream("aac", rate=48000, layout="mono")
            container.start_encoding()
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            container.mux(video.encode(frame) + video.encode(None))
            beep = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            beep.sample_rate, beep.pts = 48000, 0
            content = bytes((sound.encode(beep) + sound.encode(None))[-1])
            for minute in range(0, 181, 10):
                packet = av.Packet(content)
                packet.stream, packet.time_base = sound, TICK
                # The encoder's 1024 samples of silence lie before the sound.
                packet.pts = packet.dts = minute * 60_000 - 21
                packet.duration = 21
                container.mux(packet)
        return tmp_path / "s.mkv"

    @pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
    @pytest.mark.parametrize("rate", ["60000/1001", "24000/1001", "60"])
    def test_sound_is_in_step_at_the_end(self, make_segments, source, tmp_path, probe, ending, rate):
        fps = Fraction(rate)
        tick = Timing.choose(fps=rate).time_base(Fraction(0), 1 / fps)
        numbers = [int(minute * 60 * fps) for minute in range(0, 181, 10)]
        times = [number / fps for number in numbers]
        paths, kind = make_segments(times, times[-1] + 1 / fps, ending=ending, tick=tick, per_segment=7)
        plan = plan_tracks(source, ending, Timing.choose(fps=rate))
        join(paths, tmp_path / f"o{ending}", tracks=plan, **kind)
        packets = probe(tmp_path / f"o{ending}", "-show_packets")["packets"]
        shown = sorted(Fraction(packet["pts_time"]) for packet in packets if packet["codec_type"] == "video")
        heard = [Fraction(packet["pts_time"]) for packet in packets if packet["codec_type"] == "audio"]
        heard = [time + Fraction(21, 1000) for time in heard]
        assert abs(heard[-1] - self.LENGTH) <= TICK
        assert max(abs(a - b) for a, b in zip(shown, times, strict=True)) <= TICK
        assert all(-TICK <= beep - frame <= 1 / fps + TICK for beep, frame in zip(heard, shown, strict=True))


class TestCopiedTimes:
    def copy(self, make_segments, tmp_path, probe, plan, start=Fraction(0), length=Fraction(1)):
        count = int(length * 25)
        paths, kind = make_segments([start + Fraction(k, 25) for k in range(count)], start + length, ending=".mkv")
        join(paths, tmp_path / "o.mkv", tracks=plan, **kind)
        found = {}
        for track in ("a:0", "a:1", "s:0"):
            packets = probe(tmp_path / "o.mkv", "-select_streams", track, "-show_packets")["packets"]
            found[track] = [(Fraction(p["pts_time"]), Fraction(p.get("duration_time", 0))) for p in packets]
        found["chapters"] = [
            (Fraction(c["start_time"]), Fraction(c["end_time"]))
            for c in probe(tmp_path / "o.mkv", "-show_chapters")["chapters"]
        ]
        return found

    def test_section_takes_whole_packets_and_clips_the_rest(self, make_segments, film, tmp_path, probe):
        plan = plan_tracks(film, ".mkv", Timing.choose(), section=(Fraction(1, 5), Fraction(3, 5)))
        found = self.copy(make_segments, tmp_path, probe, plan, length=Fraction(2, 5))
        for track in ("a:0", "a:1"):
            (first, length), (last, _) = found[track][0], found[track][-1]
            assert 0 <= first < length
            assert last < Fraction(2, 5) <= last + length
        # Subtitles from 0.1 to 0.35 and from 0.4 to 0.65, seen from 0.2 to 0.6.
        assert found["s:0"] == [(0, Fraction(15, 100)), (Fraction(1, 5), Fraction(1, 5))]
        assert found["chapters"] == [(0, Fraction(3, 10)), (Fraction(3, 10), Fraction(2, 5))]

    def test_slower_time_scales_subtitles_and_chapters_and_drops_the_sound(self, make_segments, film, tmp_path, probe):
        plan = plan_tracks(film, ".mkv", Timing.choose(slow=2))
        assert [track.kind for track in plan.tracks].count("audio") == 0
        assert any("time runs slower; --slow-audio stretches it" in text for text in plan.warnings)
        found = self.copy(make_segments, tmp_path, probe, plan, length=Fraction(2))
        assert found["s:0"] == [(Fraction(n, 5), Fraction(1, 2)) for n in (1, 4, 7)]
        assert found["chapters"] == [(0, 1), (1, 2)]
