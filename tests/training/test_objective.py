"""The network with its losses: what counts, and what it costs."""

import numpy as np
import pytest
import torch

from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.network.ops import cost_volume
from uprnet.network.weights import load_model
from uprnet.training.initialization import initialize_for_matching
from uprnet.training.losses import charbonnier
from uprnet.training.objective import LossConfig, Objective
from uprnet.training.sample import Sample, collate
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion
from uprnet.training.textures import procedural_texture

FRAMES_ONLY = LossConfig(charbonnier=1, census=0)


@pytest.fixture(scope="module")
def batch():
    generator = SyntheticMotion(SyntheticConfig(max_layers=1, mean_motion=3))
    samples = [generator.sample(64, np.random.default_rng(seed)) for seed in range(3)]
    unknown = Sample(**{**vars(samples[2]), "flow_01": None, "flow_10": None})
    return collate([*samples[:2], unknown]).unpack(torch.device("cpu"))


@pytest.fixture(scope="module")
def model():
    return load_model("small").requires_grad_(True).train()


def test_the_finest_frame_alone_is_the_loss_of_the_paper(model, batch):
    total, parts = Objective(model, FRAMES_ONLY, 3)(batch)
    frame = model(batch.img0, batch.img1, batch.t).frame
    assert torch.allclose(total, charbonnier(frame, batch.target), atol=1e-6)
    assert list(parts) == ["charbonnier"]


def test_coarser_frames_count_with_their_decay(model, batch):
    finest = Objective(model, FRAMES_ONLY, 3)(batch)[0]
    small = Objective(model, LossConfig(charbonnier=1, census=0, frame_decay=0.1), 3)(batch)[0]
    large = Objective(model, LossConfig(charbonnier=1, census=0, frame_decay=0.2), 3)(batch)[0]
    first = (small - finest) / 0.1  # level 1 + 0.1 * level 2
    second = (large - finest) / 0.2
    assert (first > 0).all()
    assert (second > first).all()


def test_flow_counts_where_it_is_known(model, batch):
    _, parts = Objective(model, LossConfig(flow=1.0, matching=1.0), 3)(batch)
    for name in ("flow", "matching"):
        assert (parts[name][:2] > 0).all()
        assert parts[name][2] == 0


def test_the_flow_phase_runs_no_synthesis(model, batch, monkeypatch):
    monkeypatch.setattr(model, "synthesize", None)
    config = LossConfig(charbonnier=1, census=1, flow=1.0, flow_only=True)
    total, parts = Objective(model, config, 3)(batch)
    assert list(parts) == ["flow"]
    total.mean().backward()
    assert all(parameter.grad is None for parameter in model.synthesis.parameters())
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    model.requires_grad_(True)


@pytest.mark.parametrize(
    ("losses", "trained"),
    [
        (LossConfig(), {"encoder", "flow_estimator", "synthesis"}),
        (LossConfig(frozen=("encoder", "flow_estimator")), {"synthesis"}),
        (LossConfig(frozen=("synthesis",)), {"encoder", "flow_estimator"}),
        (LossConfig(flow_only=True, flow=1.0), {"encoder", "flow_estimator"}),
        (LossConfig(flow_only=True, flow=1.0, frozen=("encoder",)), {"flow_estimator"}),
        (LossConfig(flow_only=True, matching=1.0), {"encoder"}),
    ],
)
def test_gradients_reach_the_parts_that_are_trained_and_no_others(model, batch, losses, trained):
    model.zero_grad()
    total, _ = Objective(model, losses, 3)(batch)
    total.mean().backward()
    for name in ("encoder", "flow_estimator", "synthesis"):
        has_gradient = {parameter.grad is not None for parameter in getattr(model, name).parameters()}
        assert has_gradient == {name in trained}, name
    model.requires_grad_(True)


def test_new_filters_have_unit_deviation_and_let_no_brightness_pass():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = UPRNet(ModelConfig(4))
    initialize_for_matching(model, images, torch.Generator().manual_seed(1))
    c0, _, c2 = model.encoder(images)
    first = model.encoder.stage0[0]
    assert torch.allclose(first(images).std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
    brighter = model.encoder(images + 0.2)[0]
    assert torch.allclose(brighter[:, :, 4:-4, 4:-4], c0[:, :, 4:-4, 4:-4], atol=1e-3)
    assert 0.3 < c2.std() < 1.5


def test_new_filters_find_a_shift_that_default_ones_do_not():
    texture = procedural_texture((112, 112), np.random.default_rng(0))
    images = torch.from_numpy(texture).permute(2, 0, 1)[None].float() / 255
    img0, img1 = images[:, :, 8:104, 8:104], images[:, :, 0:96, 12:108]  # moves by dx = -4, dy = 8
    right = {}
    for special in (False, True):
        torch.manual_seed(0)
        model = UPRNet(ModelConfig(8))
        if special:
            initialize_for_matching(model, images, torch.Generator().manual_seed(0))
        features0, features1 = (model.encode(image).level(0).c2 for image in (img0, img1))
        best = cost_volume(features0, features1).argmax(dim=1)[:, 4:-4, 4:-4]
        right[special] = (best == (2 + 4) * 9 + (-1 + 4)).float().mean().item()
    assert right[False] < 0.1
    assert right[True] > 0.3
