"""Recorded training steps, as far as they go without a GPU: what is recorded, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from uprnet.errors import TrainingError
from uprnet.network.weights import load_model
from uprnet.training import loop
from uprnet.training.config import ComputeConfig, NetworkConfig, OptimizerConfig, TrainingConfig
from uprnet.training.cuda_graphs import GraphedObjective, check_graphs
from uprnet.training.loop import train
from uprnet.training.objective import LossConfig, Objective
from uprnet.training.preparation import open_accelerator
from uprnet.training.sample import Batch, collate
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion
from uprnet.training.teacher import TeacherConfig
from uprnet.training.views import VIEWS

GRAPHED = TrainingConfig(compute=ComputeConfig(cuda_graphs=True))
GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def batches():
    generator = SyntheticMotion(SyntheticConfig(max_layers=1, mean_motion=3))
    return [
        collate([generator.sample(32, np.random.default_rng(seed))]).unpack(torch.device("cpu")) for seed in range(2)
    ]


def test_it_computes_what_the_objective_computes(batches):
    recorded: list[tuple[Tensor, ...]] = []

    def record(module: nn.Module, arguments: tuple[Tensor, ...]) -> nn.Module:
        module(*arguments)  # as torch does, which is when the losses get their names
        recorded.append(arguments)
        return module

    model = load_model("small").requires_grad_(True).train()
    objective = Objective(model, LossConfig(flow=0.1, matching=0.1), 3)
    graphed = GraphedObjective(objective, batches[0], record)
    assert len(recorded) == 1
    total, losses = graphed(batches[1])
    gradients = torch.autograd.grad(total.mean(), list(objective.parameters()))
    expected, expected_losses = objective(batches[1])
    expected_gradients = torch.autograd.grad(expected.mean(), list(objective.parameters()))
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(losses, {name: loss.detach() for name, loss in expected_losses.items()})
    torch.testing.assert_close(gradients, expected_gradients)


class Replayed:
    """Does what a recorded step does: all arguments are copied to the places of those it was recorded with."""

    def __init__(self, objective: Objective, example: Batch) -> None:
        self._objective, self._places = objective, list(vars(example).values())

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        for place, given in zip(self._places, vars(batch).values(), strict=True):
            if place.data_ptr() != given.data_ptr():
                place.copy_(given)
        return self._objective(Batch(*self._places))


def test_a_teacher_does_not_write_over_the_truth(tiny, monkeypatch):
    plain = tiny(
        3,
        network=NetworkConfig(size="small", start="small"),
        loss=LossConfig(teacher=0.1),
        teacher=TeacherConfig("small", views=VIEWS),
    )
    train(plain)
    monkeypatch.setattr(loop, "check_graphs", lambda *_: None)
    monkeypatch.setattr(loop, "GraphedObjective", Replayed)
    recorded = replace(plain, run=plain.run + "-recorded", compute=ComputeConfig(device="cpu", cuda_graphs=True))
    train(recorded)
    expected, found = (load_model(f"{run.run}/last.safetensors").state_dict() for run in (plain, recorded))
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=0, atol=1e-4, msg=name)


def test_weights_are_converted_on_every_replay():
    config = TrainingConfig(compute=ComputeConfig(device="cpu", precision="bf16"))
    assert open_accelerator(config).prepare(CacheState())(torch.zeros(1)) is False


class CacheState(nn.Module):
    """Tells whether autocast keeps converted weights."""

    def forward(self, _: Tensor) -> bool:
        assert torch.is_autocast_enabled("cpu")
        return torch.is_autocast_cache_enabled()


def test_it_needs_one_gpu(tmp_path):
    check_graphs(GRAPHED, GPU, 1)
    with pytest.raises(TrainingError, match="needs one GPU, got 2 x cuda"):
        check_graphs(GRAPHED, GPU, 2)
    config = replace(GRAPHED, run=str(tmp_path / "run"), compute=ComputeConfig(device="cpu", cuda_graphs=True))
    with pytest.raises(TrainingError, match="needs one GPU, got 1 x cpu; leave it out"):
        train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (replace(GRAPHED, optimizer=OptimizerConfig(accumulate=2)), "optimizer.accumulate"),
        (replace(GRAPHED, compute=ComputeConfig(cuda_graphs=True, checkpointing=True)), "compute.checkpointing"),
    ],
)
def test_what_cannot_be_recorded_is_refused(config, named):
    with pytest.raises(TrainingError, match=f"does not go together with {named}"):
        check_graphs(config, GPU, 1)
