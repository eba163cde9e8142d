"""Half precision, compiled boxes and several times at once make the frames that float32 makes one by one."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import uprnet
from uprnet import Interpolator
from uprnet.network.compilation import compiled
from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.network.precision import choose_dtype, with_convolutions_in
from uprnet.network.weights import load_model


@pytest.fixture(scope="module")
def pair() -> list[np.ndarray]:
    """Two frames of a film, 160 x 96 pixels of them, in which a pig moves by up to nine pixels."""
    with av.open(str(Path(uprnet.__file__).with_name("assets") / "pig.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in islice(film.decode(video=0), 24, 29)]
    top, left = (frames[0].shape[0] - 96) // 2, (frames[0].shape[1] - 160) // 2
    return [frame[top : top + 96, left : left + 160].astype(np.float32) / 255 for frame in (frames[0], frames[-1])]


@pytest.fixture(scope="module")
def expected(pair: list[np.ndarray]) -> np.ndarray:
    return Interpolator("small", "cpu", precision="fp32")(*pair, 0.3)


def decibels(frame: np.ndarray, expected: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(frame - expected).mean()))


@pytest.mark.parametrize(("precision", "least", "most"), [("fp16", 65, 0.1), ("bf16", 30, 1.0)])
def test_half_precision_makes_nearly_the_same_frame(
    precision: Any, least: float, most: float, pair: list[np.ndarray], expected: np.ndarray
):
    frame = Interpolator("small", "cpu", precision=precision)(*pair, 0.3)
    assert frame.dtype == np.float32
    assert least < decibels(frame, expected) < 120  # and not the very same: something was computed in half precision
    # Where almost nothing lands, at corners above all, rounding decides: single pixels make those decibels.
    assert 0 < np.percentile(np.abs(frame - expected), 90) < most / 255


def test_images_flow_and_frame_stay_float32():
    network = with_convolutions_in(torch.float16, load_model("small"))
    with torch.inference_mode():
        features = [network.encode(torch.rand(1, 3, 32, 32), 2) for _ in range(2)]
        motion = network.estimate_motion(*features)
        synthesis = network.synthesize(*features, motion, 0.5)
    assert features[0].level(0).c1.dtype == features[0].level(1).c2.dtype == torch.float16
    assert features[0].level(0).image.dtype == torch.float32
    assert {flow.dtype for flow in motion.flows if flow is not None} == {torch.float32}
    assert {part.dtype for part in synthesis[:3]} == {torch.float32}


def test_masks_that_half_precision_rounds_to_nothing_leave_no_hole(pair: list[np.ndarray]):
    network = load_model("small")
    network.synthesis.head.bias[3:] = -30  # both masks are 1e-13, which fp16 takes for 0
    frame = Interpolator(network, "cpu", precision="fp16")(*pair, 0.5)
    assert np.isfinite(frame).all()
    assert decibels(frame, Interpolator(network, "cpu", precision="fp32")(*pair, 0.5)) > 40


def test_the_network_that_was_given_stays_as_it_is():
    network = load_model("small")
    Interpolator(network, "cpu", precision="bf16")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_the_choice_of_a_type(monkeypatch: pytest.MonkeyPatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose_dtype("auto", cpu) == choose_dtype("auto", torch.device("mps")) == torch.float32
    for capability, dtype in (((6, 1), torch.float32), ((7, 0), torch.float16), ((9, 0), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert choose_dtype("auto", gpu) == dtype
    for device in (cpu, gpu):
        assert choose_dtype("bf16", device) == torch.bfloat16
        assert choose_dtype("fp32", device) == torch.float32


def test_compiled_boxes_make_the_same_frames_and_serve_every_size():
    torch.manual_seed(0)
    network = with_convolutions_in(torch.bfloat16, UPRNet(ModelConfig(2)).eval())
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()  # forgets which sizes other tests have seen
    fast = compiled(network, backend=count)
    # So small that torch's convolutions on the CPU do not change course.
    for size in ((16, 24), (20, 28), (32, 24), (12, 20)):
        images = torch.rand(2, 1, 3, *size)
        with torch.inference_mode():
            result, expected = (model(*images, 0.5, num_levels=1).frame for model in (fast, network))
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert len(graphs) == 6  # for each box that of the first size, and one for all others
