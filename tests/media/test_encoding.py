"""Which codec, pixel format and options a video gets, and what is refused before any frame is made."""

from dataclasses import replace
from fractions import Fraction

import pytest

from uprnet.errors import MediaError
from uprnet.media.colour import ColourTags
from uprnet.media.encoding import EncoderSettings, PictureFormat, choose_encoding
from uprnet.media.hdr import HdrMetadata
from uprnet.media.pixel_format import Sampling

PICTURE = PictureFormat(48, 64, Fraction(25), Fraction(1, 25))


def like(chroma="420", depth=8, has_alpha=False, **changes):
    return replace(PICTURE, sampling=Sampling(chroma, depth, has_alpha), **changes)


@pytest.mark.parametrize(
    ("ending", "picture", "codec", "pixel_format"),
    [
        (".mp4", like(), "libx264", "yuv420p"),
        (".MP4", like("422"), "libx264", "yuv422p"),
        (".m4v", like("444"), "libx264", "yuv444p"),
        (".mp4", like("420", 10), "libx265", "yuv420p10le"),
        (".mp4", like("422", 12), "libx265", "yuv422p12le"),
        (".mp4", like("rgb"), "libx265", "gbrp"),
        (".mkv", like("rgb", 10), "libx265", "gbrp10le"),
        (".mkv", like("420", 16), "ffv1", "yuv420p16le"),
        (".mkv", like("rgb", 16), "ffv1", "gbrp16le"),
        (".mkv", like("rgb", 8, has_alpha=True), "ffv1", "bgra"),
        (".mkv", like("444", 10, has_alpha=True), "ffv1", "yuva444p10le"),
        (".mov", like("420", 10), "libx265", "yuv420p10le"),
        (".mov", like("422", 10), "prores_ks", "yuv422p10le"),
        (".mov", like("rgb", 8, has_alpha=True), "prores_ks", "yuva444p10le"),
        (".webm", like(), "libvpx-vp9", "yuv420p"),
        (".webm", like("444"), "libvpx-vp9", "yuv444p"),
        (".webm", like("420", 8, has_alpha=True), "libvpx-vp9", "yuva420p"),
        (".mp4", like(height=47), "libx264", "yuv444p"),
        (".mp4", like("422", width=63), "libx264", "yuv444p"),
        (".mp4", like("422", height=47), "libx264", "yuv422p"),
        (".webm", like(height=47, width=63), "libvpx-vp9", "yuv420p"),
    ],
)
def test_defaults(ending, picture, codec, pixel_format):
    encoding = choose_encoding(ending, picture)
    assert (encoding.codec, encoding.pix_fmt) == (codec, pixel_format)
    lost = [text for text in encoding.warnings if "is odd" not in text and "RGB becomes" not in text]
    assert lost == []


def test_deep_webm_keeps_ten_bits_or_says_that_it_does_not():
    encoding = choose_encoding(".webm", like("420", 10))
    assert Sampling.of(encoding.pix_fmt).depth == 10 or "10 bits become 8" in encoding.warnings[0]


@pytest.mark.parametrize(
    ("ending", "picture", "said"),
    [
        (
            ".mp4", like(has_alpha=True),
            "libx264 stores yuv420p: transparency is dropped; .mov (ProRes), .mkv (FFV1), .webm (VP9) keep it",
        ),
        (".mp4", like("420", 16), "libx265 stores yuv420p12le: 16 bits become 12"),
        (".mov", like("rgb", 8, has_alpha=True), "prores_ks stores yuva444p10le: RGB becomes YUV 4:4:4"),
        (
            ".mkv", like(height=47),
            "64x47 is odd, so the video is 4:4:4, which not every player shows; .webm need not",
        ),
        (
            ".webm", like(sample_aspect=Fraction(16, 15)),
            "libvpx-vp9 in .webm cannot say that pixels are 16:15: players show squares; .mp4 can",
        ),
        (
            ".mov", like("422", 10, hdr=HdrMetadata(light=(1000, 400))),
            "prores_ks cannot store mastering display and light level, they are dropped; hevc keeps them",
        ),
    ],
)  # fmt: skip
def test_what_is_lost_is_said(ending, picture, said):
    assert choose_encoding(ending, picture).warnings == (said,)


@pytest.mark.parametrize(
    ("ending", "settings", "said"),
    [
        (".mp4", {"codec": "h263x"}, "there is no video encoder h263x here; av1, h264, .* is needed"),
        (".mp4", {"codec": "aac"}, "there is no video encoder aac"),
        (".mp4", {"codec": "prores"}, r"\.mp4 cannot hold prores video; these can: \.mov, \.mkv"),
        (".webm", {"codec": "h264"}, r"\.webm cannot hold h264 video; these can: \.mp4, \.m4v, \.mov, \.mkv"),
        (".mp4", {"pix_fmt": "yuv420p16le"}, "libx264 cannot store yuv420p16le; it has yuv420p, yuv422p"),
        (".mov", {"codec": "prores", "crf": 12}, "prores_ks does not know the option crf"),
        (".mp4", {"preset": "quick"}, "libx264 does not accept 64x48 yuv420p with .*preset=quick"),
        (".mkv", {"options": {"gop": "3"}}, "libx264 does not know the option gop"),
        (".mkv", {"options": {"g": "x"}}, "libx264 does not accept"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(capfd, ending, settings, said):
    with pytest.raises(MediaError, match=said) as error:
        choose_encoding(ending, PICTURE, EncoderSettings(**settings))
    assert "\n" not in str(error.value)
    capfd.readouterr()  # x264 itself writes about presets


def test_odd_size_is_refused_where_half_chroma_is_asked_for():
    with pytest.raises(MediaError, match="libx264 needs an even size for yuv420p, got 63x48; a 4:4:4 format"):
        choose_encoding(".mp4", like(width=63), EncoderSettings(pix_fmt="yuv420p"))


def test_what_the_user_asks_for_comes_first():
    settings = EncoderSettings("h264", 23.5, "ultrafast", "yuv444p", {"g": "12", "x264-params": "keyint=9"})
    encoding = choose_encoding(".mkv", like("420", 10), settings)
    assert (encoding.codec, encoding.pix_fmt) == ("libx264", "yuv444p")
    assert encoding.options == (
        ("crf", "23.5"), ("g", "12"), ("mbtree", "0"), ("preset", "ultrafast"), ("x264-params", "keyint=9")
    )  # fmt: skip
    assert encoding.warnings == ("libx264 stores yuv444p: 10 bits become 8",)


def test_lists_of_parameters_are_joined():
    settings = EncoderSettings("hevc", options={"x265-params": "keyint=9"})
    options = dict(choose_encoding(".mkv", like(hdr=HdrMetadata(light=(1000, 400))), settings).options)
    assert options["x265-params"] == "max-cll=1000,400:log-level=none:keyint=9"


def test_streams_that_cannot_say_full_range_get_limited():
    full = like("422", 10, colour=ColourTags(full_range=True))
    assert choose_encoding(".mkv", full).colour.full_range
    assert not choose_encoding(".mov", full).colour.full_range


def test_two_choices_of_the_same_are_equal_and_say_all():
    first, second = choose_encoding(".mp4", PICTURE), choose_encoding(".mp4", replace(PICTURE))
    assert first == second
    assert repr(first) == repr(second)
    assert "crf" in repr(first)
