"""Widening keeps the function and leaves room to learn."""

import pytest
import torch

from uprnet.errors import InvalidInputError
from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.network.weights import load_model
from uprnet.training.widening import widen


@pytest.fixture(scope="module")
def pair():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 10, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(64, 80), mode="bicubic").clamp(0, 1)
    return image, torch.roll(image, (3, -4), (2, 3))


@pytest.mark.parametrize(
    ("before", "after"), [("small", "base"), ("small", "large"), ("base", "large"), ("small", "xlarge")]
)
def test_frames_and_flows_stay_the_same(pair, before, after):
    model = load_model(before)
    wide = widen(model, ModelConfig.from_size(after))
    with torch.no_grad():
        expected, found = model(*pair, 0.3), wide(*pair, 0.3)
    assert (expected.frame - found.frame).abs().max() < 1e-5
    assert (expected.flow_01 - found.flow_01).abs().max() < 1e-3  # pixels, of flows of several pixels
    assert expected.flow_01.abs().max() > 1


def test_twice_over_small_base_large(pair):
    model = load_model("small")
    wide = widen(widen(model, ModelConfig.from_size("base")), ModelConfig.from_size("large"))
    with torch.no_grad():
        assert (model(*pair).frame - wide(*pair).frame).abs().max() < 1e-5


def test_copies_receive_different_gradients(pair):
    wide = widen(load_model("small"), ModelConfig.from_size("base")).requires_grad_(True)
    wide(*pair).frame.sum().backward()
    for name, parameter in wide.named_parameters():
        if name.endswith("0.weight") and parameter.ndim == 4 and "decode" not in name:
            half = parameter.shape[0] // 2
            assert not torch.allclose(parameter.grad[:half], parameter.grad[half:]), name


def test_the_mode_is_kept_and_the_narrow_network_untouched():
    model = UPRNet(ModelConfig(2)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert widen(model, ModelConfig(4)).training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_narrowing_is_refused():
    with pytest.raises(InvalidInputError, match="at least 16 base channels, got 8"):
        widen(UPRNet(ModelConfig(16)), ModelConfig(8))
