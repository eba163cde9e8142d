"""Recorded steps, with a recorder that needs no GPU: it runs the function again into the same results."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from uprnet import Interpolator
from uprnet.network import graphs
from uprnet.network.graphs import Graphed


class Recorder:
    """Replays as a CUDA graph does: from fixed inputs into fixed results, whatever the caller passes."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        results = function(*arguments)

        def replay() -> None:
            self.replayed += 1
            for fixed, new in zip(tree_leaves(results), tree_leaves(function(*arguments)), strict=True):
                if isinstance(fixed, Tensor):
                    fixed.copy_(new)

        return replay, results


@pytest.fixture(autouse=True)
def inference() -> Any:
    with torch.inference_mode():
        yield


def double(tensor: Tensor) -> list[Tensor | None]:
    return [2 * tensor, None]


def test_a_size_is_recorded_when_it_comes_again():
    recorder = Recorder()
    graphed = Graphed(double, recorder)
    results = [graphed(torch.full((2, 3), float(value)))[0] for value in range(4)]
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    assert [result.unique().tolist() for result in results] == [[0], [2], [4], [6]]  # none overwrote an earlier one


def test_what_runs_first_is_laid_out_as_what_is_recorded():
    """Code that was compiled for an expanded tensor would be compiled again while the device records."""
    strides = []
    graphed = Graphed(lambda tensor: strides.append(tensor.stride()) or tensor + 1, Recorder())
    for _ in range(2):
        graphed(torch.zeros(1, 2).expand(3, 2))
    assert set(strides) == {(2, 1)}


def test_numbers_with_a_point_do_not_make_another_recording():
    recorder = Recorder()
    graphed = Graphed(lambda tensor, t: t * tensor, recorder)
    assert [float(graphed(torch.ones(()), t)) for t in (0.25, 0.5, 0.75)] == [0.25, 0.5, 0.75]
    assert recorder.recorded == 1


def test_type_shape_layout_and_settings_make_another_recording():
    recorder = Recorder()
    graphed = Graphed(lambda tensor, levels: tensor + levels, recorder, limit=10)
    square = torch.zeros(1, 2, 4, 4)
    calls = [(square, 1), (square.double(), 1), (square[..., :2], 1), (square, 2)]
    calls.append((square.contiguous(memory_format=torch.channels_last), 1))
    for call in calls * 2:
        graphed(*call)
    assert recorder.recorded == len(calls)


def test_the_number_of_recordings_is_bounded_and_the_oldest_goes():
    recorder = Recorder()
    graphed = Graphed(double, recorder, limit=2)
    small, middle, large = (torch.zeros(size) for size in (1, 2, 3))
    for tensor in (small, small, middle, middle, small, large, large):  # large drops middle
        graphed(tensor)
    assert recorder.recorded == 3
    graphed(small)
    assert recorder.recorded == 3
    graphed(middle)
    graphed(middle)
    assert recorder.recorded == 4


def test_a_device_that_cannot_record_goes_on_and_says_so_once(caplog: pytest.LogCaptureFixture):
    def fail(*_: Any) -> Any:
        raise RuntimeError("operation not permitted\nmore")

    graphed = Graphed(double, fail)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            assert graphed(torch.ones(2))[0].tolist() == [2, 2]
    assert caplog.messages == ["no CUDA graphs here, which costs speed: operation not permitted"]


def test_gradients_pass_because_nothing_is_recorded():
    recorder = Recorder()
    graphed = Graphed(double, recorder)
    with torch.inference_mode(mode=False):
        leaf = torch.ones(2, requires_grad=True)
        for _ in range(3):
            graphed(leaf)[0].sum().backward()
    assert recorder.recorded == 0
    assert leaf.grad.tolist() == [6, 6]


def test_frames_come_out_the_same(monkeypatch: pytest.MonkeyPatch):
    recorder = Recorder()
    monkeypatch.setattr(graphs, "CudaCapture", lambda _device: recorder)
    # With memory to spare, as on a GPU: what is cut into stripes is not recorded.
    plain, interpolator = (Interpolator("small", "cpu", memory="1GiB") for _ in range(2))
    graphs.use_graphs(interpolator.model, interpolator.device)
    clip = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), dtype=np.uint8)
    for pair in pairwise(clip):
        frames, expected = interpolator.between(*pair, [0.25, 0.5]), plain.between(*pair, [0.25, 0.5])
        assert np.array_equal(frames, expected)
    assert recorder.recorded == 3  # encoding, motion, synthesis
    assert recorder.replayed >= 8
