"""Parts of a batch on threads of their own, against one backward pass over all of it."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from uprnet.engines.gradients import use_winograd
from uprnet.network.weights import load_model
from uprnet.training.objective import LossConfig, Objective
from uprnet.training.sample import collate
from uprnet.training.side_by_side import SideBySide
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion

EVERYTHING = LossConfig(flow=0.1, matching=0.1, frame_decay=0.5)


@pytest.fixture(scope="module")
def batch():
    generator = SyntheticMotion(SyntheticConfig(max_layers=1, mean_motion=3))
    samples = [generator.sample(64, np.random.default_rng(seed)) for seed in range(3)]
    return collate(samples).unpack(torch.device("cpu"), channels_last=True)


def objective(config=EVERYTHING):
    model = load_model("small").requires_grad_(True).train().to(memory_format=torch.channels_last)
    use_winograd(model)
    return Objective(model, config, 3)


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


# In float32, rounding moves a few pixels across the borders at which the gradient of splatting jumps.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-3)])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_losses_and_gradients_are_those_of_the_whole_batch(batch, threads, dtype, tolerance):
    batch = replace(batch, **{name: tensor.to(dtype) for name, tensor in vars(batch).items()})
    whole, split = objective().to(dtype), objective().to(dtype)
    total, losses = whole(batch)
    total.mean().backward()
    split_total, split_losses = SideBySide(split, threads)(batch)
    torch.testing.assert_close(split_total, total.detach(), rtol=1e-4, atol=1e-6)
    assert list(split_losses) == list(losses)
    for name, loss in losses.items():
        torch.testing.assert_close(split_losses[name], loss.detach(), rtol=1e-4, atol=1e-6)
    expected, found = gradients(whole), gradients(split)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() < tolerance * gradient.norm() + 1e-6, name


def test_what_is_not_trained_gets_no_gradient(batch):
    module = objective(LossConfig(charbonnier=0, census=0, flow=0.1, flow_only=True))
    SideBySide(module, 2)(batch)
    assert not any(name.startswith("model.synthesis.") for name in gradients(module))
    assert any(name.startswith("model.flow_estimator.") for name in gradients(module))


def test_gradients_add_up_scaled_and_the_same_every_time(batch):
    once, twice = objective(), objective()
    SideBySide(once, 2)(batch)
    halves = SideBySide(twice, 2)
    halves(batch, scale=0.5), halves(batch, scale=0.5)
    for name, gradient in gradients(once).items():
        assert torch.equal(gradients(twice)[name], gradient), name


def test_threads_that_start_later_have_the_callers_number(batch):
    torch.set_num_threads(3)
    SideBySide(objective(), 2)(batch)
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (torch.get_num_threads(), found) == (3, [3])
