"""Whole benchmarks on small trees, with the numbers made again by other means."""

import csv
import json
import math
import os
import shutil
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from uprnet.errors import InvalidInputError, MediaError, OutputExistsError
from uprnet.evaluation.benchmark import BenchmarkOptions, run_benchmark, save_worst
from uprnet.evaluation.commands import data_set
from uprnet.evaluation.layouts import BENCHMARKS
from uprnet.evaluation.loop import FrameResult
from uprnet.evaluation.report import Report, ResultsFolder, short_name, tables
from uprnet.media.images import read_image, write_image
from uprnet.network.weights import load_model, weights_path
from uprnet.options import NetworkOptions

LEVELS = {
    "triplets": (1, 0),  # the rule: ceil(log2(96 / 448) + 3)
    "vimeo90k": (3, 0),
    "septuplet": (3, 0),
    "ucf101": (3, 0),
    "snu-film": (5, 0),
    "x4k1000fps": (7, 2),
}
OURS, FLIPPED = "uprnet", "uprnet, flips"


@pytest.fixture(scope="module")
def model():
    return load_model("small")


def options_for(name, root, **changes):
    return BenchmarkOptions(name, root, network=NetworkOptions(model="small", device="cpu"), **changes)


def load(path):
    return cv2.imread(str(path))[..., ::-1]


def predict(model, img0, img1, t, num_levels, skip_finest):
    """The protocol once more, with numpy and the bare network."""
    multiple = 2 ** (num_levels + 1)
    height, width = img0.shape[:2]
    margins = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    first, second = (
        torch.from_numpy(np.pad(np.float32(img) / 255, margins, constant_values=0.5)).permute(2, 0, 1)[None]
        for img in (img0, img1)
    )
    with torch.no_grad():
        frame = model(first, second, float(t), num_levels, skip_finest).frame
    return frame[0].permute(1, 2, 0).double().numpy()[:height, :width]


def volumetric_ssim(x, y):
    def blur(volume):
        return gaussian_filter(volume, 1.5, mode="nearest", radius=5)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    return ((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean()


def expected_scores(model, name, item_paths):
    """Scores of one item from its files: the inputs, then the targets with their times."""
    first, second, targets = item_paths
    img0, img1 = load(first), load(second)
    for path, t in targets:
        frame, target = predict(model, img0, img1, t, *LEVELS[name]), load(path)
        rounded = np.rint(frame * 255).astype(np.uint8)
        yield {
            "psnr": peak_signal_noise_ratio(target / 255, frame, data_range=1),
            "psnr_rounded": peak_signal_noise_ratio(target, rounded, data_range=255),
            "ssim": volumetric_ssim(frame, target / 255),
            "error": np.abs(rounded.astype(float) - target).mean(),
        }


PATHS = {
    "triplets": ("bear_0000", "im1.png", "im3.png", [("im2.png", 1 / 2)]),
    "vimeo90k": ("sequences/00001/0000", "im1.png", "im3.png", [("im2.png", 1 / 2)]),
    "septuplet": ("sequences/00001/0000", "im1.png", "im7.png", [(f"im{k + 1}.png", k / 6) for k in range(1, 6)]),
    "ucf101": ("1", "frame_00.png", "frame_02.png", [("frame_01_gt.png", 1 / 2)]),
    "snu-film": ("test/GOPRO_test/clip0", "000000.png", "000002.png", [("000001.png", 1 / 2)]),
    "x4k1000fps": ("Type1/TEST00", "0000.png", "0032.png", [(f"{4 * k:04d}.png", k / 8) for k in range(1, 8)]),
}


@pytest.mark.parametrize("name", PATHS)
def test_numbers_are_those_of_numpy_skimage_and_the_bare_network(name, make_tree, model):
    root = make_tree(name)
    seen = []
    report = run_benchmark(options_for(name, root), seen.append)
    folder, first, second, targets = PATHS[name]
    paths = root / folder / first, root / folder / second, [(root / folder / file, t) for file, t in targets]
    expected = list(expected_scores(model, name, paths))
    assert [(progress.done, progress.total) for progress in seen] == [(1, 2), (2, 2)]
    assert len(report.results) == 2 * len(expected)
    for result, scores in zip(report.results, expected, strict=False):
        assert result.scores["psnr"] == pytest.approx(scores["psnr"], abs=1e-3)
        assert result.scores["psnr_rounded"] == pytest.approx(scores["psnr_rounded"], abs=5e-3)
        assert result.scores["ssim"] == pytest.approx(scores["ssim"], abs=1e-5)
        assert result.scores["error"] == pytest.approx(scores["error"], abs=2e-3)
    mean = report.means()[0]
    assert mean.scores["psnr"] == pytest.approx(np.mean([r.scores["psnr"] for r in report.results]))
    assert seen[-1].mean_psnr == pytest.approx(mean.scores["psnr"])


def test_half_size_is_averaged_before_all_else(make_tree, model, frames):
    root = make_tree("x4k1000fps")
    report = run_benchmark(options_for("x4k1000fps", root, subset="2k", factor=2, limit=1))
    img0, target, img1 = (
        frames[index].reshape(32, 2, 48, 2, 3).astype(float).mean(axis=(1, 3)).round() for index in (32, 16, 0)
    )
    frame = predict(model, img0, img1, 0.5, 1, 0)
    assert report.results[0].scores["psnr"] == pytest.approx(peak_signal_noise_ratio(target / 255, frame), abs=0.05)


def test_flips_are_a_row_of_their_own(make_tree, model):
    root = make_tree("vimeo90k")
    plain = run_benchmark(options_for("vimeo90k", root))
    both = run_benchmark(options_for("vimeo90k", root, tta=True))
    assert [mean.method for mean in both.means()] == [OURS, FLIPPED]
    assert both.means()[0].scores == pytest.approx(plain.means()[0].scores, abs=1e-9)
    folder = root / "sequences" / "00001" / "0000"
    img0, target, img1 = (load(folder / f"im{k}.png") for k in (1, 2, 3))
    turned = predict(model, img0[::-1, ::-1], img1[::-1, ::-1], 0.5, 3, 0)[::-1, ::-1]
    mean = (predict(model, img0, img1, 0.5, 3, 0) + turned) / 2
    first = next(r for r in both.results if r.method == FLIPPED)
    assert first.scores["psnr"] == pytest.approx(peak_signal_noise_ratio(target / 255, mean), abs=1e-3)


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_and_threads_change_nothing(workers, make_tree):
    root = make_tree("septuplet")
    one = run_benchmark(options_for("septuplet", root))
    two = run_benchmark(options_for("septuplet", root, batch_size=2, num_workers=workers))
    assert [(r.item, r.t) for r in two.results] == [(r.item, r.t) for r in one.results]
    for first, second in zip(one.results, two.results, strict=True):
        assert second.scores == pytest.approx(first.scores, abs=1e-3)


def test_items_of_different_size_share_no_batch(make_tree):
    root = make_tree("triplets")
    for path in (root / "bear_0010").glob("*.png"):
        write_image(path, read_image(path).pixels[:48], overwrite=True)
    report = run_benchmark(options_for("triplets", root, batch_size=4))
    assert [r.item for r in report.results] == ["bear_0000", "bear_0010"]


def test_a_stopped_benchmark_goes_on_where_it_was(make_tree, tmp_path):
    root, kept = make_tree("triplets"), tmp_path / "results"
    options = options_for("triplets", root, results=kept)
    run_benchmark(replace(options, limit=1))
    stamps = {path: path.stat().st_mtime_ns for path in kept.glob("item-*.json")}
    assert len(stamps) == 1
    report = run_benchmark(options)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert report.results == run_benchmark(replace(options, results=None)).results


def test_an_interrupted_benchmark_says_what_is_kept(make_tree, tmp_path):
    class TerminatedError(KeyboardInterrupt):
        pass

    def stop(_):
        raise TerminatedError

    options = options_for("triplets", make_tree("triplets"), results=tmp_path / "kept")
    with pytest.raises(TerminatedError, match=r"1 of 2 items are kept in .*kept; run the same command to go on"):
        run_benchmark(options, stop)
    with pytest.raises(TerminatedError, match=r"^$"):
        run_benchmark(replace(options, results=None), stop)


def test_kept_results_of_other_settings_are_refused(make_tree, tmp_path):
    root, kept = make_tree("triplets"), tmp_path / "results"
    run_benchmark(options_for("triplets", root, results=kept, limit=1))
    with pytest.raises(InvalidInputError, match="holds results with tta = False, now it is True"):
        run_benchmark(options_for("triplets", root, results=kept, tta=True))


def test_kept_results_are_those_of_the_weights_and_not_of_their_name(make_tree, tmp_path):
    root, copy = make_tree("triplets"), tmp_path / "renamed.safetensors"
    copy.write_bytes(weights_path("small").read_bytes())
    options = options_for("triplets", root, results=tmp_path / "results")
    first = run_benchmark(options)
    again = run_benchmark(replace(options, network=replace(options.network, model=str(copy))))
    assert again.results == first.results
    assert (first.settings["model"], again.settings["model"]) == ("small", str(copy))
    shutil.copyfile(weights_path("base"), copy)
    with pytest.raises(InvalidInputError, match="holds results with weights_sha256"):
        run_benchmark(replace(options, network=replace(options.network, model=str(copy))))


def test_settings_tell_what_really_ran(make_tree):
    report = run_benchmark(options_for("triplets", make_tree("triplets"), limit=1))
    ran = {"device": "cpu", "engine": "numba", "precision": "float32", "compile": False, "limit": 1}
    assert {name: report.settings[name] for name in ran} == ran


def test_a_folder_of_other_json_is_not_taken_for_results(make_tree, tmp_path):
    kept = tmp_path / "results"
    kept.mkdir()
    (kept / "mine.json").write_text("{}")
    with pytest.raises(MediaError, match="is no folder of results"):
        run_benchmark(options_for("triplets", make_tree("triplets"), results=kept))


@pytest.mark.parametrize("damage", ["[{", "[]", "{}", "1", '["x"]', '[{"scores": []}]'])
def test_a_damaged_result_is_told(damage, tmp_path):
    folder = ResultsFolder(tmp_path, {})
    folder.write("one", [FrameResult("one", "", Fraction(1, 2), OURS, {"psnr": 30.0})])
    next(tmp_path.glob("item-*.json")).write_text(damage)
    with pytest.raises(MediaError, match="remove it"):
        folder.read("one")


@pytest.mark.parametrize("damage", ["{", "[1]", "1"])
def test_damaged_settings_are_told(damage, tmp_path):
    ResultsFolder(tmp_path, {})
    (tmp_path / "settings.json").write_text(damage)
    with pytest.raises(MediaError, match="is damaged; give another folder"):
        ResultsFolder(tmp_path, {})


def test_worst_frames_are_drawn_worst_first(make_tree, tmp_path):
    options = options_for("septuplet", make_tree("septuplet"))
    report = run_benchmark(options)
    save_worst(report, options, 3, tmp_path / "worst")
    files = sorted((tmp_path / "worst").iterdir())
    lowest = sorted(r.scores["psnr"] for r in report.results)[:3]
    assert [path.stem.rpartition("-")[2] for path in files] == [f"{psnr:.2f}dB" for psnr in lowest]
    assert read_image(files[0]).pixels.shape == (2 * (64 + 24), 3 * 96, 3)
    with pytest.raises(OutputExistsError):
        save_worst(report, options, 3, tmp_path / "worst")
    mine = [tmp_path / "worst" / name for name in ("01-mine.png", "notes.txt")]
    for path in mine:
        path.write_text("mine")
    save_worst(report, options, 1, tmp_path / "worst", overwrite=True)
    assert sorted((tmp_path / "worst").iterdir()) == sorted([files[0], *mine])


def test_where_sheets_go_is_checked_before_the_benchmark(make_tree, tmp_path, monkeypatch):
    root = make_tree("triplets")
    monkeypatch.setattr("uprnet.evaluation.commands.run_benchmark", None)  # it is not to be called
    with pytest.raises(InvalidInputError, match="at least 1, got 0"):
        data_set("triplets", root, save_worst=(0, tmp_path / "worst"))
    with pytest.raises(OutputExistsError, match="is not empty"):
        data_set("triplets", root, save_worst=(1, root))
    with pytest.raises(MediaError, match="does not exist"):
        data_set("triplets", root, save_worst=(1, tmp_path / "nowhere" / "worst"))


def test_files_hold_every_frame(make_tree, tmp_path):
    report = run_benchmark(options_for("septuplet", make_tree("septuplet"), tta=True))
    report.write_json(tmp_path / "a.json")
    report.write_csv(tmp_path / "a.csv")
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["means"][0]["scores"]["psnr"] == report.means()[0].scores["psnr"]
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert len(rows) == len(found["results"]) == len(report.results) == 20
    assert [Fraction(row["t"]) for row in rows[::2]] == [Fraction(k, 6) for k in range(1, 6)] * 2
    assert float(rows[0]["psnr"]) == report.results[0].scores["psnr"]
    with pytest.raises(OutputExistsError):
        report.write_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9_0000"), 40 * "\N{HIRAGANA LETTER A}" + "_0000"])
def test_items_have_any_name(name, make_tree, tmp_path):
    root = make_tree("triplets")
    try:
        (root / "bear_0000").rename(root / name)
    except OSError:
        pytest.skip("the file system takes no such name")
    options = options_for("triplets", root, results=tmp_path / "kept")
    report = run_benchmark(options)
    assert run_benchmark(options).results == report.results
    report.write_json(tmp_path / "a.json")
    assert name in {result["item"] for result in json.loads((tmp_path / "a.json").read_text())["results"]}
    report.write_csv(tmp_path / "a.csv")
    assert name in (tmp_path / "a.csv").read_text(encoding="utf-8", errors="surrogateescape")
    save_worst(report, options, 2, tmp_path / "worst")
    assert len(list((tmp_path / "worst").iterdir())) == 2


def test_long_names_that_begin_alike_stay_apart():
    assert len({short_name(300 * "a" + end) for end in "bc"}) == 2


def test_an_exact_frame_is_counted_and_left_out_of_the_mean():
    exact, nearly, far = (math.inf, math.inf, 1.0), (40.0, math.inf, 0.9), (30.0, 29.0, 0.5)
    scores = [dict(zip(("psnr", "psnr_rounded", "ssim"), values, strict=True)) for values in (far, exact, nearly)]
    results = tuple(FrameResult(str(n), "", Fraction(1, 2), OURS, values) for n, values in enumerate(scores))
    (mean,) = Report("some", {}, results).means()
    assert mean.worst_psnr == 30
    assert mean.frames == 3
    assert mean.exact == {"psnr": 1, "psnr_rounded": 2, "ssim": 0}
    assert mean.scores == {"psnr": 35.0, "psnr_rounded": 29.0, "ssim": pytest.approx(0.8)}
    table = tables(Report("some", {}, results))[0]
    shown = [cell for column in table.columns[2:5] for cell in column.cells]
    assert shown == ["35.00 (1 exact)", "29.00 (2 exact)", "0.8000"]
    assert "not in its mean" in table.caption
    found = json.loads(json.dumps(Report("some", {}, results).as_dict(), allow_nan=False))
    assert found["results"][1]["scores"]["psnr"] is None


@pytest.fixture
def two_items_are_all(monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "ucf101", replace(BENCHMARKS["ucf101"], count=2))


@pytest.mark.usefixtures("two_items_are_all")
def test_the_table_has_the_difference_to_the_paper(make_tree, caplog):
    report = replace(run_benchmark(options_for("ucf101", make_tree("ucf101"))), size="base")
    assert caplog.messages == []
    labels, psnrs = (list(column.cells) for column in (tables(report)[0].columns[0], tables(report)[0].columns[2]))
    assert labels == [OURS, "paper, base", "paper, large", "paper, xlarge", "difference to it"]
    assert psnrs[1:4] == ["35.41", "35.43", "35.47"]
    assert float(psnrs[4]) == pytest.approx(report.means()[0].scores["psnr"] - 35.41, abs=0.006)


def test_an_incomplete_data_set_is_told_and_not_compared_with_the_paper(make_tree, caplog):
    report = replace(run_benchmark(options_for("ucf101", make_tree("ucf101"))), size="base")
    assert list(tables(report)[0].columns[0].cells) == [OURS, "paper, base", "paper, large", "paper, xlarge"]
    assert caplog.messages == ["2 of 379 items; not comparable with the paper"]


@pytest.mark.usefixtures("two_items_are_all")
def test_a_part_of_a_data_set_is_not_compared_with_the_paper(make_tree):
    report = replace(run_benchmark(options_for("ucf101", make_tree("ucf101"), limit=1)), size="base")
    assert list(tables(report)[0].columns[0].cells) == [OURS, "paper, base", "paper, large", "paper, xlarge"]
    assert report.as_dict()["is_whole"] is False


def test_frames_of_unequal_size_are_told(make_tree):
    root = make_tree("vimeo90k")
    path = root / "sequences" / "00001" / "0001" / "im2.png"
    write_image(path, read_image(path).pixels[:60], overwrite=True)
    with pytest.raises(InvalidInputError, match=r"00001/0001 must have one size, got \(64, 96\) .* \(60, 96\) in im2"):
        run_benchmark(options_for("vimeo90k", root))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_png_is_told_by_its_name(workers, make_tree):
    root = make_tree("vimeo90k")
    path = root / "sequences" / "00001" / "0001" / "im2.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(MediaError, match=r"0001/im2\.png is not a readable image"):
        run_benchmark(options_for("vimeo90k", root, num_workers=workers))


def test_frames_of_floats_are_told(make_tree):
    root = make_tree("snu-film")
    write_image(root / "frame.exr", np.zeros((64, 96, 3), np.float32))
    (root / "eval_modes" / "test-easy.txt").write_text("frame.exr frame.exr frame.exr\n")
    with pytest.raises(MediaError, match=r"frame\.exr has float32 samples; a benchmark needs images of 8 or 16 bits"):
        run_benchmark(options_for("snu-film", root))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "vimeo"}, "the benchmark must be one of triplets, .* got vimeo"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused(changes, text, make_tree):
    with pytest.raises(InvalidInputError, match=text):
        run_benchmark(replace(options_for("triplets", make_tree("triplets")), **changes))
