"""Folders of numbered images: order, steps, gaps, and what is refused."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.images import read_image, write_image
from uprnet.media.numbering import name_gaps, positions
from uprnet.media.sequence import FolderReader
from uprnet.pipeline import interpolate_video


@pytest.fixture
def make_folder(tmp_path):
    def make(numbers, name="frame_{}.png", kind=np.uint8, scale=2):
        (tmp_path / "in").mkdir()
        for number in numbers:
            write_image(tmp_path / "in" / name.format(number), np.full((32, 48, 3), number * scale, kind))
        return tmp_path / "in"

    return make


def names(*texts):
    return [Path(text) for text in texts]


class TestNumbers:
    @pytest.mark.parametrize(
        ("files", "places"),
        [
            (names("7.png", "8.png", "9.png"), [0, 1, 2]),
            (names("f0098.png", "f0099.png", "f0101.png"), [0, 1, 3]),
            (names("f8.exr", "f9.exr", "f10.exr"), [0, 1, 2]),
            (names("0010.png", "0020.png", "0040.png"), [0, 1, 3]),
            (names("shot2_v03_11.png", "shot2_v03_12.png"), [0, 1]),
            (names("r1_l1.png", "r1_l2.png", "r2_l1.png"), None),  # two numbers differ
            (names("a.png", "b.png"), None),
            (names("1.png", "4.png", "6.png"), None),  # no common step
            (names("only5.png"), None),
        ],
    )
    def test_places(self, files, places):
        assert positions(files) == places

    def test_gaps_are_named(self):
        files = names(*(f"{number}.png" for number in [1, 2, 3, 7, 8, 10]))
        assert name_gaps(files, positions(files)) == "4-6, 9"
        every_tenth = names("10.png", "20.png", "50.png", "60.png")
        assert name_gaps(every_tenth, positions(every_tenth)) == "30-40"
        many = names(*(f"{number}.png" for number in [*range(100, 104), *range(105, 120, 2)]))
        assert name_gaps(many, positions(many)) == "104, 106, 108, 110, 112 and 3 more gaps"

    def test_no_gaps(self):
        files = names("1.png", "2.png", "3.png")
        assert name_gaps(files, positions(files)) == ""

    def test_same_number_twice(self):
        with pytest.raises(MediaError, match=r"f1\.png and f01\.png have the same number"):
            positions(names("f1.png", "f01.png", "f2.png"))


class TestGaps:
    def test_are_refused_and_named(self, make_folder):
        with pytest.raises(MediaError, match=r"in is missing frames 12-14, 17; --gaps fill makes them, --gaps close"):
            FolderReader(make_folder([10, 11, 15, 16, 18]), Fraction(25))

    def test_are_filled_in_their_time(self, make_folder):
        reader = FolderReader(make_folder([10, 11, 13]), Fraction(25), "fill")
        assert [frame.pts * 25 for frame in reader] == [0, 1, 3]
        assert reader.info.duration == Fraction(4, 25)
        assert reader.warnings == ["missing and made from their neighbours: frames 12"]

    def test_are_closed(self, make_folder):
        reader = FolderReader(make_folder([10, 11, 13]), Fraction(25), "close")
        assert [frame.pts * 25 for frame in reader] == [0, 1, 2]
        assert reader.warnings == ["missing and passed over: frames 12"]

    def test_names_without_numbers_are_taken_in_order(self, make_folder):
        folder = make_folder([1], name="a.png")
        write_image(folder / "b.png", np.zeros((32, 48, 3), np.uint8))
        reader = FolderReader(folder, Fraction(25))
        assert len(list(reader)) == 2
        assert "order of their names" in reader.warnings[0]
        with pytest.raises(MediaError, match=r"--gaps fill needs one number in each name .* a\.png and b\.png"):
            FolderReader(folder, Fraction(25), gaps="fill")

    def test_an_image_that_does_not_belong_is_named(self, make_folder):
        folder = make_folder([1, 2, 3, 5])
        write_image(folder / "thumb.png", np.zeros((32, 48, 3), np.uint8))
        for gaps in ("refuse", "fill"):
            with pytest.raises(MediaError, match=r"holds thumb\.png beside images that are numbered like .*1\.png"):
                FolderReader(folder, Fraction(25), gaps=gaps)
        assert len(list(FolderReader(folder, Fraction(25), gaps="close"))) == 5


class TestWholeFolders:
    def values(self, folder):
        return [float(read_image(path).pixels[0, 0, 0]) for path in sorted(folder.iterdir())]

    def test_missing_images_are_made_in_their_time(self, make_folder, tmp_path, blend):
        interpolate_video(make_folder([10, 11, 14], scale=10), tmp_path / "out", gaps="fill", interpolator=blend)
        assert self.values(tmp_path / "out") == [100, 105, 110, 115, 120, 125, 130, 135, 140, 140]

    def test_light_beyond_white_and_below_black_survives(self, make_folder, tmp_path, blend):
        folder = make_folder([1, 2, 3], name="f{}.exr", kind=np.float16, scale=100)
        write_image(folder / "f2.exr", np.full((32, 48, 3), -0.5, np.float16), overwrite=True)
        interpolate_video(folder, tmp_path / "out", interpolator=blend)
        made = self.values(tmp_path / "out")
        assert made[::2] == [100, -0.5, 300]
        assert -0.5 < made[1] < 100
        assert -0.5 < made[3] < 300
        first = next(iter(sorted((tmp_path / "out").iterdir())))
        assert first.suffix == ".exr"
        assert read_image(first).pixels.dtype == np.float16

    def test_light_does_not_go_into_a_video(self, make_folder, tmp_path, blend):
        folder = make_folder([1, 2], name="f{}.exr", kind=np.float32)
        with pytest.raises(InvalidInputError, match=r"linear light .*\.exr"):
            interpolate_video(folder, tmp_path / "o.mkv", fps=25, interpolator=blend)

    @pytest.mark.parametrize("ending", ["png", "tiff", "webp", "jpg"])
    def test_ending_can_be_chosen(self, make_folder, tmp_path, ending, blend):
        interpolate_video(make_folder([8, 9]), tmp_path / "out", image_format=ending, interpolator=blend)
        assert {path.suffix for path in (tmp_path / "out").iterdir()} == {f".{ending}"}
