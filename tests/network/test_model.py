"""The network: equal to the reference, and what its parts promise."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from uprnet import InvalidInputError, ModelConfig, UPRNet, load_model
from uprnet.network.config import default_num_levels, default_skip_finest
from uprnet.network.ops import use_backend

PARAMETERS = {"small": 420_009, "base": 1_653_961, "large": 3_701_865, "xlarge": 6_563_721}


@pytest.fixture(scope="module")
def small() -> UPRNet:
    return load_model("small")


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth random picture, and the same moved by three pixels."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 16, 20, generator=generator)
    picture = torch.nn.functional.interpolate(picture, scale_factor=8, mode="bicubic").clamp(0, 1)
    return picture[..., :96, :128].contiguous(), picture[..., 2:98, 3:131].contiguous()


@pytest.mark.parametrize(("size", "count"), PARAMETERS.items())
def test_number_of_parameters(size: str, count: int):
    assert sum(parameter.numel() for parameter in UPRNet(ModelConfig.from_size(size)).parameters()) == count


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_the_reference(golden_case: dict[str, Any], official_file: Any, backend: str, channels_last: bool):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model = load_model(official_file("base", "module.")).to(memory_format=memory_format)
    images = [golden_case[name].contiguous(memory_format=memory_format) for name in ("img0", "img1")]
    settings = {name: golden_case[name] for name in ("t", "num_levels", "skip_finest")}
    with torch.inference_mode(), use_backend(backend):
        result = model(*images, **settings)
    torch.testing.assert_close(result.frame, golden_case["frame"], rtol=0, atol=1e-4)
    flow = torch.cat([result.flow_01, result.flow_10], dim=1)
    torch.testing.assert_close(flow, golden_case["flow"], rtol=0, atol=1e-3)


def test_training_mode_gives_the_same_frame_as_inference(small: UPRNet, pair: Any):
    with torch.inference_mode():
        fast = small(*pair, 0.5).frame
    frame = copy.deepcopy(small).requires_grad_(True).train()(*pair, 0.5).frame
    assert frame.requires_grad
    torch.testing.assert_close(frame.detach(), fast, rtol=0, atol=1e-5)


def test_parts_compose_to_forward(small: UPRNet, pair: Any):
    with torch.no_grad():
        features0, features1 = small.encode(pair[0]), small.encode(pair[1])
        motion = small.estimate_motion(features0, features1)
        for t in (0.25, 0.5):
            frame = small.synthesize(features0, features1, motion, t).frame
            assert torch.equal(frame, small(*pair, t).frame)


def test_each_item_of_a_batch_may_have_its_own_time(small: UPRNet, pair: Any):
    times = [0.1, 0.5, 0.8]
    with torch.no_grad():
        batched = small(pair[0].expand(3, -1, -1, -1), pair[1].expand(3, -1, -1, -1), torch.tensor(times)).frame
        single = torch.cat([small(*pair, t).frame for t in times])
    torch.testing.assert_close(batched, single, rtol=0, atol=1e-5)


def test_swapping_the_images_and_the_time_gives_nearly_the_same_motion(small: UPRNet, pair: Any):
    with torch.no_grad():
        forward, backward = small(*pair, 0.5), small(pair[1], pair[0], 0.5)
    assert (forward.flow_01 - backward.flow_10).abs().mean() < 0.5  # pixels; the network is trained to it, not built so


def test_motion_of_a_shift_is_found(small: UPRNet, pair: Any):
    with torch.no_grad():
        result = small(*pair, 0.5)
    middle = result.flow_01[..., 24:-24, 24:-24].mean(dim=(0, 2, 3))
    torch.testing.assert_close(middle, torch.tensor([-3.0, -2.0]), rtol=0, atol=0.5)


def test_details_of_a_synthesis_add_up(small: UPRNet, pair: Any):
    with torch.no_grad():
        features0, features1 = small.encode(pair[0]), small.encode(pair[1])
        synthesis = small.synthesize(features0, features1, small.estimate_motion(features0, features1), 0.5)
    torch.testing.assert_close(synthesis.frame, (synthesis.merged + synthesis.residual).clamp(0, 1))
    assert [tuple(frame.shape[2:]) for frame in synthesis.frames if frame is not None] == [
        (96, 128),
        (48, 64),
        (24, 32),
    ]
    for mask in (synthesis.mask0, synthesis.mask1):
        assert mask.shape == (1, 1, 96, 128)
        assert mask.min() > 0
        assert mask.max() < 1


@pytest.mark.parametrize(("num_levels", "skip_finest"), [(1, 0), (3, 1), (4, 2), (4, 3)])
def test_skipped_levels_estimate_no_motion(small: UPRNet, pair: Any, num_levels: int, skip_finest: int):
    with torch.no_grad():
        result = small(*pair, 0.5, num_levels, skip_finest)
        features = small.encode(pair[0], num_levels, skip_finest)
        motion = small.estimate_motion(features, small.encode(pair[1], num_levels, skip_finest))
    assert result.frame.shape == pair[0].shape
    assert result.flow_01.shape == (1, 2, 96, 128)
    there = {0, *range(skip_finest, num_levels)}
    assert {index for index, level in enumerate(features.levels) if level is not None} == there
    assert {index for index, flow in enumerate(motion.flows) if flow is not None} == there
    if skip_finest:
        scale = 2**skip_finest
        coarse = motion.flows[skip_finest]
        assert coarse is not None
        upscaled = torch.nn.functional.interpolate(coarse, scale_factor=scale, mode="bilinear") * scale
        torch.testing.assert_close(motion.flows[0], upscaled)


def test_every_parameter_receives_a_gradient(pair: Any):
    model = UPRNet(ModelConfig(4))
    model(*pair, 0.5).frame.sum().backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_levels": 0}, "num_levels must be at least 1"),
        ({"skip_finest": 3}, "skip_finest from 0 to num_levels - 1"),
        ({"num_levels": 6}, "divisible by 128 for 6 levels"),
    ],
)
def test_levels_that_do_not_fit_are_refused(small: UPRNet, pair: Any, arguments: dict[str, int], message: str):
    with pytest.raises(InvalidInputError, match=message):
        small(*pair, 0.5, **arguments)


def test_images_that_do_not_fit_are_refused(small: UPRNet, pair: Any):
    with pytest.raises(InvalidInputError, match="same size"):
        small(pair[0], pair[1][..., :64], 0.5)
    with pytest.raises(InvalidInputError, match=r"\(B, 3, H, W\)"):
        small(pair[0][0], pair[1][0], 0.5)


@pytest.mark.parametrize(
    ("size", "levels"), [((480, 640), 4), ((256, 448), 3), ((1080, 1920), 6), ((2160, 3840), 7), ((16, 16), 1)]
)
def test_level_rule(size: tuple[int, int], levels: int):
    assert default_num_levels(*size) == levels
    assert default_num_levels(*reversed(size)) == levels


def test_motion_is_skipped_from_4k_on():
    assert [default_skip_finest(levels) for levels in (3, 6, 7, 8)] == [0, 0, 2, 3]


def test_sizes_have_names():
    assert ModelConfig.from_size("LARGE") == ModelConfig.from_size("xlarge") == ModelConfig(32)
    assert ModelConfig(24).size == "large"
    assert ModelConfig(10).size == "c=10"
    with pytest.raises(InvalidInputError, match="small, base, large, xlarge, got 'huge'"):
        ModelConfig.from_size("huge")
    with pytest.raises(InvalidInputError, match="positive integer"):
        ModelConfig(0)
