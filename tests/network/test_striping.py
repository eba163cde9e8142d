"""Stripes: equal to the whole, whatever the plan, the motion and what runs the boxes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from uprnet import Interpolator, ModelConfig, UPRNet, load_model
from uprnet.engines import attach
from uprnet.network import striping
from uprnet.network.model import PyramidLevel, warp_level
from uprnet.network.ops import splat_average
from uprnet.network.striping import ENCODER_HALO, SYNTHESIS_HALO, Plan, StripedUPRNet

HEIGHT, WIDTH = 256, 64

#: Whole stripes of a tall picture whose features are not kept, and stripes of several heights with and without them.
PLANS = [Plan(None, 1), Plan(16 * WIDTH), Plan(48 * WIDTH, 1), Plan(64 * WIDTH, 2), Plan(160 * WIDTH, 3)]


@pytest.fixture(scope="module")
def small() -> UPRNet:
    return load_model("small").to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def moved(dy: int, dx: int = 3, height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """A smooth random picture, and the same moved up by ``dy`` and left by ``dx``."""
    noise = torch.rand(1, 3, 60, 20, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(noise, scale_factor=8, mode="bicubic").clamp(0, 1)
    top = max(0, -dy)
    img0 = picture[..., top : top + height, 8 : 8 + width]
    img1 = picture[..., top + dy : top + dy + height, 8 + dx : 8 + dx + width]
    first, second = (image.contiguous(memory_format=torch.channels_last) for image in (img0, img1))
    return first, second


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize(("dy", "num_levels", "skip_finest"), [(0, 3, 0), (40, 4, 0), (-36, 4, 2)])
def test_stripes_equal_the_whole(small: UPRNet, plan: Plan, dy: int, num_levels: int, skip_finest: int):
    images = moved(dy)
    with torch.inference_mode():
        whole = small(*images, 0.3, num_levels, skip_finest)
        striped = StripedUPRNet(small, plan)(*images, 0.3, num_levels, skip_finest)
    torch.testing.assert_close(striped.frame, whole.frame, rtol=0, atol=1e-5)
    for name in ("flow_01", "flow_10"):  # pixels; 40 pixels in float32 are known to 4e-6
        torch.testing.assert_close(getattr(striped, name), getattr(whole, name), rtol=0, atol=1e-4)


def test_motion_that_differs_from_row_to_row(small: UPRNet):
    """Flow of made-up motion: far, against itself, out of the picture, and not finite in places."""
    images = moved(0)
    generator = torch.Generator().manual_seed(2)
    with torch.inference_mode():
        features = [small.encode(image, 3) for image in images]
        motion = small.estimate_motion(*features)
        for level, flow in enumerate(motion.flows):
            assert flow is not None
            flow += (200 / 2**level) * (torch.rand(flow.shape, generator=generator) - 0.5)
            flow[0, 1, 3, 2], flow[0, 3, 5, 1] = torch.inf, torch.nan
        whole = small.synthesize(*features, motion, 0.5)
        network = StripedUPRNet(small, Plan(32 * WIDTH, 1))
        striped = network.synthesize(*(network.encode(image, 3) for image in images), motion, 0.5)
    for part, other in zip(whole[:5], striped[:5], strict=True):
        torch.testing.assert_close(other, part, rtol=0, atol=1e-5, equal_nan=True)


def test_each_item_of_a_batch_may_have_its_own_time(small: UPRNet):
    images = [torch.cat([image, image.flip(2), image.flip(3)]) for image in moved(20)]
    times = torch.tensor([0.1, 0.5, 0.8])
    with torch.inference_mode():
        whole = small(*images, times).frame
        for plan in (Plan(3 * 48 * WIDTH), Plan(3 * 48 * WIDTH, 1)):
            striped = StripedUPRNet(small, plan)(*images, times).frame
            torch.testing.assert_close(striped, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["numba", "ncnn", "openvino", "onnxruntime"])
def test_any_engine_may_run_the_boxes(small: UPRNet, engine: Any):
    if engine != "numba":
        pytest.importorskip(engine)
    images = moved(24)
    network = attach(small, engine)
    with torch.inference_mode():
        whole = network(*images).frame
        striped = StripedUPRNet(network, Plan(64 * WIDTH, 1))(*images).frame
    # An engine may round otherwise at other sizes; at the edge of a hole that decides whether anything arrives.
    difference = (striped - whole).abs()
    assert difference.quantile(0.999) < 1e-5
    assert difference.max() < 2e-3


def test_details_are_left_out_if_not_asked_for(small: UPRNet):
    images = moved(5)
    with torch.inference_mode():
        features = [small.encode(image) for image in images]
        motion = small.estimate_motion(*features)
        whole = small.synthesize(*features, motion, 0.5)
        network = StripedUPRNet(small, Plan(64 * WIDTH), with_details=False)
        little = network.synthesize(*features, motion, 0.5)
    torch.testing.assert_close(little.frame, whole.frame, rtol=0, atol=1e-5)
    assert [part.shape[1] for part in little[1:3]] == [0, 0]


@pytest.mark.parametrize("first", [0, 64, 4000])
def test_rows_are_splatted_as_in_the_whole_picture(first: int):
    """Positions are rounded where they are: float32 knows row 4000 to 1/4096 only."""
    height = first + 40
    generator = torch.Generator().manual_seed(3)
    source = torch.rand(1, 2, height, 9, generator=generator)
    flow = 6 * torch.rand(1, 2, height, 9, generator=generator) - 3
    whole = splat_average(source, flow)[:, :, first + 8 : first + 32]
    rows = splat_average(source[:, :, first:], flow[:, :, first:], first)[:, :, 8:32]
    assert torch.equal(rows, whole)


def test_halos_hold_all_that_the_convolutions_see():
    model = UPRNet(ModelConfig(2)).double()
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.1)  # nothing cancels
    image = torch.rand(1, 3, 192, 8, dtype=torch.float64, requires_grad=True)
    level = PyramidLevel(image, *model.encoder(image))
    for part, stride in ((level.c0, 1), (level.c1, 2), (level.c2, 4)):
        assert within_halo(part[:, :, 96 // stride : 112 // stride], image, ENCODER_HALO)
    images = [
        torch.rand(1, channels, 192, 8, dtype=torch.float64, requires_grad=True) for channels in [3] * 5 + [2] * 2
    ]
    c0, c1, c2 = (
        tuple(torch.rand(1, 2 * n, 192 // n, 8 // n, dtype=torch.float64, requires_grad=True) for _ in range(2))
        for n in (1, 2, 4)
    )
    head = model.synthesis([*images], [*c0], [*c1], [*c2])[:, :, 96:112]
    for source, stride in ((images[0], 1), (c0[0], 1), (c1[1], 2), (c2[1], 4)):
        assert within_halo(head, source, SYNTHESIS_HALO, stride)


def within_halo(output: Tensor, source: Tensor, halo: tuple[int, int], stride: int = 1) -> bool:
    """Return whether rows 96 to 111 depend on rows beyond them, and on none beyond the halo."""
    (gradient,) = torch.autograd.grad(output.sum(), source, retain_graph=True)
    rows = stride * gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    first, end = int(rows[0]), int(rows[-1]) + stride
    return 96 - halo[0] <= first < 96 and 112 < end <= 112 + halo[1]


def test_only_what_moves_into_a_stripe_is_computed_for_it():
    flow = torch.zeros(1, 2, 64, 4)
    flow[:, 1, :32] = 50  # the upper half moves down
    stripes = [range(0, 64), range(64, 192), range(192, 256)]
    needed = striping._rows_that_reach(stripes, flow, 256)
    assert needed[0] == range(0, 64)
    assert needed[1].start == 0
    assert needed[1].stop <= 208
    assert needed[2] == range(176, 256)


def test_warping_rows_equals_rows_of_the_warped_level():
    generator = torch.Generator().manual_seed(4)
    level = PyramidLevel(*(torch.rand(1, 5, 128 // n, 16 // n, generator=generator) for n in (1, 1, 2, 4)))
    flow = 8 * torch.rand(1, 2, 128, 16, generator=generator) - 4
    whole = warp_level(level, flow)
    rows = warp_level(striping._cut(level, range(32, 96)), flow[:, :, 32:96], 32)
    for part, other, stride in zip(whole, rows, (1, 1, 2, 4), strict=True):
        assert torch.equal(other[:, :, 16 // stride : 48 // stride], part[:, :, 48 // stride : 80 // stride])


def pictures(channels: int = 3) -> tuple[Any, Any]:
    """A picture of an odd size, and the same moved up by 30 and left by 7 pixels."""
    y, x = np.mgrid[0:240, 0:120]
    planes = [np.sin(x / (5 + c) + y / 17) * np.cos(y / (7 + c)) for c in range(channels)]
    picture = (127 + 120 * np.stack(planes, axis=-1)).astype(np.float32) / 255
    return picture[:201, :93], picture[30:231, 7:100]


@pytest.mark.parametrize("channels", [3, 4])
def test_the_interpolator_makes_the_same_within_any_limit(monkeypatch: pytest.MonkeyPatch, channels: int):
    images = pictures(channels)
    times = [0.25, 0.5, 1.0]
    whole = Interpolator("small", "cpu", memory="1TiB").between(*images, times)
    for plan in (Plan(64 * 96), Plan(64 * 96, 1), Plan(None, 1)):
        monkeypatch.setattr("uprnet.interpolate.choose_plan", lambda *_, plan=plan: plan)
        striped = Interpolator("small", "cpu").between(*images, times)
        for frame, other in zip(whole, striped, strict=True):
            assert frame.shape == (201, 93, channels)
            # Alpha is divided by the weight that reaches a pixel, which may be small.
            np.testing.assert_allclose(other, frame, rtol=0, atol=2e-5)


def test_features_that_are_kept_serve_the_next_pair(monkeypatch: pytest.MonkeyPatch):
    """In stripes, too, levels that are kept are encoded once a frame; the next pair gives the same frames."""
    monkeypatch.setattr("uprnet.interpolate.choose_plan", lambda *_: Plan(64 * 96, 1))
    frames = [picture for pair in (pictures(), pictures()[::-1]) for picture in pair][:3]
    together = Interpolator("small", "cpu")
    for img0, img1 in pairwise(frames):
        alone = Interpolator("small", "cpu")
        assert np.array_equal(together(img0, img1), alone(img0, img1))
