"""Pixel formats: what they hold, and the nearest of an encoder."""

import pytest

from uprnet.media.pixel_format import Sampling, can_write, losses, nearest, planar

X265 = ["yuv420p", "yuv422p", "yuv444p", "gbrp", "yuv420p10le", "yuv444p10le", "yuv420p12le", "gbrp12le"]


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("yuv420p", Sampling("420", 8)),
        ("nv12", Sampling("420", 8)),
        ("p010le", Sampling("420", 10)),
        ("yuyv422", Sampling("422", 8)),
        ("yuv411p", Sampling("422", 8)),
        ("yuva444p12le", Sampling("444", 12, True)),
        ("gbrp10le", Sampling("rgb", 10)),
        ("rgba64be", Sampling("rgb", 16, True)),
        ("rgb565le", Sampling("rgb", 8)),
        ("pal8", Sampling("rgb", 8)),
        ("gray10le", Sampling("420", 10)),
        ("ya8", Sampling("420", 8, True)),
    ],
)
def test_what_a_format_holds(name, sampling):
    assert Sampling.of(name) == sampling


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Sampling("420", 8), "yuv420p"),
        (Sampling("422", 8), "yuv422p"),
        (Sampling("422", 10), "yuv444p10le"),  # more chroma rather than fewer bits
        (Sampling("420", 9), "yuv420p10le"),
        (Sampling("420", 16), "yuv420p12le"),
        (Sampling("rgb", 8), "gbrp"),
        (Sampling("rgb", 16), "gbrp12le"),
        (Sampling("420", 8, True), "yuv420p"),
    ],
)
def test_nearest_loses_least_and_adds_least(wanted, found):
    assert nearest(X265, wanted)[0] == found


def test_no_format_is_known():
    assert nearest(["pal8", "monob", "gbrpf32le", "yuv411p"], Sampling()) == []


@pytest.mark.parametrize("name", ["yuv420p", "yuva422p10le", "gbrap16le", "rgb48be", "bgr0", "argb", "nv12", "p010le"])
def test_can_write(name):
    assert can_write(name)


@pytest.mark.parametrize("name", ["yuv410p", "pal8", "monob", "grayf32le", "rgb555be", "cuda", "gray", "yuyv422"])
def test_cannot_write(name):
    assert not can_write(name)


def test_planar_takes_the_next_depth_that_exists():
    assert planar(Sampling("422", 10)) == "yuv422p10le"
    assert planar(Sampling("420", 14, True)) == "yuva420p16le"


def test_losses_in_words():
    assert losses(Sampling("rgb", 16, True), Sampling("444", 10)) == [
        "transparency is dropped", "16 bits become 10", "RGB becomes YUV 4:4:4"
    ]  # fmt: skip
    assert losses(Sampling("422", 8), Sampling("420", 10)) == ["4:2:2 becomes 4:2:0"]
    assert losses(Sampling("420", 8), Sampling("444", 12)) == []
