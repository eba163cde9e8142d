"""Reading videos: every time stamp, what a file says about itself, damage, what is no video."""

from fractions import Fraction

import av
import numpy as np
import pytest

from uprnet.errors import MediaError
from uprnet.media.colour import ColourTags
from uprnet.media.video import VideoReader

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
        # The grey-blue pixel that was drawn, in 65535ths; 10 bits and chroma at half size lose a little.
        assert np.abs(frames[0].image[1, 1].astype(int) - np.multiply(257, (2, 3, 90))).max() < 150

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

    def test_names_may_use_any_letters(self, make_clip):
        path = make_clip()
        path = path.rename(path.with_name("a:b %d 写真.mp4"))
        assert len(read(path)[1]) == 12

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

    def test_cut_off_mp4_with_index_in_front(self, make_clip, ffmpeg):
        source = make_clip("s.mp4", range(60), audio="aac")
        whole, cut = source.with_name("w.mp4"), source.with_name("cut.mp4")
        ffmpeg("-i", str(source), "-c", "copy", "-movflags", "+faststart", str(whole))
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
        assert any("damaged packets: " in text for text in reader.warnings)


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
