"""Reading and writing videos: every time stamp, every audio packet, colours, damage."""

from fractions import Fraction

import av
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError, OutputExistsError
from uprnet.media.colour import ColourTags
from uprnet.media.timeline import common_tick
from uprnet.media.video import VideoReader
from uprnet.media.video_writer import VideoWriter

NTSC_FILM = Fraction(24000, 1001)
VARIABLE = [0, 33, 40, 500, 533, 610, 700]


def read(path):
    with VideoReader(path) as reader:
        return reader, list(reader)


class TestReading:
    @pytest.mark.parametrize(
        ("name", "stamps", "tick"),
        [
            ("steady.mp4", range(12), Fraction(1, 30)),
            ("film.mp4", range(24), 1 / NTSC_FILM),
            ("film.mkv", range(24), 1 / NTSC_FILM),
            ("film.webm", range(24), 1 / NTSC_FILM),
            ("film.mov", range(24), 1 / NTSC_FILM),
            ("variable.mp4", VARIABLE, Fraction(1, 1000)),
            ("variable.mkv", VARIABLE, Fraction(1, 1000)),
            ("offset.mp4", range(45, 60), Fraction(1, 30)),
            ("offset.mkv", range(15, 30), Fraction(1, 25)),
        ],
    )
    def test_every_time_is_exact(self, make_clip, name, stamps, tick):
        codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
        reader, frames = read(make_clip(name, stamps, tick, codec=codec))
        assert [frame.pts for frame in frames] == [stamp * tick for stamp in stamps]
        assert reader.info.start == stamps[0] * tick
        assert all((frame.pts / reader.info.tick).denominator == 1 for frame in frames)
        assert reader.warnings == []

    def test_b_frames_come_in_the_order_of_time(self, make_clip):
        path = make_clip(options={"bf": "3", "b-adapt": "0"})
        with av.open(str(path)) as container:
            stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
        assert stamps != sorted(stamps)
        _, frames = read(path)
        assert [frame.pts for frame in frames] == [Fraction(i, 30) for i in range(12)]

    def test_information(self, make_clip):
        path = make_clip("i.mp4", range(30), audio="aac", aspect=Fraction(4, 3), colour=(1, 1, 1, 2))
        info = read(path)[0].info
        assert (info.height, info.width, info.rate, info.frames, info.depth) == (48, 64, 30, 30, 8)
        assert info.duration == 1
        assert info.codec == "h264"
        assert info.audio == ("aac",)
        assert info.sample_aspect == Fraction(4, 3)
        assert info.colour == ColourTags(1, 1, 1, full_range=True)

    def test_last_frame_has_its_duration(self, make_clip):
        _, frames = read(make_clip("f.mp4", range(10), 1 / NTSC_FILM))
        assert frames[-1].duration == 1 / NTSC_FILM

    def test_ten_bits_come_as_uint16(self, make_clip):
        reader, frames = read(make_clip("d.mkv", codec="ffv1", pixel_format="yuv420p10le"))
        assert reader.info.depth == 10
        assert frames[0].image.dtype == np.uint16
        # The grey-blue corner that was drawn, in 65535ths; 10 bits and chroma at half size lose a little.
        assert np.abs(frames[0].image[1, 1].astype(int) - (0, 0, 90 * 257)).max() < 800

    @pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
    def test_rotation_is_applied(self, make_clip, degrees, turns):
        _, straight = read(make_clip("a.mp4"))
        reader, turned = read(make_clip("b.mp4", rotation=degrees))
        assert reader.info.rotation % 360 == degrees % 360
        assert turned[3].image.shape[:2] == (reader.info.height, reader.info.width)
        assert np.array_equal(turned[3].image, np.rot90(straight[3].image, turns))

    def test_single_frame(self, make_clip):
        reader, frames = read(make_clip("one.mp4", [0]))
        assert len(frames) == 1
        assert reader.warnings == []

    def test_odd_size(self, make_clip):
        _, frames = read(make_clip("odd.mp4", height=33, width=51, pixel_format="yuv444p"))
        assert frames[0].image.shape == (33, 51, 3)

    def test_raw_stream_gets_times(self, make_clip):
        reader, frames = read(make_clip("raw.h264", range(6)))
        assert [frame.pts for frame in frames] == [Fraction(i) / reader.info.rate for i in range(6)]


class TestDamage:
    def test_cut_off_keeps_what_there_is_and_says_so(self, make_clip, caplog):
        whole = make_clip("whole.mkv", range(90), codec="mjpeg", pixel_format="yuvj420p")
        cut = whole.with_name("cut.mkv")
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        reader, frames = read(cut)
        assert 30 < len(frames) < 60
        assert [frame.pts for frame in frames] == [Fraction(i, 30) for i in range(len(frames))]
        assert any("breaks off at 1." in text and "of 3.000 s" in text for text in reader.warnings)
        assert "breaks off" in caplog.text

    def test_cut_off_mp4_with_index_in_front(self, make_clip):
        source = make_clip("s.mp4", range(60), audio="aac")
        whole = source.with_name("w.mp4")
        with VideoReader(source) as reader:
            copy(reader, whole, source)
        cut = whole.with_name("cut.mp4")
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
        reader, frames = read(cut)
        assert 10 < len(frames) < 60
        assert any("breaks off" in text for text in reader.warnings)

    def test_packets_of_zeros(self, make_clip):
        whole = make_clip("whole.mp4", range(30), options={"bf": "0", "g": "1"})
        with av.open(str(whole)) as container:
            packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        data = bytearray(whole.read_bytes())
        for pos, size in packets[10:12]:
            data[pos : pos + size] = bytes(size)
        whole.write_bytes(bytes(data))
        reader, frames = read(whole)
        kept = [frame.pts * 30 for frame in frames]
        assert set(range(30)) - {10, 11} <= set(kept)
        assert any("damaged packets" in text for text in reader.warnings)


class TestNotAVideo:
    def test_no_such_file(self, tmp_path):
        with pytest.raises(MediaError, match="there is no file"):
            VideoReader(tmp_path / "no.mp4")

    def test_folder(self, tmp_path):
        with pytest.raises(MediaError, match="is a folder"):
            VideoReader(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"just text, nothing to see", b"\0" * 5000])
    def test_something_else(self, tmp_path, content):
        (tmp_path / "x.mp4").write_bytes(content)
        with pytest.raises(MediaError) as error:
            VideoReader(tmp_path / "x.mp4")
        assert "x.mp4" in str(error.value)
        assert "\n" not in str(error.value)

    def test_sound_only(self, make_sound):
        with pytest.raises(MediaError, match="no video track"):
            VideoReader(make_sound("s.mka"))

    def test_header_without_frames(self, make_clip):
        path = make_clip("e.mkv", range(3), codec="mjpeg", pixel_format="yuvj420p")
        data = path.read_bytes()
        path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
        with pytest.raises(MediaError, match=r"e\.mkv"):
            VideoReader(path)

    def test_frames_that_cannot_be_decoded(self, make_clip):
        path = make_clip("e.mp4", range(3))
        with av.open(str(path)) as container:
            packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        data = bytearray(path.read_bytes())
        for pos, size in packets:
            data[pos : pos + size] = bytes(size)
        path.write_bytes(bytes(data))
        with pytest.raises(MediaError, match=r"no frame of .* can be decoded"):
            VideoReader(path)


def copy(reader, path, audio_from=None):
    """Write the frames again at their times; each until the next, the last for one nominal frame."""
    info, frames = reader.info, list(reader)
    ends = [frame.pts for frame in frames[1:]] + [frames[-1].pts + 1 / info.rate]
    with VideoWriter(
        path,
        info.height,
        info.width,
        info.rate,
        common_tick(info.tick, 1 / info.rate),
        colour=info.colour,
        is_deep=info.depth > 8,
        sample_aspect=info.sample_aspect,
        audio_from=audio_from,
    ) as writer:
        for frame, end in zip(frames, ends, strict=True):
            writer.write(frame.image, frame.pts, end - frame.pts)
    return writer


def sound_of(path):
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(bytes(packet), packet.pts * packet.time_base) for packet in packets]


class TestWriting:
    @pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm", ".m4v"])
    @pytest.mark.parametrize(
        ("stamps", "tick"),
        [(range(12), Fraction(1001, 60000)), (VARIABLE, Fraction(1, 1000)), (range(30, 42), Fraction(1, 25))],
    )
    def test_times_come_back_exactly(self, make_clip, tmp_path, ending, stamps, tick):
        with VideoReader(make_clip("s.mp4", stamps, tick)) as reader:
            copy(reader, tmp_path / f"o{ending}")
        again, frames = read(tmp_path / f"o{ending}")
        assert [frame.pts for frame in frames] == [stamp * tick for stamp in stamps]
        length = stamps[-1] * tick + 1 / reader.info.rate - stamps[0] * tick
        assert abs(again.info.duration - length) <= Fraction(1, 1000)

    @pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm"])
    def test_last_frame_is_held(self, tmp_path, ending):
        image = np.zeros((48, 64, 3), np.uint8)
        with VideoWriter(tmp_path / f"o{ending}", 48, 64, Fraction(10), Fraction(1, 10)) as writer:
            for index, length in enumerate([1, 1, 1, 7]):
                writer.write(image, Fraction(index, 10), Fraction(length, 10))
        assert read(tmp_path / f"o{ending}")[0].info.duration == 1

    @pytest.mark.parametrize(
        ("codec", "ending", "target"), [("aac", ".mp4", ".mp4"), ("aac", ".mp4", ".mkv"), ("libopus", ".webm", ".mp4"),
                                        ("libopus", ".webm", ".webm"), ("libmp3lame", ".mkv", ".mov"),
                                        ("pcm_s16le", ".mov", ".mkv"), ("flac", ".mkv", ".mp4")],
    )  # fmt: skip
    @pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 4)])
    def test_sound_is_the_same_packet_by_packet(self, make_clip, tmp_path, codec, ending, target, start):
        video = {"codec": "libvpx-vp9"} if ending == ".webm" else {}
        source = make_clip(f"s{ending}", range(20), audio=codec, audio_start=start, **video)
        with VideoReader(source) as reader:
            copy(reader, tmp_path / f"o{target}", source)
        before, after = sound_of(source), sound_of(tmp_path / f"o{target}")
        assert len(before) > 5
        assert [data for data, _ in before] == [data for data, _ in after]
        # Against the picture: Matroska moves all tracks to begin at 0, and rounds to milliseconds.
        shift = VideoReader(tmp_path / f"o{target}").info.start - reader.info.start
        assert max(abs(a + shift - b) for (_, a), (_, b) in zip(before, after, strict=True)) <= Fraction(1, 1000)

    def test_sound_that_does_not_fit_is_refused_before_work(self, make_clip, tmp_path):
        source = make_clip("s.mp4", audio="aac")
        with VideoReader(source) as reader, pytest.raises(MediaError) as error:
            copy(reader, tmp_path / "o.webm", source)
        assert str(error.value) == ".webm cannot hold aac audio of the source; these can: .mp4, .m4v, .mov, .mkv"
        assert [file.name for file in tmp_path.iterdir()] == ["s.mp4"]

    @pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm"])
    @pytest.mark.parametrize("tags", [(1, 1, 1, False), (6, 6, 6, False), (1, 1, 1, True), (9, 9, 16, False)])
    def test_colours_and_tags_stay(self, make_clip, tmp_path, ending, tags):
        tags = ColourTags(*tags)
        with VideoReader(make_clip("s.mp4", range(4), height=96, width=128)) as reader:
            images = [frame.image for frame in reader]
        path = tmp_path / f"o{ending}"
        with VideoWriter(path, 96, 128, Fraction(25), Fraction(1, 25), colour=tags) as writer:
            for index, image in enumerate(images):
                writer.write(image, Fraction(index, 25), Fraction(1, 25))
        again, frames = read(path)
        kept = again.info.colour
        # VP9 itself stores the matrix; WebM's header the rest.
        assert (kept.matrix, kept.full_range, kept.transfer) == (tags.matrix, tags.full_range, tags.transfer)
        for image, frame in zip(images, frames, strict=True):
            difference = frame.image.astype(float) - image
            assert np.abs(difference.mean((0, 1))).max() < 1
            assert np.abs(difference).mean() < 2.5

    @pytest.mark.parametrize("ending", [".mp4", ".mkv"])
    def test_ten_bits_stay_ten_bits(self, make_clip, tmp_path, ending):
        with VideoReader(make_clip("s.mkv", range(4), codec="ffv1", pixel_format="yuv420p10le")) as reader:
            copy(reader, tmp_path / f"o{ending}")
        again, frames = read(tmp_path / f"o{ending}")
        assert (again.info.codec, again.info.pixel_format) == ("hevc", "yuv420p10le")
        source = read(tmp_path / "s.mkv")[1]
        assert np.abs(frames[2].image.astype(float) - source[2].image).mean() / 257 < 2

    def test_ten_bits_in_webm_become_eight_and_it_is_said(self, make_clip, tmp_path):
        with VideoReader(make_clip("s.mkv", range(3), codec="ffv1", pixel_format="yuv420p10le")) as reader:
            writer = copy(reader, tmp_path / "o.webm")
        assert writer.warnings == ["WebM is written with 8 bits; .mkv and .mp4 keep 10"]
        assert read(tmp_path / "o.webm")[0].info.depth == 8

    @pytest.mark.parametrize(
        ("ending", "pixel_format"), [(".mp4", "yuv444p"), (".mkv", "yuv444p"), (".webm", "yuv420p")]
    )
    def test_odd_sizes_stay(self, tmp_path, ending, pixel_format):
        image = np.full((33, 51, 3), 120, np.uint8)
        with VideoWriter(tmp_path / f"o{ending}", 33, 51, Fraction(25), Fraction(1, 25)) as writer:
            writer.write(image, Fraction(0), Fraction(1, 25))
        again, frames = read(tmp_path / f"o{ending}")
        assert again.info.pixel_format == pixel_format
        assert frames[0].image.shape == image.shape
        assert np.abs(frames[0].image.astype(int) - image).max() <= 3

    def test_pixel_aspect_and_language_stay(self, make_clip, tmp_path):
        with VideoReader(make_clip(aspect=Fraction(16, 15))) as reader:
            copy(reader, tmp_path / "o.mkv")
        assert read(tmp_path / "o.mkv")[0].info.sample_aspect == Fraction(16, 15)

    @pytest.mark.parametrize("ending", [".mp4", ".mov"])
    def test_start_between_milliseconds(self, tmp_path, ending):
        times = [Fraction(k, 30) for k in range(20, 26)]
        with VideoWriter(tmp_path / f"o{ending}", 48, 64, Fraction(30), Fraction(1, 30)) as writer:
            for time in times:
                writer.write(np.zeros((48, 64, 3), np.uint8), time, Fraction(1, 30))
        assert [frame.pts for frame in read(tmp_path / f"o{ending}")[1]] == times

    def test_same_frames_give_the_same_file(self, make_clip, tmp_path):
        source, written = make_clip("s.mp4", range(8), audio="aac"), []
        for number in range(6):
            with VideoReader(source) as reader:
                copy(reader, tmp_path / f"{number}.mp4", source)
            written.append((tmp_path / f"{number}.mp4").read_bytes())
        assert len(set(written)) == 1

    def test_wrong_frame_is_refused(self, tmp_path):
        with pytest.raises(InvalidInputError, match="frames must be"):  # noqa: SIM117
            with VideoWriter(tmp_path / "o.mp4", 48, 64, Fraction(25), Fraction(1, 25)) as writer:
                writer.write(np.zeros((48, 62, 3), np.uint8), Fraction(0), Fraction(1, 25))
        assert list(tmp_path.iterdir()) == []


class TestOutputs:
    def writer(self, path, **options):
        return VideoWriter(path, 64, 64, Fraction(25), Fraction(1, 25), **options)

    def test_unknown_ending(self, tmp_path):
        with pytest.raises(MediaError, match=r"must end in one of \.m4v, \.mkv, \.mov, \.mp4, \.webm"):
            self.writer(tmp_path / "o.avi")

    def test_missing_folder(self, tmp_path):
        with pytest.raises(MediaError, match="does not exist"):
            self.writer(tmp_path / "no" / "o.mp4")

    def test_existing_file(self, tmp_path):
        (tmp_path / "o.mp4").write_bytes(b"mine")
        with pytest.raises(OutputExistsError):
            self.writer(tmp_path / "o.mp4")
        with pytest.raises(KeyboardInterrupt), self.writer(tmp_path / "o.mp4", overwrite=True) as writer:  # noqa: PT012
            writer.write(np.zeros((64, 64, 3), np.uint8), Fraction(0), Fraction(1, 25))
            raise KeyboardInterrupt
        assert (tmp_path / "o.mp4").read_bytes() == b"mine"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("ending", [".mp4", ".mkv"])
    def test_full_disk_leaves_nothing(self, tmp_path, file_size_limit, ending):
        noise = np.random.default_rng(0)
        with file_size_limit(100_000), pytest.raises(MediaError) as error:  # noqa: PT012, SIM117
            with self.writer(tmp_path / f"o{ending}") as writer:
                for index in range(100):
                    image = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                    writer.write(image, Fraction(index, 25), Fraction(1, 25))
        assert "no space left on the disk" in str(error.value)
        assert list(tmp_path.iterdir()) == []

    def test_names_may_use_any_letters(self, tmp_path):
        path = tmp_path / "a:b %d 写真.mkv"
        with self.writer(path) as writer:
            writer.write(np.zeros((64, 64, 3), np.uint8), Fraction(0), Fraction(1, 25))
        assert len(read(path)[1]) == 1
