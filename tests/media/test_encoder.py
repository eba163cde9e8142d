"""Segments: exact times, the same bytes again, whole or not at all; joined they are what ffprobe expects."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.colour import CHROMA_LOCATIONS, ColourTags
from uprnet.media.encoder import Segment, SegmentEncoder, add_track
from uprnet.media.encoding import EncoderSettings, PictureFormat, choose_encoding
from uprnet.media.hdr import HdrMetadata, MasteringDisplay
from uprnet.media.pixel_format import Sampling
from uprnet.media.video import VideoReader

FILM = Fraction(24000, 1001)


def drawing(index, height, width, dtype=np.uint8, has_alpha=False):
    """Draw a soft picture with a bar that moves; with alpha, a ramp from clear to opaque."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [60 + x * 100 / width, 80 + y * 90 / height, 150 - x * 60 / width]
    if has_alpha:
        channels.append(x * 255 / (width - 1))
    image = np.stack(channels, -1)
    image[height // 2 : height // 2 + 8, 2 * index : 2 * index + 8, :3] = (180, 90, 70)
    return (image * (np.iinfo(dtype).max / 255)).round().astype(dtype)


def images_for(picture, count):
    sampling = picture.sampling
    dtype = np.uint16 if sampling.depth > 8 else np.uint8
    return [drawing(i, picture.height, picture.width, dtype, sampling.has_alpha) for i in range(count)]


def picture_with(sampling=None, **changes):
    return PictureFormat(48, 64, FILM, 1 / FILM, **({"sampling": sampling} if sampling else {}), **changes)


def encode(path, encoding, picture, images, start=0):
    with SegmentEncoder(path, encoding, picture) as encoder:
        for index, image in enumerate(images):
            encoder.write(image, (start + index) * picture.tick, picture.tick)
    return Segment(path)


def join(path, encoding, picture, *segments):
    with av.open(str(path), "w") as container:
        stream = add_track(container, encoding, picture)
        container.start_encoding()
        assert {segment.extradata for segment in segments} == {stream.codec_context.extradata or b""}
        for segment in segments:
            for packet in segment.packets():
                packet.stream = stream
                container.mux(packet)


def through(tmp_path, ending, picture, settings=None, count=5):
    """Encode some frames and give the images, the encoding and the file."""
    images = images_for(picture, count)
    encoding = choose_encoding(ending, picture, settings)
    segment = encode(tmp_path / "0.seg", encoding, picture, images, 10)
    join(tmp_path / f"o{ending}", encoding, picture, segment)
    return images, encoding, tmp_path / f"o{ending}"


class TestSegments:
    @pytest.mark.parametrize(
        ("ending", "codec"), [(".mp4", "h264"), (".mkv", "hevc"), (".webm", "vp9"), (".mov", "prores"), (".mov", "png")]
    )
    def test_times_are_exact_also_negative_and_uneven(self, tmp_path, ending, codec):
        picture = replace(picture_with(), tick=Fraction(1, 90000))
        ticks = [-7007, -3003, -17, 0, 5, 90001, 90002]
        encoding = choose_encoding(ending, picture, EncoderSettings(codec))
        with SegmentEncoder(tmp_path / "s", encoding, picture) as encoder:
            for index, (now, then) in enumerate(pairwise([*ticks, 100_000])):
                encoder.write(drawing(index, 48, 64), now * picture.tick, (then - now) * picture.tick)
        segment = Segment(tmp_path / "s")
        packets = list(segment.packets())
        durations = [then - now for now, then in pairwise([*ticks, 100_000])]
        assert sorted(segment.times()) == list(zip(ticks, durations, strict=True))
        assert [(packet.pts, packet.duration) for packet in packets] == segment.times()
        assert {packet.time_base for packet in packets} == {picture.tick}
        decoded = [packet.dts for packet in packets]
        assert decoded == sorted(set(decoded))
        assert packets[0].is_keyframe
        assert packets[0].pts == -7007

    @pytest.mark.parametrize(("ending", "depth"), [(".mp4", 8), (".mp4", 10), (".webm", 8), (".mov", 10), (".mkv", 16)])
    def test_the_same_frames_give_the_same_bytes(self, tmp_path, ending, depth):
        picture = replace(picture_with(Sampling("420", depth)), height=160, width=256)
        encoding, images = choose_encoding(ending, picture), images_for(picture, 12)
        for name in "abc":
            encode(tmp_path / name, encoding, picture, images)
        assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1

    def test_every_segment_stands_alone(self, tmp_path):
        picture = picture_with()
        encoding, images = choose_encoding(".mkv", picture), images_for(picture, 12)
        parts = [encode(tmp_path / str(n), encoding, picture, images[n : n + 6], n) for n in (0, 6)]
        join(tmp_path / "second.mkv", encoding, picture, parts[1])
        join(tmp_path / "both.mkv", encoding, picture, *parts)
        with VideoReader(tmp_path / "second.mkv") as reader:
            alone = [frame.image for frame in reader]
        with VideoReader(tmp_path / "both.mkv") as reader:
            together = [frame.image for frame in reader]
        assert len(together) == 12
        assert all(np.array_equal(a, b) for a, b in zip(alone, together[6:], strict=True))

    def test_an_error_leaves_nothing(self, tmp_path):
        picture = picture_with()
        encoding = choose_encoding(".mkv", picture)
        (tmp_path / "s").write_bytes(b"old")
        with pytest.raises(KeyboardInterrupt), SegmentEncoder(tmp_path / "s", encoding, picture) as encoder:  # noqa: PT012
            encoder.write(drawing(0, 48, 64), Fraction(0), picture.tick)
            raise KeyboardInterrupt
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("s", b"old")]

    def test_full_disk(self, tmp_path, file_size_limit):
        picture = picture_with()
        encoding = choose_encoding(".mkv", picture, EncoderSettings("ffv1"))
        noise = np.random.default_rng(0)
        with file_size_limit(50_000), pytest.raises(MediaError, match="no space left on the disk"):  # noqa: PT012, SIM117
            with SegmentEncoder(tmp_path / "s", encoding, picture) as encoder:
                for index in range(20):
                    image = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                    encoder.write(image, index * picture.tick, picture.tick)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "image", [np.zeros((48, 62, 3), np.uint8), np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.float32)]
    )
    def test_wrong_frame_is_refused(self, tmp_path, image):
        picture = picture_with()
        with pytest.raises(InvalidInputError, match=r"frames must be \(48, 64, 3 or 4\) with uint8 or uint16, got"):  # noqa: SIM117
            with SegmentEncoder(tmp_path / "s", choose_encoding(".mkv", picture), picture) as encoder:
                encoder.write(image, Fraction(0), picture.tick)

    def test_what_is_not_whole_is_refused(self, tmp_path):
        picture = picture_with()
        encode(tmp_path / "s", choose_encoding(".mkv", picture), picture, images_for(picture, 4))
        data = (tmp_path / "s").read_bytes()
        for length in (len(data) - 1, len(data) - 60, len(data) // 2):
            (tmp_path / "cut").write_bytes(data[:length])
            with pytest.raises(MediaError, match="is not complete; remove it"):
                Segment(tmp_path / "cut").times()
            with pytest.raises(MediaError, match="is not complete; remove it"):
                list(Segment(tmp_path / "cut").packets())
        (tmp_path / "cut").write_bytes(b"something else")
        with pytest.raises(MediaError, match="is not a segment"):
            Segment(tmp_path / "cut")


class TestTracks:
    @pytest.mark.parametrize(
        ("ending", "sampling", "settings"),
        [
            (".mp4", Sampling("420", 8), None),
            (".mkv", Sampling("420", 10), None),
            (".mp4", Sampling("422", 12), None),
            (".webm", Sampling("420", 8), None),
            (".mkv", Sampling("420", 16), None),
            (".mov", Sampling("422", 10), None),
            (".webm", Sampling("420", 8), EncoderSettings("av1")),
        ],
    )
    @pytest.mark.parametrize("tags", [ColourTags(9, 9, 16, False, 3), ColourTags(6, 6, 6, True, 2)])
    def test_tags_as_ffprobe_reads_them(self, tmp_path, probe, ending, sampling, settings, tags):
        _, encoding, path = through(tmp_path, ending, picture_with(sampling, colour=tags), settings)
        stream = probe(path, "-show_streams", "-count_frames")["streams"][0]
        assert stream["nb_read_frames"] == "5"
        assert stream["pix_fmt"].replace("yuvj", "yuv") == encoding.pix_fmt
        is_hdr = tags.transfer == 16
        found = [stream["color_space"], stream["color_primaries"], stream["color_transfer"]]
        assert found == (["bt2020nc", "bt2020", "smpte2084"] if is_hdr else ["smpte170m"] * 3)
        assert stream["color_range"] == ("pc" if tags.full_range and ending != ".mov" else "tv")
        if sampling.chroma == "420":
            centre = "center" if ending != ".webm" else "left"  # VP9 and AV1 have no name for the centre
            assert stream.get("chroma_location", "left") == ("topleft" if is_hdr else centre)

    @pytest.mark.parametrize("location", CHROMA_LOCATIONS)
    @pytest.mark.parametrize(
        ("ending", "codec", "chroma"),
        [(".mp4", "h264", "420"), (".mkv", "hevc", "420"), (".webm", "vp9", "420"), (".webm", "av1", "420"),
         (".mkv", "ffv1", "420"), (".mkv", "mjpeg", "420"), (".mkv", "mjpeg", "422"), (".mp4", "h264", "422")],
    )  # fmt: skip
    def test_chroma_is_read_where_it_was_written(self, tmp_path, ending, codec, chroma, location):
        picture = picture_with(Sampling(chroma, 8), colour=ColourTags(1, 1, 1, chroma_location=location))
        settings = EncoderSettings(codec, preset="medium" if codec == "h264" else None)  # faster ones lose more blue
        images, encoding, path = through(tmp_path, ending, picture, settings, count=1)
        with VideoReader(path) as reader:
            (frame,) = reader
        assert reader.info.colour.chroma_location == encoding.colour.chroma_location
        bluish = frame.image[..., 2].astype(float) - images[0][..., 2]
        # Away from the bar. Half a pixel across would be 0.5 more in B alone; mjpeg loses some blue wherever it is.
        assert abs(bluish[:16].mean()) < (1 if codec == "mjpeg" else 0.35)

    @pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
    def test_aspect_and_tag_as_ffprobe_reads_them(self, tmp_path, probe, ending):
        picture = picture_with(Sampling("420", 10), sample_aspect=Fraction(16, 15))
        stream = probe(through(tmp_path, ending, picture)[2], "-show_streams")["streams"][0]
        assert stream["sample_aspect_ratio"] == "16:15"
        assert ending == ".mkv" or stream["codec_tag_string"] == "hvc1"

    @pytest.mark.parametrize(("ending", "codec"), [(".mp4", None), (".mkv", "hevc"), (".webm", "av1")])
    def test_hdr_as_ffprobe_reads_it(self, tmp_path, probe, ending, codec):
        def point(x, y):
            return Fraction(x, 50000), Fraction(y, 50000)

        display = MasteringDisplay(
            point(34000, 16000), point(13250, 34500), point(7500, 3000), point(15635, 16450),
            darkest=Fraction(1, 200), brightest=Fraction(1000),
        )  # fmt: skip
        hdr = HdrMetadata(display, (1000, 400))
        picture = picture_with(Sampling("420", 10), colour=ColourTags(9, 9, 16), hdr=hdr)
        path = through(tmp_path, ending, picture, EncoderSettings(codec))[2]
        with VideoReader(path) as reader:
            assert reader.info.hdr.light == (1000, 400)
        frames = probe(path, "-show_frames", "-read_intervals", "%+#1")["frames"][0]["side_data_list"]
        data = {kind["side_data_type"]: kind for kind in frames}
        light = data["Content light level metadata"]
        assert (light["max_content"], light["max_average"]) == (1000, 400)
        found = data["Mastering display metadata"]
        wanted = {
            "red_x": display.red[0], "green_y": display.green[1], "white_point_x": display.white[0],
            "min_luminance": display.darkest, "max_luminance": display.brightest,
        }  # fmt: skip
        for name, value in wanted.items():
            assert float(Fraction(found[name])) == pytest.approx(float(value), rel=2e-3)


class TestPictures:
    @pytest.mark.parametrize("matrix", [1, 6, 9])
    @pytest.mark.parametrize("full_range", [False, True])
    @pytest.mark.parametrize("depth", [8, 10])
    def test_untouched_frames_come_back_from_lossless_444(self, tmp_path, seen, matrix, full_range, depth):
        picture = picture_with(Sampling("444", depth), colour=ColourTags(matrix, matrix, 1, full_range))
        settings = EncoderSettings("ffv1")
        images, _, path = through(tmp_path, ".mkv", picture, settings)
        top = np.iinfo(images[0].dtype).max
        with VideoReader(path) as reader:
            ours = np.stack([frame.image for frame in reader]) * (255 / top)
        theirs = seen(path, images[0].shape).astype(float)
        # Of full-range samples of 10 bits libswscale takes the upper 8, which is up to 0.75 too little.
        for found, tint in ((ours, 0.05), (theirs, 0.4 if full_range and depth > 8 else 0.05)):
            difference = found - np.stack(images) * (255 / top)
            assert np.abs(difference).mean() < 0.5
            assert np.abs(difference.mean((0, 1, 2))).max() < tint

    @pytest.mark.parametrize(
        ("ending", "settings", "depth"),
        [
            (".mp4", None, 8),
            (".mkv", EncoderSettings("hevc"), 8),
            (".webm", None, 8),
            (".webm", EncoderSettings("av1"), 8),
            (".mov", EncoderSettings("prores"), 10),
        ],
    )
    def test_lossy_defaults_have_no_tint(self, tmp_path, ffmpeg, ending, settings, depth):
        """Means of Y, U and V, decoded by ffmpeg, are those of ITU-R BT.601 for the images."""
        images, _, path = through(tmp_path, ending, picture_with(colour=ColourTags(6, 6, 6)), settings)
        samples = np.frombuffer(ffmpeg("-i", str(path), "-f", "rawvideo", "-"), "u1" if depth == 8 else "<u2")
        frames = samples.reshape(len(images), -1) / 2 ** (depth - 8)
        luma, *chroma = np.split(frames, [48 * 64, 48 * 64 + (frames.shape[1] - 48 * 64) // 2], axis=1)
        r, g, b = np.moveaxis(np.stack(images) / 255, -1, 0)
        y = 0.299 * r + 0.587 * g + 0.114 * b
        u, v = 128 + 224 * (b - y) / 1.772, 128 + 224 * (r - y) / 1.402
        expected = 16 + 219 * y, u[..., ::2], v[..., ::2]  # chroma lies on the left
        for found, wanted in zip((luma, *chroma), expected, strict=True):
            assert abs(found.mean() - wanted.mean()) < 0.2

    @pytest.mark.parametrize(
        ("ending", "sampling", "settings", "decoder", "shown"),
        [
            (".mov", Sampling("rgb", 8, True), None, [], 1.5),
            (".mov", Sampling("rgb", 8, True), EncoderSettings("png"), [], 0),
            (".mov", Sampling("rgb", 8, True), EncoderSettings("qtrle"), [], 0),
            (".mkv", Sampling("rgb", 8, True), None, [], 0),
            (".mkv", Sampling("444", 16, True), None, [], 1),
            (".webm", Sampling("420", 8, True), None, ["-c:v", "libvpx-vp9"], 2.5),
        ],
    )
    def test_alpha_is_carried(self, tmp_path, seen, ending, sampling, settings, decoder, shown):
        images, encoding, path = through(tmp_path, ending, picture_with(sampling), settings)
        assert encoding.has_alpha
        unit = np.iinfo(images[0].dtype).max / 255
        with VideoReader(path) as reader:
            assert reader.info.has_alpha
            ours = np.stack([frame.image for frame in reader])
        theirs = seen(path, images[0].shape, "rgba", *decoder)
        for found in (ours / (np.iinfo(ours.dtype).max / 255), theirs):
            difference = np.abs(found - np.stack(images) / unit)
            assert difference[..., 3].mean() <= shown
            assert difference[..., :3].mean() <= shown + 1

    @pytest.mark.parametrize("size", [(33, 51), (47, 64), (48, 63)])
    @pytest.mark.parametrize(
        ("ending", "settings"),
        [(".mp4", None), (".webm", None), (".mov", EncoderSettings("prores")), (".mkv", EncoderSettings("ffv1"))],
    )
    def test_odd_sizes_stay(self, tmp_path, seen, size, ending, settings):
        picture = replace(picture_with(), height=size[0], width=size[1])
        images, _, path = through(tmp_path, ending, picture, settings)
        found = seen(path, images[0].shape)
        assert found.shape == (5, *images[0].shape)
        assert np.abs(found.astype(float) - np.stack(images)).mean() < 2
