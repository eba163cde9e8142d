"""What the Interpolator does on a GPU, forced on the CPU; and the command that users with a GPU run."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uprnet import Interpolator, interpolate
from uprnet.errors import MissingDependencyError
from uprnet.network.compilation import compiled
from uprnet.network.ops import use_backend
from uprnet.network.striping import Plan

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def clip(channels: int = 3, count: int = 2) -> list[np.ndarray]:
    """A picture with soft edges that moves two pixels a frame."""
    y, x = np.mgrid[0:40, 0:64]
    planes = [128 + 100 * np.sin((x + channel) / 5) * np.cos(y / 6) for channel in range(channels)]
    picture = np.stack(planes, axis=-1).round().astype(np.uint8)
    return [np.roll(picture, 2 * index, axis=1) for index in range(count)]


@pytest.fixture
def several() -> Interpolator:
    """An Interpolator that makes up to three frames of 40x64 at once, as one on a GPU makes more."""
    interpolator = Interpolator("small", "cpu", memory="1GiB")  # by default there are stripes on the CPU
    interpolator._pixels_at_once = 3 * 40 * 64
    return interpolator


@pytest.mark.parametrize("channels", [3, 4])
def test_several_times_at_once_equal_single_times(several: Interpolator, channels: int):
    pair = clip(channels)
    times = [0.2, 0, 0.4, 0.5, 0.6, 1, 0.8]
    single = Interpolator("small", "cpu")
    for frame, t in zip(several.between(*pair, times), times, strict=True):
        assert np.abs(frame.astype(int) - single(*pair, t)).max() <= 1  # sums in another order, rounded to 8 bit


def test_several_times_at_once_are_one_synthesis(several: Interpolator, monkeypatch: pytest.MonkeyPatch):
    batches: list[int] = []
    synthesize = several.model.synthesize

    def count(*arguments: Any) -> Any:
        synthesis = synthesize(*arguments)
        batches.append(len(synthesis.frame))
        return synthesis

    monkeypatch.setattr(several.model, "synthesize", count)
    several.between(*clip(), [i / 8 for i in range(1, 8)])
    assert batches == [3, 3, 1]


def test_fewer_times_are_taken_at_once_where_memory_is_short(several: Interpolator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interpolate, "choose_plan", lambda work, *_: Plan() if work.batch == 1 else Plan(pixels=1024))
    pair = several.pair(*clip())
    assert pair._times_at_once() == 1
    assert np.array_equal(pair.frames([0.25, 0.5])[1], Interpolator("small", "cpu")(*clip()))


def test_batches_of_images_are_made_one_time_after_the_other(several: Interpolator):
    img0, img1 = (torch.from_numpy(image).permute(2, 0, 1)[None].repeat(2, 1, 1, 1) for image in clip())
    frames = several.between(img0, img1, [0.25, 0.5])
    assert [frame.shape for frame in frames] == [(2, 3, 40, 64)] * 2
    assert torch.equal(frames[0][0], frames[0][1])


def test_compiled_networks_make_the_same_frames(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(interpolate, "compiled", lambda network: asked.append(1) or compiled(network, backend="eager"))
    fast, plain = (Interpolator("small", "cpu", compile=is_compiled, num_levels=1) for is_compiled in (True, False))
    assert len(asked) == 1
    for pair in pairwise(clip(count=3)):
        assert np.abs(fast(*pair).astype(int) - plain(*pair)).max() <= 1


def test_a_compiler_that_fails_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> Any:
        raise RuntimeError("no compiler\nin many words")

    monkeypatch.setattr(interpolate, "compiled", lambda network: compiled(network, backend=fail))
    with pytest.raises(MissingDependencyError, match=r"torch\.compile does not work here, leave it out: .*no compiler"):
        Interpolator("small", "cpu", compile=True, num_levels=1)(*clip())


def test_devices_without_kernels_make_the_same_frames():
    with use_backend("torch"):  # as on Apple's and Intel's GPUs
        frame = Interpolator("small", "cpu")(*clip())
    assert np.abs(frame.astype(int) - Interpolator("small", "cpu")(*clip())).max() <= 1


def run_benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(BENCHMARK), *options], capture_output=True, text=True, check=False)


def test_the_checks_fail_where_a_gradient_is_no_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    import gpu

    cpu, true_gradients, calls = torch.device("cpu"), torch.autograd.grad, []

    def grad(*arguments: Any) -> tuple[torch.Tensor, ...]:
        calls.append(arguments)
        first, second = true_gradients(*arguments)
        return first, torch.full_like(second, math.nan) if len(calls) % 2 == 0 else second

    def check() -> list[gpu.Check]:
        found = gpu.check_operator(gpu.splat_average, (1, 3, 5, 7), torch.float32, 1e-4, cpu)
        return [*found, gpu.check_nowhere(cpu)]

    assert all(check.is_passed for check in check())
    monkeypatch.setattr(torch.autograd, "grad", grad)
    assert [check.is_passed for check in check()] == [True, False, True, True]
    assert not gpu.check_nowhere(cpu).is_passed


@pytest.mark.skipif(torch.cuda.is_available(), reason="takes minutes on a GPU")
def test_the_benchmark_says_in_one_line_that_there_is_no_gpu():
    done = run_benchmark()
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert "no GPU" in done.stdout


@pytest.mark.slow
def test_the_benchmark_checks_the_kernels_without_a_gpu():
    pytest.importorskip("triton")
    done = run_benchmark("--interpret")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "62 of 62 checks passed" in done.stdout
