"""Finding the frames of a benchmark, and saying what is wrong with a folder."""

import shutil
from fractions import Fraction

import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.evaluation.layouts import BENCHMARKS, find_items

NAMES = ("triplets", "vimeo90k", "septuplet", "ucf101", "snu-film", "x4k1000fps")


def test_levels_are_those_of_the_paper():
    levels = {
        (name, subset): (protocol.num_levels, protocol.skip_finest)
        for name, benchmark in BENCHMARKS.items()
        for subset, protocol in benchmark.subsets.items()
    }
    assert levels[("vimeo90k", "")] == levels[("ucf101", "")] == levels[("septuplet", "")] == (3, 0)
    assert {levels[("snu-film", subset)] for subset in ("easy", "medium", "hard", "extreme")} == {(5, 0)}
    assert levels[("x4k1000fps", "4k")] == (7, 2)


@pytest.mark.parametrize("name", NAMES)
def test_all_items_are_found_with_inputs_around_targets(name, make_tree):
    items = find_items(BENCHMARKS[name], make_tree(name))
    assert len({item.name for item in items}) == len(items) == 2
    for item in items:
        assert len(item.targets) == len(item.times)
        names = [item.inputs[0].name, *(path.name for path in item.targets), item.inputs[1].name]
        assert names == sorted(set(names))


def test_septuplets_have_five_times(make_tree):
    item = find_items(BENCHMARKS["septuplet"], make_tree("septuplet"))[0]
    assert item.times == tuple(Fraction(k, 6) for k in range(1, 6))
    assert [path.name for path in (*item.inputs, *item.targets)] == [f"im{k}.png" for k in (1, 7, 2, 3, 4, 5, 6)]


def test_x4k_targets_are_every_fourth_frame(make_tree):
    item = find_items(BENCHMARKS["x4k1000fps"], make_tree("x4k1000fps"))[0]
    assert [path.stem for path in item.inputs] == ["0000", "0032"]
    assert [path.stem for path in item.targets] == [f"{4 * k:04d}" for k in range(1, 8)]
    assert item.times == tuple(Fraction(k, 8) for k in range(1, 8))


def test_snu_film_at_four_times_takes_the_frames_between(make_tree):
    root = make_tree("snu-film")
    item = find_items(BENCHMARKS["snu-film"], root, "hard", 4)[0]
    assert [path.stem for path in item.targets] == ["000002", "000004", "000006"]
    assert item.times == (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
    with pytest.raises(InvalidInputError, match="2 frames apart"):
        find_items(BENCHMARKS["snu-film"], root, "easy", 4)


def test_snu_film_lists_may_carry_their_published_prefix(make_tree):
    root = make_tree("snu-film")
    plain = find_items(BENCHMARKS["snu-film"], root)
    file = root / "eval_modes" / "test-easy.txt"
    file.write_text(file.read_text().replace("test/GOPRO", "data/SNU-FILM/test/GOPRO"))
    assert [item.targets for item in find_items(BENCHMARKS["snu-film"], root)] == [item.targets for item in plain]


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_told_with_the_tree(name, tmp_path):
    with pytest.raises(MediaError, match=r"it is empty; expected:\nDIR/\n"):
        find_items(BENCHMARKS[name], tmp_path)


@pytest.mark.parametrize("there", NAMES)
@pytest.mark.parametrize("asked", NAMES)
def test_another_data_set_is_recognised(there, asked, make_tree):
    root = make_tree(there)
    if asked == there:
        assert find_items(BENCHMARKS[asked], root)
        return
    with pytest.raises(MediaError, match="is not") as error:
        find_items(BENCHMARKS[asked], root)
    assert f"looks like {BENCHMARKS[there].title} (benchmark {there}); expected:" in str(error.value)


def test_one_folder_too_high_or_too_low_is_told(make_tree):
    root = make_tree("vimeo90k")
    for wrong in (root.parent, root / "sequences"):
        with pytest.raises(MediaError) as error:
            find_items(BENCHMARKS["vimeo90k"], wrong)
        assert f"but {root} looks like Vimeo90K triplets" in str(error.value)


def test_a_folder_of_something_else_is_told_by_its_names(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(MediaError, match=r"it holds notes\.txt; expected"):
        find_items(BENCHMARKS["ucf101"], tmp_path)


def test_missing_frames_are_counted_and_the_first_is_named(make_tree):
    root = make_tree("vimeo90k")
    gone = root / "sequences" / "00001" / "0001" / "im3.png"
    gone.unlink()
    with pytest.raises(MediaError, match="1 of 6 frames of Vimeo90K triplets are missing") as error:
        find_items(BENCHMARKS["vimeo90k"], root)
    assert str(gone) in str(error.value)


def test_a_scene_with_too_few_frames_is_told(make_tree):
    root = make_tree("x4k1000fps")
    (root / "Type1" / "TEST00" / "0007.png").unlink()
    with pytest.raises(MediaError, match=r"has 33 frames, .*TEST00 has 32"):
        find_items(BENCHMARKS["x4k1000fps"], root)


def test_an_item_that_is_listed_twice_is_told(make_tree):
    root = make_tree("vimeo90k")
    (root / "tri_testlist.txt").write_text("00001/0001\n00001/0000\n00001/0001\n")
    with pytest.raises(MediaError, match="lists 00001/0001 2 times"):
        find_items(BENCHMARKS["vimeo90k"], root)


def test_a_list_may_begin_with_a_byte_order_mark(make_tree):
    root = make_tree("vimeo90k")
    names = [item.name for item in find_items(BENCHMARKS["vimeo90k"], root)]
    (root / "tri_testlist.txt").write_text("\r\n".join(names), encoding="utf-8-sig")
    assert [item.name for item in find_items(BENCHMARKS["vimeo90k"], root)] == names


def test_a_line_without_three_paths_is_told(make_tree):
    root = make_tree("snu-film")
    (root / "eval_modes" / "test-easy.txt").write_text("a.png b.png\n")
    with pytest.raises(MediaError, match="line 1 holds 2"):
        find_items(BENCHMARKS["snu-film"], root)


def test_a_list_that_is_empty_or_missing_is_told(make_tree):
    root = make_tree("snu-film")
    (root / "eval_modes" / "test-easy.txt").write_text("\n")
    with pytest.raises(MediaError, match="no item of SNU-FILM easy"):
        find_items(BENCHMARKS["snu-film"], root)
    with pytest.raises(MediaError, match=r"cannot read the list \S*test-extreme\.txt: No such file or directory$"):
        find_items(BENCHMARKS["snu-film"], root, "extreme")


def test_unknown_subsets_and_factors_are_refused(make_tree):
    root = make_tree("snu-film")
    with pytest.raises(InvalidInputError, match="one of easy, medium, hard, extreme, got huge"):
        find_items(BENCHMARKS["snu-film"], root, "huge")
    with pytest.raises(InvalidInputError, match="must be left out, got easy"):
        find_items(BENCHMARKS["ucf101"], root, "easy")
    for factor in (3, 0):
        with pytest.raises(InvalidInputError, match=f"one of 2, 4, 8, got {factor}"):
            find_items(BENCHMARKS["snu-film"], root, "hard", factor)
    shutil.rmtree(root)
    with pytest.raises(MediaError, match="there is no folder"):
        find_items(BENCHMARKS["snu-film"], root)
