"""The mean of networks."""

import pytest
import torch

from uprnet.errors import InvalidInputError
from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.training.averaging import average


@pytest.fixture
def two():
    torch.manual_seed(0)
    return [UPRNet(ModelConfig(2)) for _ in range(2)]


def test_the_mean_counts_each_network_as_much_as_its_share(two):
    mean = average(two, [3, 1])
    for value, first, second in zip(mean.parameters(), *(model.parameters() for model in two), strict=True):
        assert torch.allclose(value, 0.75 * first + 0.25 * second, atol=1e-6)


def test_of_equal_networks_the_mean_is_that_network(two):
    mean = average([two[0], two[0], two[0]])
    assert all(torch.equal(value, same) for value, same in zip(mean.parameters(), two[0].parameters(), strict=True))
    assert mean is not two[0]


def test_boxes_that_are_not_averaged_are_those_of_the_first(two):
    mean = average(two, boxes=["synthesis"])
    for box, is_first in (("encoder", True), ("flow_estimator", True), ("synthesis", False)):
        values = zip(getattr(mean, box).parameters(), getattr(two[0], box).parameters(), strict=True)
        assert all(torch.equal(value, first) for value, first in values) == is_first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": [1]}, "one share for each of the 2 networks, got 1"),
        ({"shares": [1, -1]}, "shares must be 0 or more, and one above 0, got 1, -1"),
        ({"shares": [0, 0]}, "shares must be 0 or more, and one above 0, got 0, 0"),
        ({"shares": [1, float("nan")]}, "shares must be 0 or more, and one above 0, got 1, nan"),
        ({"boxes": ["decoder"]}, "boxes may be encoder, flow_estimator, synthesis, got decoder"),
    ],
)
def test_what_makes_no_mean_is_refused(two, changes, message):
    with pytest.raises(InvalidInputError, match=message):
        average(two, **changes)


def test_networks_of_different_sizes_have_no_mean(two):
    with pytest.raises(InvalidInputError, match="must have one size"):
        average([two[0], UPRNet(ModelConfig(3))])
