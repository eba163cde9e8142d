"""Colours against the formulas of the standards, and round trips."""

import av
import numpy as np
import pytest

from uprnet.media.colour import BT709, ColourConverter, ColourTags

WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def flat_patches(dtype, size=32):
    """Sixteen flat colours, so that chroma subsampling does not matter inside them."""
    colours = np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, (4, 4, 3))
    return colours.repeat(size, 0).repeat(size, 1).astype(dtype)


def expected_yuv(rgb, matrix, full_range, depth):
    red, blue = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb / np.iinfo(rgb.dtype).max, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    top, unit = 2**depth - 1, 2 ** (depth - 8)
    if full_range:
        return y * top, u * top + 128 * unit, v * top + 128 * unit
    return (16 + 219 * y) * unit, (128 + 224 * u) * unit, (128 + 224 * v) * unit


def planes_of(frame, dtype):
    rows = [np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]
    item = np.dtype(dtype).itemsize
    return [row[:, : plane.width * item].copy().view(dtype) for row, plane in zip(rows, frame.planes, strict=True)]


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize(("pixel_format", "dtype", "depth"), [("yuv420p", np.uint8, 8), ("yuv420p10le", np.uint16, 10)])
def test_yuv_is_what_the_standard_says_and_comes_back(matrix, full_range, pixel_format, dtype, depth):
    rgb = flat_patches(dtype)
    converter = ColourConverter(ColourTags(matrix, matrix, BT709, full_range), *rgb.shape[:2])
    frame = converter.from_rgb(rgb, pixel_format)
    for plane, expected in zip(planes_of(frame, dtype), expected_yuv(rgb, matrix, full_range, depth), strict=True):
        step = expected.shape[0] // plane.shape[0]
        inside = slice(16 // step, None, 32 // step)
        assert (
            np.abs(plane[inside, inside] - expected[16::32, 16::32]).max() < 1.6
        )  # one for each rounding, and ringing
    back = converter.to_rgb(frame)
    assert back.dtype == dtype
    error = (back[16::32, 16::32].astype(float) - rgb[16::32, 16::32]) * 255 / np.iinfo(dtype).max
    assert np.abs(error).max() < 4
    assert np.abs(error.mean()) < 0.4


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_black_and_white_are_exact(full_range, pixel_format):
    is_deep = "10" in pixel_format
    dtype, top = (np.uint16, 65535) if is_deep else (np.uint8, 255)
    rgb = np.zeros((16, 64, 3), dtype)
    rgb[:, 32:] = top
    converter = ColourConverter(ColourTags(full_range=full_range), 16, 64)
    frame = converter.from_rgb(rgb, pixel_format)
    luma = planes_of(frame, dtype)[0] >> (2 if is_deep else 0)
    assert luma[0, [4, -4]].tolist() == ([0, 255] if full_range else [16, 235])
    assert np.array_equal(converter.to_rgb(frame)[:, [4, -4]], rgb[:, [4, -4]])


def test_chroma_does_not_wander_over_ten_round_trips():
    y, x = np.mgrid[0:64, 0:96]
    rgb = np.stack([128 + 100 * np.sin(x / 9), 128 + 90 * np.sin(y / 11), 128 + 90 * np.cos((x + y) / 13)], -1)
    converter = ColourConverter(ColourTags(), 64, 96)
    frame = converter.from_rgb(rgb.astype(np.uint8), "yuv420p")
    first = converter.to_rgb(frame)
    for _ in range(10):
        last = converter.to_rgb(frame)
        frame = converter.from_rgb(last, "yuv420p")
    difference = last[8:-8, 8:-8].astype(float) - first[8:-8, 8:-8]
    assert np.abs(difference).mean() < 0.5
    assert np.abs(difference.mean((0, 1))).max() < 0.3


@pytest.mark.parametrize(
    ("height", "width", "same_as"), [(480, 720, 6), (720, 960, 1), (600, 1280, 1), (1080, 1920, 1)]
)
def test_untagged_video_is_read_as_players_do(height, width, same_as):
    assert ColourTags(matrix=2).weights_for(height, width) == ColourTags(matrix=same_as).weights_for(10, 10)


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr0", "gbrp"])
def test_rgb_video_is_taken_as_it_is(pixel_format):
    rgb = flat_patches(np.uint8, size=8)
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
    tags = ColourTags.of(frame)
    assert tags.matrix == 1
    assert np.array_equal(ColourConverter(tags, *rgb.shape[:2]).to_rgb(frame), rgb)
