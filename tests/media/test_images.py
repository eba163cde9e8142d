"""Images through real files: kinds, orientation, names, bad input."""

from itertools import product

import cv2
import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError, OutputExistsError
from uprnet.media.images import alike, list_images, loss_in, read_image, write_image


def picture(dtype=np.uint8, channels=3, size=(12, 20)):
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)


@pytest.mark.parametrize(
    ("ending", "dtype", "channels"),
    [
        *product((".png", ".tiff"), ("uint8", "uint16"), (3, 4)),
        (".webp", "uint8", 3),
        (".webp", "uint8", 4),
    ],
)
def test_lossless_formats_give_back_every_pixel(tmp_path, ending, dtype, channels):
    image = picture(np.dtype(dtype), channels)
    if ending == ".webp" and channels == 4:
        image[..., 3] |= 1  # WebP forgets the colour of what cannot be seen at all
    write_image(tmp_path / f"i{ending}", image)
    back = read_image(tmp_path / f"i{ending}")
    assert np.array_equal(back.pixels, image)
    assert back.pixels.dtype == image.dtype
    assert back.note == ""


def test_jpeg_keeps_colours_in_order(tmp_path):
    image = np.zeros((32, 32, 3), np.uint8)
    image[...] = (220, 90, 20)
    write_image(tmp_path / "i.JPG", image)
    assert np.abs(read_image(tmp_path / "i.JPG").pixels.astype(int) - image).max() < 4


def test_what_a_format_cannot_hold_is_said_and_rounded(tmp_path):
    image = np.full((8, 8, 4), 257 * 100 + 129, np.uint16)  # just above the middle between 100 and 101
    assert loss_in(".webp", image) == ".webp cannot hold everything: 16 bits become 8"
    assert loss_in(".JPG", image) == ".jpg cannot hold everything: alpha is dropped, 16 bits become 8"
    assert loss_in(".png", image) == ""
    write_image(tmp_path / "i.webp", image)
    assert read_image(tmp_path / "i.webp").pixels[0, 0].tolist() == [101] * 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_greyscale_becomes_rgb_and_is_said(tmp_path, dtype):
    grey = picture(dtype)[..., 0]
    cv2.imwrite(str(tmp_path / "g.png"), grey)
    back = read_image(tmp_path / "g.png")
    assert back.note == "greyscale, converted to RGB"
    assert np.array_equal(back.pixels, np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize(("ending", "mode"), [("tiff", "LA"), ("png", "L")])
def test_transparency_of_greyscale_is_said_to_be_left_out(tmp_path, ending, mode):
    image_module = pytest.importorskip("PIL.Image")
    path = tmp_path / f"p.{ending}"
    image_module.new(mode, (8, 8), (99, 40) if mode == "LA" else 99).save(path, transparency=99)
    assert read_image(path).note == "greyscale, converted to RGB; its transparency is left out"
    image_module.new("L", (8, 8), 99).save(path)
    assert read_image(path).note == "greyscale, converted to RGB"


def test_palette_becomes_rgb_and_is_said(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:, :4], colours[:, 4:] = (255, 0, 10), (0, 200, 30)
    image_module.fromarray(colours).quantize(2).save(tmp_path / "p.png")
    back = read_image(tmp_path / "p.png")
    assert back.note == "palette, converted to RGB"
    assert np.array_equal(back.pixels, colours)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_a_colour_profile_is_said_to_be_left_out_unless_it_is_srgb(tmp_path, ending):
    image_module, cms = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageCms")
    picture = image_module.fromarray(np.full((8, 8, 3), 99, np.uint8))
    lab, srgb = (cms.ImageCmsProfile(cms.createProfile(name)).tobytes() for name in ("LAB", "sRGB"))
    many = {"exif": b"Exif\0\0" + bytes(60_000), "comment": bytes(20_000)} if ending == "jpg" else {}  # before it
    for profile, note in ((lab, "its colour profile is left out: colours are taken for sRGB"), (srgb, ""), (b"", "")):
        picture.save(tmp_path / f"p.{ending}", icc_profile=profile, **many)
        assert read_image(tmp_path / f"p.{ending}").note == note


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path, ending, orientation):
    image_module, ops = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageOps")
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = (250, 0, 0)
    stored[8:, 24:] = (0, 0, 250)
    exif = image_module.Exif()
    exif[0x112] = orientation
    image = image_module.fromarray(stored)
    how = {"tiffinfo": {0x112: orientation}} if ending == "tiff" else {"exif": exif, "quality": 95}
    image.save(tmp_path / f"o.{ending}", **how)
    with image_module.open(tmp_path / f"o.{ending}") as file:
        upright = np.asarray(ops.exif_transpose(file).convert("RGB"))
    back = read_image(tmp_path / f"o.{ending}").pixels
    assert back.shape == upright.shape
    assert np.abs(back.astype(int) - upright).max() < 60  # JPEG and WebP lose some at the edges of the patches
    assert np.abs(back.astype(int) - upright).mean() < 3


def test_alpha_keeps_its_orientation(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    exif = image_module.Exif()
    exif[0x112] = 6
    image_module.fromarray(picture(channels=4)).save(tmp_path / "o.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "o.png").pixels, np.rot90(picture(channels=4), -1))


def test_names_may_use_any_letters(tmp_path):
    path = tmp_path / "Bücher 写真 ñ.png"
    write_image(path, picture())
    assert np.array_equal(read_image(path).pixels, picture())


def test_single_pixel(tmp_path):
    write_image(tmp_path / "one.png", picture(size=(1, 1)))
    assert read_image(tmp_path / "one.png").pixels.shape == (1, 1, 3)


class TestBadInput:
    def test_no_such_file(self, tmp_path):
        with pytest.raises(MediaError, match="there is no file"):
            read_image(tmp_path / "no.png")

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
    def test_not_an_image(self, tmp_path, content, capfd):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(MediaError, match="not a readable image"):
            read_image(tmp_path / "x.png")
        assert capfd.readouterr().err == ""

    def test_cut_off(self, tmp_path):
        write_image(tmp_path / "x.png", picture(size=(64, 64)))
        data = (tmp_path / "x.png").read_bytes()
        (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
        with pytest.raises(MediaError, match="not a readable image"):
            read_image(tmp_path / "cut.png")

    def test_float_samples(self, tmp_path):
        cv2.imwrite(str(tmp_path / "f.tiff"), np.ones((4, 4), np.float32))
        with pytest.raises(MediaError, match="float32 samples; 8 or 16 bits"):
            read_image(tmp_path / "f.tiff")

    def test_folder_instead_of_file(self, tmp_path):
        with pytest.raises(MediaError, match="cannot read"):
            read_image(tmp_path)

    @pytest.mark.parametrize("name", ["x.bmpp", "x", "x.mp4"])
    def test_unknown_ending(self, tmp_path, name):
        with pytest.raises(MediaError, match=r"\.jpeg, \.jpg, \.png, \.tif, \.tiff, \.webp"):
            write_image(tmp_path / name, picture())

    def test_missing_folder(self, tmp_path):
        with pytest.raises(MediaError, match="does not exist"):
            write_image(tmp_path / "no" / "x.png", picture())

    def test_existing_output_is_kept_unless_asked(self, tmp_path):
        path = tmp_path / "x.png"
        path.write_bytes(b"mine")
        with pytest.raises(OutputExistsError):
            write_image(path, picture())
        assert path.read_bytes() == b"mine"
        write_image(path, picture(), overwrite=True)
        assert np.array_equal(read_image(path).pixels, picture())

    def test_too_large_for_the_format(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"cannot be written as \.webp"):
            write_image(tmp_path / "x.webp", np.zeros((1, 16384, 3), np.uint8))
        assert list(tmp_path.iterdir()) == []

    def test_full_disk_leaves_nothing(self, tmp_path, file_size_limit):
        with file_size_limit(1000), pytest.raises(MediaError, match="no space left"):
            write_image(tmp_path / "x.png", picture(size=(64, 64)))
        assert list(tmp_path.iterdir()) == []


class TestAlike:
    def test_the_richer_kind_wins(self):
        first, second = alike(picture(np.uint8, 4), picture(np.uint16, 3))
        assert first.dtype == second.dtype == np.uint16
        assert first.shape[2] == second.shape[2] == 4
        assert np.array_equal(first, picture(np.uint8, 4).astype(int) * 257)
        assert (second[..., 3] == 65535).all()

    def test_sizes_must_agree(self):
        with pytest.raises(InvalidInputError, match=r"\(12, 20\) and \(12, 21\)"):
            alike(picture(), picture(size=(12, 21)))


class TestListing:
    def test_order_of_the_numbers(self, tmp_path):
        for name in ("f10.png", "f9.png", "f2.PNG", "f0100.jpg", ".f1.png", "notes.txt"):
            (tmp_path / name).touch()
        (tmp_path / "f3.png").mkdir()
        assert [file.name for file in list_images(tmp_path)] == ["f2.PNG", "f9.png", "f10.png", "f0100.jpg"]

    def test_digits_that_are_no_decimal_ones_are_letters(self, tmp_path):
        for name in ("x²9.png", "x²10.png", "x①.png"):
            (tmp_path / name).touch()
        assert [file.name for file in list_images(tmp_path)] == ["x²9.png", "x²10.png", "x①.png"]

    def test_empty_and_missing_folder(self, tmp_path):
        with pytest.raises(MediaError, match="no images in"):
            list_images(tmp_path)
        with pytest.raises(MediaError, match="no folder"):
            list_images(tmp_path / "no")
