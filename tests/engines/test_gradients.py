"""Convolutions by Winograd's algorithm in training: output and gradients against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from uprnet.engines import gradients
from uprnet.engines.gradients import MIN_TILES, WinogradConv2d, use_winograd, weight_gradient
from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.network.ops.activation import PReLU


def layers(inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The same convolution by torch and by Winograd's algorithm."""
    torch.manual_seed(inputs)
    by_torch = nn.Conv2d(inputs, outputs, 3, padding=1)
    ours = copy.deepcopy(by_torch)
    use_winograd(ours)
    assert type(ours) is WinogradConv2d
    return by_torch, ours


def run(layer: nn.Conv2d, source: Tensor) -> list[Tensor]:
    """Output and all gradients."""
    source = source.clone().requires_grad_()
    output = layer(source)
    layer.zero_grad()
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return [output, source.grad, layer.weight.grad, layer.bias.grad]


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.detach().abs().max()))


@pytest.fixture
def any_size(monkeypatch):
    """Let the smallest pictures work by Winograd's algorithm, too."""
    monkeypatch.setattr(gradients, "MIN_TILES", 1)


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (13, 30), (40, 21)])
@pytest.mark.parametrize("channels", [(16, 16), (19, 32), (35, 51), (64, 80)])
def test_output_and_gradients_are_those_of_torch(channels, size):
    by_torch, ours = layers(*channels)
    source = torch.randn(3, channels[0], *size)
    assert_alike(run(ours, source), run(by_torch, source))


def test_the_number_of_threads_changes_nothing():
    source, gradient = (torch.randn(4, 16, 64, 96).to(memory_format=torch.channels_last) for _ in range(2))
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(weight_gradient(source, gradient))
    torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.usefixtures("any_size")
def test_changed_weights_are_noticed():
    by_torch, ours = layers(16, 16)
    source = torch.randn(1, 16, 20, 20)
    run(ours, source)
    with torch.no_grad():
        for layer in (by_torch, ours):
            layer.weight.mul_(-3)
            layer.bias.add_(1)
    assert_alike(run(ours, source), run(by_torch, source))
    assert_alike(run(copy.deepcopy(ours), source), run(by_torch, source))


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_change_of_either_parameter_alone_is_noticed(name):
    by_torch, ours = layers(16, 16)
    source = torch.randn(1, 16, 20, 20)
    run(ours, source)
    with torch.no_grad():
        for layer in (by_torch, ours):
            getattr(layer, name).add_(1)
    assert_alike(run(ours, source), run(by_torch, source))


@pytest.mark.usefixtures("any_size")
def test_weights_that_change_before_the_backward_pass_are_refused():
    _, ours = layers(16, 16)
    output = ours(torch.randn(1, 16, 20, 20, requires_grad=True))
    with torch.no_grad():
        ours.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_what_does_not_fit_goes_to_torch():
    by_torch, ours = layers(16, 16)
    tiny = torch.randn(1, 16, 4, 4)
    assert MIN_TILES > 1
    assert torch.equal(ours(tiny), by_torch(tiny))
    wide = torch.randn(1, 16, 64, 64, dtype=torch.float64)
    assert torch.equal(ours.double()(wide), by_torch.double()(wide))


def test_a_network_keeps_its_parameters_and_gradients():
    torch.manual_seed(0)
    by_torch = UPRNet(ModelConfig.from_size("base"))
    ours = copy.deepcopy(by_torch)
    use_winograd(ours)
    assert list(ours.state_dict()) == list(by_torch.state_dict())
    img0, img1 = torch.rand(2, 1, 3, 64, 96)
    gradients_of = []
    for model in (ours, by_torch):
        model.to(memory_format=torch.channels_last)
        model(img0, img1).frame.square().mean().backward()
        gradients_of.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(gradients_of[0], gradients_of[1], rtol=0, atol=1e-3 * float(gradients_of[1].abs().max()))


def test_prelu_has_the_gradients_of_torch():
    torch.manual_seed(0)
    source = torch.randn(2, 5, 7, 9, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    slopes = torch.tensor([0.2, -0.5, 0.0, 1.0, 2.0], dtype=torch.float64)
    found = []
    for layer in (PReLU(5).double(), nn.PReLU(5).double()):
        layer.weight.data.copy_(slopes)
        output = layer(source)
        weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
        found.append([output, *torch.autograd.grad((output * weights).sum(), (source, layer.weight))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
