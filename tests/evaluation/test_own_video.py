"""The benchmark on videos: which pairs are measured, and what numbers come out."""

import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from uprnet import Interpolator
from uprnet.errors import InvalidInputError, MediaError, MissingDependencyError, OutputExistsError
from uprnet.evaluation.baselines import has_minterpolate
from uprnet.evaluation.commands import video
from uprnet.evaluation.loop import FrameResult
from uprnet.evaluation.own_video import CUTS, ENDS, STILL, VideoBenchmarkOptions, run_video_benchmark
from uprnet.evaluation.plot import curve, plot_over_time
from uprnet.evaluation.report import Report
from uprnet.media.images import read_image
from uprnet.options import NetworkOptions

EARLY = Fraction(1, 8)
CARS = Path(__file__).parent.parent / "data" / "cars.h264"


@pytest.fixture
def write_video(tmp_path):
    """Return a function that writes frames to a video without loss."""

    def write(name, images, stamps=None):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "bgr0"
            stream.codec_context.time_base = Fraction(1, 25)
            for stamp, image in zip(stamps or range(len(images)), images, strict=True):
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="bgr0")
                frame.pts, frame.time_base = stamp, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


def options_for(*clips, **changes):
    return VideoBenchmarkOptions(clips, network=NetworkOptions(model="small", device="cpu"), **changes)


def scores_of(report, method):
    return [r.scores["psnr"] for r in report.results if r.method == method]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_numbers_are_those_of_numpy(factor, write_video, frames):
    report = run_video_benchmark(options_for(write_video("bear.mkv", frames), factor=factor, limit=2))
    expected = {"uprnet": [], "repeat": [], "blend": []}
    interpolator = Interpolator("small", "cpu")
    for start in (0, factor):
        img0, img1 = (frames[start + k].astype(np.float32) / 255 for k in (0, factor))
        for k in range(1, factor):
            target, t = frames[start + k] / 255, k / factor
            made = {
                "uprnet": interpolator(img0, img1, t),
                "repeat": img0 if t <= 0.5 else img1,
                "blend": (1 - t) * img0 + t * img1,
            }
            for method, frame in made.items():
                expected[method].append(peak_signal_noise_ratio(target, frame.astype(float), data_range=1))
    for method, values in expected.items():
        assert scores_of(report, method) == pytest.approx(values, abs=1e-3)
    others = {"DIS flow", *(["minterpolate"] if has_minterpolate() else [])}
    assert {mean.method for mean in report.means()} == {*expected, *others}
    assert all(len(scores_of(report, method)) == 2 * (factor - 1) for method in others)
    assert sorted({r.t for r in report.results}) == [Fraction(k, factor) for k in range(1, factor)]


def test_cuts_and_still_pairs_are_left_out_and_counted(write_video, frames):
    other = [255 - image for image in frames[12:17]]
    images = [*frames[:6], frames[5], *frames[7:9], *other]  # 9 frames with a repetition, then another scene
    seen = []
    report = run_video_benchmark(options_for(write_video("two.mkv", images)), seen.append)
    assert report.left_out[CUTS] == report.left_out[STILL] == 1
    pairs = {int(r.item.rpartition("/")[2]) for r in report.results}
    ended = report.left_out.get(ENDS, 0)
    assert ended == (1 if has_minterpolate() else 0)
    assert pairs == {0, 2, 6, *([] if ended else [10])}
    assert [progress.done for progress in seen] == [*range(1, len(pairs) + 1), len(pairs)]
    assert [progress.total for progress in seen] == [6] * len(pairs) + [len(pairs)]


def test_minterpolate_may_be_left_out(write_video, frames):
    report = run_video_benchmark(options_for(write_video("a.mkv", frames[:5]), minterpolate=False))
    assert {mean.method for mean in report.means()} == {"uprnet", "repeat", "blend", "DIS flow"}
    assert len(scores_of(report, "uprnet")) == 2
    assert report.left_out == {}


def test_minterpolate_is_left_out_where_frames_are_smaller_than_its_blocks(write_video, frames):
    report = run_video_benchmark(options_for(write_video("a.mkv", [image[:31] for image in frames[:5]])))
    assert {mean.method for mean in report.means()} == {"uprnet", "repeat", "blend", "DIS flow"}
    assert len(scores_of(report, "uprnet")) == 2


def test_times_are_those_of_the_video(write_video, frames):
    path = write_video("uneven.mkv", frames[:5], [0, 1, 4, 6, 8])
    report = run_video_benchmark(options_for(path, minterpolate=False))
    assert [r.t for r in report.results if r.method == "uprnet"] == [
        pytest.approx(Fraction(1, 4), abs=0.01),
        pytest.approx(Fraction(1, 2), abs=0.01),
    ]


def test_several_clips_are_groups_and_sizes_may_be_shrunk(write_video, frames):
    clips = write_video("a.mkv", frames[:7]), CARS
    report = run_video_benchmark(options_for(*clips, limit=1, longer_side=64))
    assert {mean.part for mean in report.by_group()} == {"a", "cars"}
    assert all(np.isfinite(r.scores["psnr"]) for r in report.results)
    ran = {"device": "cpu", "engine": "numba", "precision": "float32", "compile": False, "limit": 1, "longer_side": 64}
    assert {name: report.settings[name] for name in ran} == ran
    assert len(report.settings["weights_sha256"]) == 64


def test_a_plot_has_every_frame_and_breaks_where_frames_were_left_out(write_video, frames, tmp_path):
    pytest.importorskip("matplotlib")
    images = [*frames[:4], frames[3], *frames[5:11]]
    report = run_video_benchmark(options_for(write_video("a.mkv", images), minterpolate=False))
    numbers, values = curve(report, "a", "uprnet")
    shown = [number for number, value in zip(numbers, values, strict=True) if not np.isnan(value)]
    assert shown == [1, 5, 7, 9]  # frame 3 is shown twice, in the pair that begins with frame 2 or 4
    assert np.isnan(values).sum() == 1
    plot_over_time(report, "a", tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").pixels.shape[:2] == (450, 1100)
    with pytest.raises(OutputExistsError):
        plot_over_time(report, "a", tmp_path / "a.png")


def test_outputs_are_checked_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("uprnet.evaluation.commands.run_video_benchmark", None)  # it is not to be called
    with pytest.raises(InvalidInputError, match=r"a file of its own, got \S*a\.txt twice"):
        video([CARS], json=tmp_path / "a.txt", csv=tmp_path / "a.txt")
    monkeypatch.setitem(sys.modules, "matplotlib", SimpleNamespace())
    (tmp_path / "cars.png").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"cars\.png already exists"):
        video([CARS], plots=tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'uprnet\[eval\]'"):
        video([CARS], plots=tmp_path)


def test_a_curve_is_whole_where_times_are_uneven():
    scores = {"psnr": 30.0}
    results = [FrameResult(f"a/{start:06d}", "a", t, "uprnet", scores) for start, t in ((0, EARLY), (2, 1 - EARLY))]
    assert curve(Report("a", {"factor": 2}, tuple(results)), "a", "uprnet") == ([0.25, 3.75], [30.0, 30.0])


def test_a_clip_without_a_whole_pair_is_told(write_video, frames):
    with pytest.raises(InvalidInputError, match="no pair of frames is left to measure at factor 8"):
        run_video_benchmark(options_for(write_video("a.mkv", frames[:5]), factor=8))


def test_a_file_that_is_no_video_is_told(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(MediaError, match="is not a readable video"):
        run_video_benchmark(options_for(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"factor": 3}, "factor must be one of 2, 4, 8, got 3"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"longer_side": 8}, "longer_side must be at least 32"),
        ({"clips": ()}, "got none"),
        ({"clips": (CARS, CARS)}, "got two named cars"),
    ],
)
def test_options_out_of_range_are_refused(changes, text):
    values = {"clips": (CARS,), "network": NetworkOptions(model="small", device="cpu"), **changes}
    with pytest.raises(InvalidInputError, match=text):
        run_video_benchmark(VideoBenchmarkOptions(**values))
