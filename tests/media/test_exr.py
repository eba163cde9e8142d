"""OpenEXR: every value comes back, also those outside [0, 1]; another program reads what is written."""

import struct

import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.images import alike, loss_in, read_image, write_image
from uprnet.media.linear_light import as_displayed


def light(kind, channels=3, size=(9, 14)):
    """Make linear light from -2 to 60,000, with values that only half floats round."""
    rng = np.random.default_rng(0)
    image = np.exp(rng.uniform(-8, 11, (*size, channels))) * rng.choice([1, 1, 1, -1e-4], (*size, channels))
    image[..., 3:] = rng.uniform(0, 1, (*size, channels - 3))
    return image.astype(kind)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_value_comes_back(tmp_path, kind, channels):
    image = light(kind, channels)
    write_image(tmp_path / "i.exr", image)
    back = read_image(tmp_path / "i.exr")
    assert np.array_equal(back.pixels, image)
    assert back.pixels.dtype == kind
    assert back.note == ""


def test_another_program_reads_it(tmp_path, ffmpeg):
    image = light(np.float32)
    write_image(tmp_path / "i.exr", image)
    raw = ffmpeg("-i", str(tmp_path / "i.exr"), "-f", "rawvideo", "-pix_fmt", "gbrpf32le", "-")
    green, blue, red = np.frombuffer(raw, "<f4").reshape(3, *image.shape[:2])
    assert np.array_equal(np.stack([red, green, blue], axis=-1), image)


def test_grey_becomes_rgb(tmp_path):
    # A header and two rows of one half channel Y, uncompressed, as the OpenEXR file layout says.
    def attribute(name, kind, value):
        return name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value

    box, rows = struct.pack("<4i", 0, 0, 2, 1), np.array([[0.5, 1.5, -2], [4, 0, 100]], "<f2")
    head = (
        b"v/1\x01"
        + struct.pack("<i", 2)
        + b"".join(
            [
                attribute(b"channels", b"chlist", b"Y\0" + struct.pack("<i4B2i", 1, 0, 0, 0, 0, 1, 1) + b"\0"),
                attribute(b"compression", b"compression", b"\0"),
                attribute(b"dataWindow", b"box2i", box),
                attribute(b"displayWindow", b"box2i", box),
                attribute(b"lineOrder", b"lineOrder", b"\0"),
                attribute(b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
                attribute(b"screenWindowCenter", b"v2f", struct.pack("<2f", 0, 0)),
                attribute(b"screenWindowWidth", b"float", struct.pack("<f", 1)),
                b"\0",
            ]
        )
    )
    lines = [struct.pack("<2i", y, 6) + row.tobytes() for y, row in enumerate(rows)]
    table = struct.pack("<2Q", len(head) + 16, len(head) + 16 + len(lines[0]))
    (tmp_path / "g.exr").write_bytes(head + table + b"".join(lines))
    back = read_image(tmp_path / "g.exr")
    assert back.note == "greyscale, converted to RGB"
    assert np.array_equal(back.pixels, np.repeat(rows[..., None], 3, -1))


def test_linear_light_and_displayed_colours_are_not_mixed(tmp_path):
    floats, whole = light(np.float32), np.zeros((9, 14, 3), np.uint8)
    with pytest.raises(InvalidInputError, match=r"\.png cannot hold the linear light"):
        write_image(tmp_path / "i.png", floats)
    with pytest.raises(InvalidInputError, match=r"\.exr is for linear light"):
        loss_in(".exr", whole)
    with pytest.raises(InvalidInputError, match="or neither"):
        alike(floats, whole)
    assert list(tmp_path.iterdir()) == []
    first, second = alike(light(np.float16), light(np.float32, 4))
    assert (first.dtype, first.shape) == (second.dtype, second.shape)
    assert (first[..., 3] == 1).all()


def test_cut_off(tmp_path):
    write_image(tmp_path / "i.exr", light(np.float32, size=(64, 64)))
    data = (tmp_path / "i.exr").read_bytes()
    (tmp_path / "cut.exr").write_bytes(data[:200])
    with pytest.raises(MediaError, match="not a readable image"):
        read_image(tmp_path / "cut.exr")


class TestCurve:
    @pytest.mark.parametrize("kind", [np.float16, np.float32])
    def test_there_and_back(self, kind):
        img0, img1 = light(kind, 4), light(kind, 4, (9, 14))[::-1]
        seen0, seen1, back = as_displayed(img0, img1)
        for image, seen in ((img0, seen0), (img1, seen1)):
            assert seen.dtype == np.float32
            assert seen.min() >= 0
            assert seen.max() <= 1
            assert back(seen).dtype == kind
            rounding = {np.float16: 2e-3, np.float32: 1e-5}[kind]
            assert np.allclose(back(seen).astype(np.float64), image.astype(np.float64), rtol=rounding, atol=2e-5)

    def test_ordinary_pictures_fill_the_range(self):
        grey = np.full((4, 4, 3), 0.18, np.float32)
        seen, _, _ = as_displayed(grey, grey)
        assert np.allclose(seen, 0.45, atol=0.01)

    def test_order_stays(self):
        ramp = np.linspace(-1, 1000, 3000, dtype=np.float32).reshape(10, 100, 3)
        seen, _, _ = as_displayed(ramp, ramp)
        assert (np.diff(seen.ravel()) > 0).all()

    def test_what_is_no_number_does_not_spread(self):
        image = light(np.float32)
        image[2, 3] = np.nan, np.inf, -np.inf
        seen, _, back = as_displayed(image, image)
        assert np.isfinite(seen).all()
        assert np.isfinite(back(seen)).all()
