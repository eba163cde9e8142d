"""The operators against loops that are obviously right, against each other, and against torch's gradients."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uprnet import InvalidInputError
from uprnet.network.ops import (
    backend_for,
    blend,
    cost_volume,
    cpu,
    resize,
    splat_average,
    splat_average_both,
    use_backend,
)
from uprnet.network.ops.blending import blend_definition

BACKENDS = ["numba", "torch"]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def random(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def splat_loop(source: Tensor, flow: Tensor) -> Tensor:
    """Average splatting, one pixel and one neighbour after the other."""
    batch, channels, height, width = source.shape
    sums, weights = torch.zeros(batch, channels, height, width, dtype=source.dtype), torch.zeros(batch, height, width)
    weights = weights.to(source.dtype)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                to_x, to_y = x + float(flow[b, 0, y, x]), y + float(flow[b, 1, y, x])
                if not (math.isfinite(to_x) and math.isfinite(to_y)):
                    continue
                for row in (math.floor(to_y), math.floor(to_y) + 1):
                    for column in (math.floor(to_x), math.floor(to_x) + 1):
                        if 0 <= row < height and 0 <= column < width:
                            weight = (1 - abs(to_x - column)) * (1 - abs(to_y - row))
                            sums[b, :, row, column] += weight * source[b, :, y, x]
                            weights[b, row, column] += weight
    return sums / torch.where(weights == 0, 1, weights)[:, None]


def cost_volume_loop(features0: Tensor, features1: Tensor) -> Tensor:
    """The cost volume, one pixel and one displacement after the other."""
    batch, _, height, width = features0.shape
    costs = torch.zeros(batch, 81, height, width, dtype=features0.dtype)
    for dy in range(-4, 5):
        for dx in range(-4, 5):
            for y in range(height):
                for x in range(width):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        product = features0[:, :, y, x] * features1[:, :, y + dy, x + dx]
                        costs[:, (dy + 4) * 9 + dx + 4, y, x] = product.mean(dim=1)
    return costs


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest):
    with use_backend(request.param):
        yield request.param


@pytest.mark.parametrize("channels", [1, 3, 19])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (9, 16)])
def test_splat_average_equals_the_loop(channels: int, height: int, width: int):
    source, flow = random(2, channels, height, width), 3 * random(2, 2, height, width, seed=1)
    torch.testing.assert_close(splat_average(source, flow), splat_loop(source, flow), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("batch", "channels", "height", "width"), [(1, 1, 1, 1), (2, 5, 3, 12), (1, 16, 11, 6)])
def test_cost_volume_equals_the_loop(batch: int, channels: int, height: int, width: int):
    features0, features1 = random(batch, channels, height, width), random(batch, channels, height, width, seed=1)
    costs = cost_volume(features0, features1)
    torch.testing.assert_close(costs, cost_volume_loop(features0, features1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2, 4, 1.3])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 4, 8), (3, 20, 12), (19, 8, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resize_is_torchs(channels: int, height: int, width: int, scale: float, dtype: torch.dtype):
    tensor = random(2, channels, height, width, dtype=dtype)
    expected = F.interpolate(tensor, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(tensor, scale), expected, rtol=0, atol=TOLERANCE[dtype] / 10)
    part = random(2, channels + 2, height, width, dtype=dtype)[:, 1:-1]  # numbers of a pixel further apart
    expected = F.interpolate(part, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(part, scale), expected, rtol=0, atol=TOLERANCE[dtype] / 10)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (8, 1)])
def test_a_single_row_or_column_is_enlarged(height: int, width: int):
    tensor = random(2, 3, height, width)
    expected = F.interpolate(tensor, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(tensor, 4), expected, rtol=0, atol=1e-12)


def test_resize_has_a_gradient():
    tensor = random(1, 2, 4, 4).requires_grad_()
    resize(tensor, 2).sum().backward()
    torch.testing.assert_close(tensor.grad, torch.full_like(tensor, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", [(0.5,), (0.25, 0.75)])
def test_blending_is_its_definition(times: tuple[float, ...], dtype: torch.dtype):
    generator = torch.Generator().manual_seed(5)
    warped0, warped1 = torch.rand(2, 2, 3, 9, 7, generator=generator, dtype=dtype)
    raw = torch.rand(2, 5, 9, 7, generator=generator, dtype=dtype)  # frames beyond 0 and 1, too
    raw[0, 0, 3, 4] = math.nan
    raw[1, 3:, 5, 2] = 0  # no trust in either image
    t = torch.tensor(times, dtype=dtype).view(-1, 1, 1, 1)
    with torch.inference_mode():
        got, expected = blend(warped0, warped1, raw, t), blend_definition(warped0, warped1, raw, t)
    torch.testing.assert_close(got, expected, rtol=0, atol=4 * torch.finfo(dtype).eps, equal_nan=True)
    assert got[0].nan_to_num(0.5).min() == 0
    assert got[0].nan_to_num(0.5).max() == 1


def test_blending_has_a_gradient():
    tensors = [torch.rand(1, channels, 4, 5, dtype=torch.float64, requires_grad=True) for channels in (3, 3, 5)]
    t = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *tensors: blend(*tensors, t)[1], tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("first_row", [0, 64])
def test_two_tensors_are_splatted_at_once_as_one_by_one(dtype: torch.dtype, first_row: int):
    few, many = random(2, 3, 9, 14, dtype=dtype), random(2, 21, 9, 14, seed=1, dtype=dtype)
    flow = 3 * random(2, 2, 9, 14, seed=2, dtype=dtype)
    for source, other in ((few, many), (many, few)):
        warped = splat_average_both(source, other, flow, first_row)
        assert torch.equal(warped[0], splat_average(source, flow, first_row))
        assert torch.equal(warped[1], splat_average(other, flow, first_row))


@pytest.mark.parametrize(
    "sizes",
    [((1, 3, 4, 4), (1, 2, 4, 5), (1, 2, 4, 4)), ((1, 3, 4, 4), (1, 2, 4, 4), (1, 2, 5, 4)), ((3, 4, 4),) * 3],
)
def test_two_tensors_of_other_sizes_are_refused(sizes: tuple[tuple[int, ...], ...]):
    with pytest.raises(InvalidInputError, match="must be"):
        splat_average_both(*(random(*size) for size in sizes))


@pytest.mark.parametrize(("channels", "others"), [(1, 0), (3, 16), (19, 8)])
@pytest.mark.parametrize("rows_at_once", [1, 4, 100])
def test_splatting_keeps_to_its_memory(monkeypatch: pytest.MonkeyPatch, rows_at_once: int, channels: int, others: int):
    source, other = random(1, channels, 9, 7), random(1, others, 9, 7, seed=1)
    flow = 4 * random(1, 2, 9, 7, seed=2)
    flow[..., ::3] -= flow[..., ::3] % 1  # whole pixels, right to the edges
    held: list[np.ndarray] = []

    def memory(size: int) -> np.ndarray:
        held.append(np.full(size + 1024, 0xFF, np.uint8))  # NaN
        return held[-1]

    monkeypatch.setattr(cpu, "thread_memory", memory)
    monkeypatch.setattr(cpu, "_CACHED_BYTES", rows_at_once * 7 * 8 * (channels + others))
    with use_backend("numba"):
        warped = splat_average_both(source, other, flow)
    for tensor, result in zip((source, other), warped, strict=True):
        torch.testing.assert_close(result, splat_loop(tensor, flow), rtol=0, atol=1e-10)
    assert held
    assert all((block[-1024:] == 0xFF).all() for block in held)


def test_splat_average_of_a_shift_by_hand():
    row = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    half_right = torch.zeros(1, 2, 1, 4)
    half_right[:, 0] = 0.5
    # Pixel 0 receives half of 1 alone; the others the mean of two neighbours; the last half of 4 leaves the picture.
    torch.testing.assert_close(splat_average(row, half_right), torch.tensor([[[[1.0, 1.5, 2.5, 3.5]]]]))


def test_splat_average_leaves_zero_where_nothing_arrives():
    moved = splat_average(torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 2.0))
    assert moved[..., 2:, 2:].eq(1).all()
    assert moved.sum() == 2 * 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_splat_average_drops_pixels_whose_flow_is_no_position(bad: float):
    source, flow = torch.ones(1, 3, 6, 6), torch.zeros(1, 2, 6, 6)
    flow[0, 0, 2, 3] = bad
    flow[0, 1, 4, 1] = bad
    expected = torch.ones(1, 3, 6, 6)
    expected[..., 2, 3] = expected[..., 4, 1] = 0
    torch.testing.assert_close(splat_average(source, flow), expected)


def test_gradients_stay_finite_where_the_flow_is_not():
    source, flow = torch.ones(1, 3, 6, 6, requires_grad=True), torch.zeros(1, 2, 6, 6)
    flow[0, 0, 2, 3] = math.nan
    flow.requires_grad_()
    splat_average(source, flow).sum().backward()
    assert source.grad is not None
    assert flow.grad is not None
    assert source.grad.isfinite().all()
    assert flow.grad.isfinite().all()
    assert source.grad[0, :, 2, 3].eq(0).all()


@pytest.mark.parametrize("operator", [splat_average, cost_volume])
def test_gradients_are_right(operator: Callable[[Tensor, Tensor], Tensor]):
    first = random(1, 2, 5, 6).requires_grad_()
    second = random(1, 2, 5, 6, seed=1)
    # Away from whole pixels, where splatting has kinks.
    second = (second.floor() + 0.2 + 0.6 * (second - second.floor())).requires_grad_()
    assert torch.autograd.gradcheck(operator, (first, second), fast_mode=False)


@pytest.mark.parametrize("operator", [splat_average, cost_volume])
def test_gradients_of_kernel_and_definition_agree(operator: Callable[[Tensor, Tensor], Tensor]):
    inputs = [random(2, 2, 40, 33, dtype=torch.float32), 2 * random(2, 2, 40, 33, seed=1, dtype=torch.float32)]
    weights = random(2, 2 if operator is splat_average else 81, 40, 33, seed=2, dtype=torch.float32)
    results = []
    for name in BACKENDS:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        with use_backend(name):
            (operator(*leaves) * weights).sum().backward()
        results.append([leaf.grad for leaf in leaves])
    for kernel, definition in zip(*results, strict=True):
        torch.testing.assert_close(kernel, definition, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operator", [splat_average, cost_volume])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_every_floating_type_is_taken_and_given_back(operator: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype):
    first, second = random(1, 2, 8, 9), random(1, 2, 8, 9, seed=1).round()
    result = operator(first.to(dtype), second.to(dtype))
    assert result.dtype == dtype
    expected = operator(first.to(dtype).double(), second.to(dtype).double())
    torch.testing.assert_close(result.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("operator", [splat_average, cost_volume])
def test_memory_layout_does_not_matter(operator: Callable[[Tensor, Tensor], Tensor]):
    first, second = random(2, 2, 8, 9), random(2, 2, 8, 9, seed=1)
    expected = operator(first, second)
    channels_last = torch.channels_last
    result = operator(first.contiguous(memory_format=channels_last), second.contiguous(memory_format=channels_last))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-14)
    sliced = operator(torch.cat([first, first], 1)[:, 2:], torch.cat([second, second], 1)[:, :2])
    torch.testing.assert_close(sliced, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("operator", [splat_average, cost_volume])
def test_the_number_of_threads_does_not_change_a_bit(operator: Callable[[Tensor, Tensor], Tensor]):
    first, second = random(1, 2, 300, 301), random(1, 2, 300, 301, seed=1)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(operator(first, second))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results[1:])


def test_operators_may_run_in_several_python_threads_at_once():
    source, flow = random(1, 3, 200, 200), random(1, 2, 200, 200, seed=1)
    expected = splat_average(source, flow)
    results: list[Tensor] = []
    contexts = [contextvars.copy_context() for _ in range(4)]  # so that `use_backend` holds in them, too
    threads = [
        threading.Thread(target=context.run, args=(lambda: results.append(splat_average(source, flow)),))
        for context in contexts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)


def test_splat_average_says_what_does_not_fit():
    with pytest.raises(InvalidInputError, match=r"flow must be \(1, 2, 4, 4\), got \(1, 2, 4, 5\)"):
        splat_average(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 5))
    with pytest.raises(InvalidInputError, match="source must be floating"):
        splat_average(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 2, 4, 4))
    with pytest.raises(InvalidInputError, match="source must be floating"):
        splat_average(torch.zeros(3, 4, 4), torch.zeros(1, 2, 4, 4))


def test_cost_volume_says_what_does_not_fit():
    with pytest.raises(InvalidInputError, match="same size and type"):
        cost_volume(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(InvalidInputError, match="same size and type"):
        cost_volume(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4).double())
    with pytest.raises(InvalidInputError, match="features must be floating"):
        cost_volume(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))


def test_use_backend_decides_and_is_undone(backend: str):
    assert backend_for(torch.zeros(1)) == backend
    with use_backend("torch"):
        assert backend_for(torch.zeros(1)) == "torch"
    assert backend_for(torch.zeros(1)) == backend


def test_tensors_elsewhere_take_the_definition():
    meta = torch.zeros(1, 3, 8, 8, device="meta")
    assert splat_average(meta, torch.zeros(1, 2, 8, 8, device="meta")).shape == (1, 3, 8, 8)
    assert cost_volume(meta, meta).shape == (1, 81, 8, 8)
