"""Files and folders that are there whole or not at all."""

import errno

import pytest

from uprnet.errors import MediaError, OutputExistsError
from uprnet.files import check_folder, check_output, write_whole
from uprnet.media.output import complete_folder


def fill(path, names, overwrite):
    with complete_folder(path, overwrite=overwrite) as hidden:
        for name in names:
            (hidden / name).write_text("new")


def test_overwriting_a_folder_replaces_files_of_the_same_names_and_nothing_else(tmp_path):
    for name in ("1.png", "2024.mp4", "sheet.png", "notes.txt"):
        (tmp_path / name).write_text("old")
    fill(tmp_path, ["sheet.png", "flow.png", "smooth.mp4"], overwrite=True)
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    old = dict.fromkeys(("1.png", "2024.mp4", "notes.txt"), "old")
    assert found == {**old, **dict.fromkeys(("sheet.png", "flow.png", "smooth.mp4"), "new")}


def test_the_current_folder_can_be_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path.__class__("."), ["a.png"], overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*"))


def test_a_folder_in_the_way_of_a_file_is_found_before_anything_moves(tmp_path):
    (tmp_path / "b.png").mkdir()
    (tmp_path / "a.png").write_text("old")
    with pytest.raises(MediaError, match=r"must be a file, but .*b\.png is a folder"):
        fill(tmp_path, ["a.png", "b.png"], overwrite=True)
    assert (tmp_path / "a.png").read_text() == "old"


def test_a_folder_that_cannot_be_filled_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputExistsError, match="is a file; a folder was expected"):
        check_folder(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputExistsError, match="is not empty; choose another folder"):
        check_folder(tmp_path, overwrite=False)
    with pytest.raises(MediaError, match="does not exist; make it first"):
        check_folder(tmp_path / "no" / "where", overwrite=True)


@pytest.mark.parametrize("check", [check_output, check_folder])
def test_an_impossible_name_is_said_in_one_line(tmp_path, check):
    with pytest.raises(MediaError, match=r"^cannot write .*: File name too long$"):
        check(tmp_path / ("x" * 300), overwrite=False)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "^no space left on the disk while writing .*out.txt$"),
        (errno.EFBIG, "^no space left on the disk while writing .*out.txt$"),
        (errno.EROFS, "^cannot write .*out.txt: gone wrong$"),
    ],
)
def test_what_the_system_refuses_is_said_with_the_name_that_was_given(tmp_path, number, message):
    def half_written():
        with write_whole(tmp_path / "out.txt", overwrite=False) as hidden:
            hidden.write_text("half")
            raise OSError(number, "gone wrong", str(hidden))

    with pytest.raises(MediaError, match=message):
        half_written()
    assert not list(tmp_path.iterdir())
