"""Views: what is turned, mirrored or played backwards stays a true sample."""

import pytest
import torch

from uprnet.training.mixture import DataConfig, TrainingStream
from uprnet.training.sample import collate
from uprnet.training.synthetic import SyntheticConfig
from uprnet.training.views import VIEWS, View


@pytest.fixture(scope="module")
def batch():
    config = SyntheticConfig(weight=1.0, mean_motion=4.0, middle=0.0, max_layers=1, light=0.0, noise=0.0, jpeg=0.0)
    stream = TrainingStream(DataConfig(crop=64, synthetic=config), 0, 4)
    return collate([stream[index] for index in range(4)]).unpack(torch.device("cpu"), channels_last=True)


def fetched(image, flow):
    """What lies at the end of the flow, to the pixel nearest."""
    height, width = image.shape[2:]
    x = (torch.arange(width) + flow[:, 0]).round().long().clamp(0, width - 1)
    y = (torch.arange(height)[:, None] + flow[:, 1]).round().long().clamp(0, height - 1)
    places = (y * width + x).flatten(1)[:, None].expand(-1, 3, -1)
    return image.flatten(2).gather(2, places).view(image.shape)


def differences(batch):
    """How far each frame is from what the flow fetches from the other, ``(B, 2)``."""
    there = (fetched(batch.img1, batch.flow[:, :2]) - batch.img0).abs().flatten(1).mean(dim=1)
    back = (fetched(batch.img0, batch.flow[:, 2:]) - batch.img1).abs().flatten(1).mean(dim=1)
    return torch.stack((there, back), dim=1)


@pytest.mark.parametrize("number", range(VIEWS))
def test_the_flow_of_a_view_moves_its_frames_as_that_of_the_sample_does(batch, number):
    seen = View(number).batch(batch)
    expected = differences(batch)
    assert (expected < 0.5 * (batch.img0 - batch.img1).abs().flatten(1).mean(dim=1, keepdim=True)).all()
    assert torch.allclose(differences(seen), expected.flip(1) if number >= 8 else expected, atol=1e-3)
    assert torch.equal(seen.lesson, seen.target)
    assert seen.target.stride() == batch.target.stride()


@pytest.mark.parametrize("number", range(VIEWS))
def test_a_view_is_undone(batch, number):
    view = View(number)
    seen = view.batch(batch)
    assert torch.equal(view.back.frame(seen.target), batch.target)
    assert torch.equal(view.back.flow(seen.flow), batch.flow)
    assert torch.allclose(view.back.time(seen.t), batch.t)


def test_no_two_views_are_the_same(batch):
    seen = [View(number).batch(batch) for number in range(VIEWS)]
    pairs = [torch.cat((one.img0, one.img1, one.t[:, None, None, None].expand_as(one.img0))) for one in seen]
    assert not any(torch.equal(first, second) for i, first in enumerate(pairs) for second in pairs[:i])
