"""Colours against the formulas of the standards, and round trips."""

from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from uprnet.media.colour import BT709, CHROMA_LOCATIONS, ColourConverter, ColourTags

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
@pytest.mark.parametrize(
    ("pixel_format", "dtype", "depth"),
    [
        ("yuv420p", np.uint8, 8),
        ("yuv422p", np.uint8, 8),
        ("yuv444p", np.uint8, 8),
        ("yuv420p10le", np.uint16, 10),
        ("yuv444p10le", np.uint16, 10),
        ("yuv422p12le", np.uint16, 12),
        ("yuv420p16le", np.uint16, 16),
    ],
)
def test_yuv_is_what_the_standard_says_and_comes_back(matrix, full_range, pixel_format, dtype, depth):
    rgb = flat_patches(dtype)
    converter = ColourConverter(ColourTags(matrix, matrix, BT709, full_range), *rgb.shape[:2])
    frame = converter.from_rgb(rgb, pixel_format)
    for plane, expected in zip(planes_of(frame, dtype), expected_yuv(rgb, matrix, full_range, depth), strict=True):
        down, across = expected.shape[0] // plane.shape[0], expected.shape[1] // plane.shape[1]
        inside = plane[16 // down :: 32 // down, 16 // across :: 32 // across]
        assert np.abs(inside - expected[16::32, 16::32]).max() <= 0.51  # rounded once
    back = converter.to_rgb(frame)
    assert back.dtype == dtype
    error = (back[16::32, 16::32].astype(float) - rgb[16::32, 16::32]) * (2**depth - 1) / np.iinfo(dtype).max
    assert np.abs(error).max() < 2.2  # half a step of chroma, which counts 1.9-fold for blue, and the rounding of RGB
    assert np.abs(error.mean()) < 0.4


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("pixel_format", "depth"), [("yuv420p", 8), ("yuv420p10le", 10), ("yuv444p12le", 12)])
def test_black_and_white_are_exact(full_range, pixel_format, depth):
    dtype, top = (np.uint16, 65535) if depth > 8 else (np.uint8, 255)
    rgb = np.zeros((16, 64, 3), dtype)
    rgb[:, 32:] = top
    converter = ColourConverter(ColourTags(full_range=full_range), 16, 64)
    frame = converter.from_rgb(rgb, pixel_format)
    unit = 2 ** (depth - 8)
    black, white = (0, 2**depth - 1) if full_range else (16 * unit, 235 * unit)
    assert planes_of(frame, dtype)[0][0, [4, -4]].tolist() == [black, white]
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


@pytest.mark.parametrize(
    ("pixel_format", "depth"),
    [("rgb24", 8), ("bgr0", 8), ("gbrp", 8), ("gbrp10le", 10), ("gbrp12le", 12), ("rgb48be", 16), ("gbrp16le", 16)],
)
def test_rgb_is_taken_and_given_as_it_is(pixel_format, depth):
    rgb = flat_patches(np.uint16 if depth > 8 else np.uint8, size=8)
    frame = ColourConverter(ColourTags(), 32, 32).from_rgb(rgb, pixel_format)
    assert frame.format.name == pixel_format
    tags = ColourTags.of(frame)
    assert tags.matrix == 1
    step = np.iinfo(rgb.dtype).max / (2**depth - 1)
    assert np.abs(ColourConverter(tags, 32, 32).to_rgb(frame) - rgb.astype(float)).max() <= step / 2 + 0.5


def test_samples_of_deep_rgb_are_what_they_should_be():
    frame = ColourConverter(ColourTags(), 16, 16).from_rgb(np.full((16, 16, 3), 65535, np.uint16), "gbrp10le")
    assert all((plane == 1023).all() for plane in planes_of(frame, np.uint16))


@pytest.mark.parametrize("source", ["nv12", "yuyv422", "gray", "bgr24", "yuv410p", "yuv422p10be"])
def test_other_layouts_of_the_same_samples(source):
    grey = np.full((16, 32, 3), 130, np.uint8)
    frame = av.VideoFrame.from_ndarray(grey, "rgb24").reformat(format=source)
    image = ColourConverter(ColourTags.of(frame), 16, 32).to_rgb(frame)
    assert np.abs(image / (257 if image.dtype == np.uint16 else 1) - grey).max() <= 1


@pytest.mark.parametrize(
    ("pixel_format", "planar"), [("nv12", "yuv420p"), ("nv16", "yuv422p"), ("p010le", "yuv420p10le")]
)
@pytest.mark.parametrize("full_range", [False, True])
def test_chroma_in_one_plane(pixel_format, planar, full_range):
    rgb = flat_patches(np.uint16 if "10" in planar else np.uint8)
    converter = ColourConverter(ColourTags(full_range=full_range), *rgb.shape[:2])
    frame = converter.from_rgb(rgb, pixel_format)
    assert frame.format.name == pixel_format
    assert np.array_equal(converter.to_rgb(frame), converter.to_rgb(converter.from_rgb(rgb, planar)))


def test_full_range_by_the_name_of_the_format():
    frame = av.VideoFrame(32, 16, "yuvj420p")
    for plane, value in zip(frame.planes, (130, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    assert (ColourConverter(ColourTags.of(frame), 16, 32).to_rgb(frame) == 130).all()


@pytest.mark.parametrize("pixel_format", ["yuva420p", "yuva444p10le", "yuva422p16le", "bgra", "rgba64be", "gbrap12le"])
def test_alpha_comes_back(pixel_format):
    is_deep = any(depth in pixel_format for depth in ("10", "12", "16", "64"))
    rgb = flat_patches(np.uint16 if is_deep else np.uint8)
    top = np.iinfo(rgb.dtype).max
    alpha = (np.linspace(0, top, 128).round().astype(rgb.dtype))[None].repeat(128, 0)
    converter = ColourConverter(ColourTags(), 128, 128)
    back = converter.to_rgb(converter.from_rgb(np.dstack([rgb, alpha]), pixel_format))
    assert back.shape == (128, 128, 4)
    assert np.abs(back[..., 3] - alpha.astype(float)).max() <= top / 2**10
    assert back[0, [0, -1], 3].tolist() == [0, top]
    assert np.abs(back[16::32, 16::32, :3] - rgb[16::32, 16::32].astype(float)).max() / top < 0.012


def test_alpha_is_dropped_or_opaque_as_the_format_asks():
    rgb = flat_patches(np.uint8, size=8)
    converter = ColourConverter(ColourTags(), 32, 32)
    opaque = converter.to_rgb(converter.from_rgb(rgb, "bgra"))
    assert (opaque[..., 3] == 255).all()
    assert np.array_equal(converter.to_rgb(converter.from_rgb(opaque, "bgr0")), rgb)


@pytest.mark.parametrize(("image", "pixel_format"), [(np.uint8, "gbrp10le"), (np.uint16, "gbrp")])
def test_depth_follows_the_format(image, pixel_format):
    top = np.iinfo(image).max
    rgb = np.full((16, 16, 3), top, image)
    back = ColourConverter(ColourTags(), 16, 16)
    frame = back.from_rgb(rgb, pixel_format)
    assert back.to_rgb(frame).max() == np.iinfo(back.to_rgb(frame).dtype).max


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv420p10le", "yuva420p", "nv12"])
@pytest.mark.parametrize("location", CHROMA_LOCATIONS)
def test_location_of_chroma_is_found(location, pixel_format):
    graph = av.filter.Graph()
    frame = av.VideoFrame(48, 32, pixel_format)
    source = graph.add_buffer(width=48, height=32, format=frame.format, time_base=Fraction(1, 25))
    tagged = graph.add("setparams", f"chroma_location={CHROMA_LOCATIONS[location]}")
    graph.link_nodes(source, tagged, graph.add("buffersink")).configure()
    graph.vpush(frame)
    found = graph.vpull()
    before = [bytes(plane) for plane in found.planes]
    assert ColourTags.of(found).chroma_location == location
    assert [bytes(plane) for plane in found.planes] == before


@pytest.mark.parametrize("location", CHROMA_LOCATIONS)
def test_edges_of_colour_stay_where_they_are(location):
    """A colour ramp has the same colour after 4:2:0 wherever chroma lies; taken for another place it has not."""
    x = np.mgrid[0:64, 0:64][1]
    rgb = np.stack([60 + 2 * x, np.full_like(x, 100), 180 - 2 * x], -1).astype(np.uint8)
    frame = ColourConverter(ColourTags(chroma_location=location), 64, 64).from_rgb(rgb, "yuv420p")

    def error(place):
        back = ColourConverter(ColourTags(chroma_location=place), 64, 64).to_rgb(frame)
        return np.abs(back[16:-16, 16:-16, [0, 2]].astype(int) - rgb[16:-16, 16:-16, [0, 2]]).mean()

    assert error(location) < 1
    other = 2 if location in (1, 3, 5) else 1
    assert error(other) > error(location) + 0.2
