"""LPIPS through its library, which stands in here: neither it nor its weights are needed for the tests."""

import sys
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import nn

from uprnet.errors import MissingDependencyError, WeightsError
from uprnet.evaluation.benchmark import BenchmarkOptions, run_benchmark
from uprnet.evaluation.perceptual import lpips_metric
from uprnet.options import NetworkOptions


class Distance(nn.Module):
    """Has the signature of ``lpips.LPIPS``, and is the mean absolute difference in its range of [-1, 1]."""

    def __init__(self, net: str, verbose: bool) -> None:
        super().__init__()
        assert (net, verbose) == ("alex", False)

    def forward(self, in0, in1, normalize=False):
        assert normalize  # the library must be told that images are in [0, 1]
        return 2 * (in0 - in1).abs().mean(dim=(1, 2, 3), keepdim=True)


def unreachable(**_: object) -> None:
    raise URLError("no route to host")


def test_one_number_per_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Distance))
    image = torch.zeros(2, 3, 16, 16)
    other = torch.stack([image[0], image[1] + 0.25])
    assert lpips_metric()(image, other).tolist() == [0, 0.5]


def test_a_benchmark_has_it_as_one_more_metric(monkeypatch, make_tree):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Distance))
    options = BenchmarkOptions(
        "triplets", make_tree("triplets"), NetworkOptions(model="small", device="cpu"), lpips=True
    )
    for result in run_benchmark(options).results:
        # Twice the mean difference; rounding to 8 bit moves each pixel by half a step at most.
        assert result.scores["lpips"] == pytest.approx(2 * result.scores["error"] / 255, abs=1 / 255)


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'uprnet\[lpips\]'"):
        lpips_metric()


def test_weights_that_cannot_be_fetched_are_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=unreachable))
    with pytest.raises(WeightsError, match=r"no route to host.*put torchvision's AlexNet"):
        lpips_metric()
