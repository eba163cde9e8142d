"""The Triton kernels against the definitions: on the GPU if there is one, otherwise under Triton's interpreter."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.network.ops import backend, cost_volume, splat_average, use_backend

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OPERATORS = [splat_average, cost_volume]
#: Differences from the definition in float64 that rounding makes: a few units in the last place of each type.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}

Operator = Callable[[Tensor, Tensor], Tensor]


def random(*size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE, dtype)


def inputs(operator: Operator, channels: int, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two images, and what the operator wants besides: motion of a few pixels, or other features."""
    first = random(2, channels, height, width, dtype=dtype)
    if operator is cost_volume:
        return first, random(2, channels, height, width, seed=1, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32  # as networks in half precision have it
    return first, 2 * random(2, 2, height, width, seed=1, dtype=wide)


def defined(operator: Operator, *tensors: Tensor) -> Tensor:
    """What the definition makes of the tensors, in float64."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)  # the definition knows no such thing on every device
    with use_backend("torch"):
        result = operator(*(tensor.double() for tensor in tensors))
    torch.use_deterministic_algorithms(was_deterministic)
    return result


def check(operator: Operator, first: Tensor, second: Tensor) -> None:
    result = operator(first, second)
    tolerance = TOLERANCE[first.dtype]
    assert result.dtype == first.dtype
    torch.testing.assert_close(result.double(), defined(operator, first, second), rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def triton() -> Iterator[None]:
    with use_backend("triton"):
        yield


@pytest.fixture(params=[False, True], ids=["atomic", "gathered"])
def deterministic(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether torch is asked for the same bits on every run; torch then also fills new memory with NaN."""
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (3, 7, 5), (40, 3, 6)])
def test_splatting_equals_the_definition(channels: int, height: int, width: int, dtype: torch.dtype):
    check(splat_average, *inputs(splat_average, channels, height, width, dtype))


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (5, 3, 12), (40, 2, 3)])
def test_cost_volume_equals_the_definition(channels: int, height: int, width: int, dtype: torch.dtype):
    check(cost_volume, *inputs(cost_volume, channels, height, width, dtype))


@pytest.mark.usefixtures("deterministic")
def test_many_pixels_may_land_on_one():
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(6.0), indexing="ij")
    source, flow = random(1, 3, 7, 6), torch.stack([3.25 - x, 4.5 - y])[None].to(DEVICE)
    check(splat_average, source, flow)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_pixels_whose_flow_is_no_position_are_dropped(bad: float):
    source, flow = torch.ones(1, 3, 6, 6, device=DEVICE), torch.zeros(1, 2, 6, 6, device=DEVICE)
    flow[0, 0, 2, 3] = flow[0, 1, 4, 1] = bad
    expected = torch.ones(1, 3, 6, 6, device=DEVICE)
    expected[..., 2, 3] = expected[..., 4, 1] = 0
    source.requires_grad_()
    flow.requires_grad_()
    result = splat_average(source, flow)
    torch.testing.assert_close(result, expected)
    result.sum().backward()
    assert source.grad is not None
    assert flow.grad is not None
    assert flow.grad.isfinite().all()
    torch.testing.assert_close(source.grad, expected)  # each pixel that lands, lands on its own place


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_gradients_equal_those_of_the_definition(operator: Operator, dtype: torch.dtype):
    tensors = inputs(operator, 3, 4, 5, dtype)
    weights = random(2, 3 if operator is splat_average else 81, 4, 5, seed=2, dtype=dtype)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    gradients = torch.autograd.grad((operator(*leaves) * weights).sum(), leaves)
    wide = [tensor.double().requires_grad_() for tensor in tensors]
    expected = torch.autograd.grad((defined(operator, *wide) * weights.double()).sum(), wide)
    for gradient, definition, leaf in zip(gradients, expected, leaves, strict=True):
        assert gradient.dtype == leaf.dtype
        # Where little arrives, the flow decides much: a gradient may be large, and its rounding with it.
        scale = definition.abs().amax().item()
        torch.testing.assert_close(gradient.double() / scale, definition / scale, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("operator", OPERATORS)
def test_gradients_are_right(operator: Operator):
    first, second = random(1, 1, 2, 3, dtype=torch.float64), random(1, 2, 2, 3, seed=1, dtype=torch.float64)
    second = second if operator is splat_average else second[:, :1]
    second = second.floor() + 0.2 + 0.6 * (second - second.floor())  # splatting has kinks at whole pixels
    leaves = first.requires_grad_(), second.requires_grad_()
    assert torch.autograd.gradcheck(operator, leaves, fast_mode=True)


@pytest.mark.parametrize("operator", OPERATORS)
def test_memory_layout_does_not_matter(operator: Operator):
    first, second = inputs(operator, 3, 2, 5, torch.float32)
    expected = operator(first, second)
    last = torch.channels_last
    assert torch.equal(operator(first.contiguous(memory_format=last), second.contiguous(memory_format=last)), expected)
    both = torch.cat([torch.ones_like(second), second], dim=1)  # the flow of one way lies within that of both
    for view in (both[:, -second.shape[1] :], both.contiguous(memory_format=last)[:, -second.shape[1] :]):
        torch.testing.assert_close(operator(first, view), expected)


@pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter takes one program after the other, always")
def test_runs_give_the_same_bits_if_asked_for():
    source, flow = random(1, 19, 600, 700), 9 * random(1, 2, 600, 700, seed=1)
    torch.use_deterministic_algorithms(True)
    results = [splat_average(source, flow) for _ in range(20)]
    torch.use_deterministic_algorithms(False)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.skipif(DEVICE == "cuda", reason="torch's checks run many shapes, which the other tests do on a GPU")
def test_torch_accepts_the_registration():
    source, flow = random(1, 2, 3, 4).requires_grad_(), random(1, 2, 3, 4, seed=1).requires_grad_()
    splat_average(source, flow)  # loads the kernels
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.uprnet.splat_average_triton.default, (source, flow), test_utils=checks)
    torch.library.opcheck(torch.ops.uprnet.cost_volume_triton.default, (source, flow), test_utils=checks)


def test_the_network_comes_out_the_same():
    torch.manual_seed(0)
    model = UPRNet(ModelConfig(2)).eval().to(DEVICE)
    img0, img1 = torch.rand(2, 1, 3, 16, 24, device=DEVICE)
    with torch.inference_mode():
        result = model(img0, img1, 0.25, num_levels=2)
        with use_backend("torch"):
            expected = model(img0, img1, 0.25, num_levels=2)
    torch.testing.assert_close(result.frame, expected.frame, rtol=0, atol=1e-4)


@pytest.mark.parametrize("target", [("cuda", "80"), pytest.param(("hip", "gfx942"), marks=pytest.mark.slow)])
def test_kernels_compile_once_for_all_sizes(target: tuple[str, str], tmp_path: Path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(Path(__file__).with_name("compile_triton.py")), *target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after_one_size, after_five = json.loads(done.stdout)
    assert after_five == after_one_size
    assert min(after_one_size.values()) >= 1


@pytest.mark.parametrize("kind", ["mps", "xpu", "meta"])
def test_other_devices_take_the_definition(kind: str):
    assert backend.default_backend(torch.device(kind)) == "torch"


def test_without_triton_a_gpu_takes_the_definition(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backend, "find_spec", lambda _: None)
    backend.default_backend.cache_clear()
    assert backend.default_backend(torch.device("cuda", 7)) == "torch"
    backend.default_backend.cache_clear()


def test_a_gpu_that_triton_fails_on_takes_the_definition_and_says_so(caplog: pytest.LogCaptureFixture):
    gone = torch.device("cuda", 7)  # no machine of ours has eight GPUs
    with caplog.at_level(logging.WARNING):
        assert backend.default_backend(gone) == "torch"
    assert "Triton does not run on cuda:7; plain torch does, but slower" in caplog.text
