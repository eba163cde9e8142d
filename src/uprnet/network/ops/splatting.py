"""Average splatting: forward warping that averages what lands on the same pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from uprnet.errors import InvalidInputError
from uprnet.network.ops import cpu
from uprnet.network.ops.backend import backend_for, is_plain_call


def splat_average(source: Tensor, flow: Tensor, first_row: int = 0) -> Tensor:
    """Forward-warp ``source`` along ``flow``, averaging what lands on the same pixel.

    The value at ``(x, y)`` moves to ``(x + dx, y + dy)`` and is shared among the four nearest target pixels
    with bilinear weights. A target pixel is the weighted mean of all it received; where nothing arrived it is 0.
    What leaves the picture is dropped, and so is a pixel whose flow is not finite.

    Convention:
        ``flow[:, 0]`` is dx (positive right), ``flow[:, 1]`` is dy (positive down), in pixels of ``source``.

    Args:
        source: Image or features, ``(B, C, H, W)``, floating.
        flow: Displacement of every source pixel, ``(B, 2, H, W)``.
        first_row: Where ``source`` is some rows of a picture: the number of its first row there. A position is rounded
            as far down the picture as it is, so that the rows get what the whole picture would give them, to the bit.

    Returns:
        The warped tensor, like ``source``. Differentiable in both arguments.

    Raises:
        InvalidInputError: If sizes differ, ``flow`` has not two channels, or ``source`` is not floating.

    Example:
        >>> one_right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)
        >>> splat_average(torch.tensor([[[[1.0, 2.0, 3.0]]]]), one_right)
        tensor([[[[0., 1., 2.]]]])

    Reference:
        Niklaus and Liu, "Softmax Splatting for Video Frame Interpolation", CVPR 2020 (average splatting).
    """
    _check(source, flow)
    if first_row:
        flow = _rounded_as_at(flow, first_row)
    backend = backend_for(source)
    if backend == "triton":
        from uprnet.network.ops import triton  # imports an optional library

        return triton.splat_average(source, flow)
    dtype = source.dtype if source.dtype == torch.float64 else torch.float32
    wide_source, wide_flow = source.to(dtype), flow.to(dtype)
    compute = cpu.splat_average if backend == "numba" else splat_average_definition
    return compute(wide_source, wide_flow).to(source.dtype)


def splat_average_both(source: Tensor, other: Tensor, flow: Tensor, first_row: int = 0) -> tuple[Tensor, Tensor]:
    """Warp two tensors along the same flow, as `splat_average` does one by one; on the CPU they are warped at once.

    Args:
        source: Image or features, ``(B, C, H, W)``, floating.
        other: More of them, ``(B, D, H, W)``.
        flow: Displacement of every pixel, ``(B, 2, H, W)``.
        first_row: Number of the first row, where these are some rows of a picture.

    Returns:
        Both, warped.

    Raises:
        InvalidInputError: As `splat_average`.
    """
    for tensor in (source, other):
        _check(tensor, flow)
    is_same = source.dtype == other.dtype in (torch.float32, torch.float64) and flow.dtype == source.dtype
    if is_same and backend_for(source) == "numba" and is_plain_call(source, other, flow):
        return cpu.splat_average_both(source, other, _rounded_as_at(flow, first_row) if first_row else flow)
    return splat_average(source, flow, first_row), splat_average(other, flow, first_row)


def _check(source: Tensor, flow: Tensor) -> None:
    if source.ndim != 4 or not source.is_floating_point():
        raise InvalidInputError(
            f"source must be floating with shape (B, C, H, W), got {source.dtype} {tuple(source.shape)}"
        )
    batch, _, height, width = source.shape
    if flow.shape != (batch, 2, height, width):
        raise InvalidInputError(f"flow must be {(batch, 2, height, width)}, got {tuple(flow.shape)}")


def _rounded_as_at(flow: Tensor, first_row: int) -> Tensor:
    """Return ``flow`` with dy as exact as it is when ``first_row`` is added to the rows that it is added to."""
    dtype = torch.promote_types(flow.dtype, torch.float32)
    rows = torch.arange(first_row, first_row + flow.shape[2], device=flow.device, dtype=dtype).view(-1, 1)
    dx, dy = flow[:, :1].to(dtype), flow[:, 1:].to(dtype)
    return torch.cat([dx, (rows + dy) - rows], dim=1)


def splat_average_definition(source: Tensor, flow: Tensor) -> Tensor:
    """Compute `splat_average` with plain torch operations, on any device: the oracle of the kernels."""
    batch, channels, height, width = source.shape
    grid_y, grid_x = torch.meshgrid(
        torch.arange(height, device=source.device, dtype=source.dtype),
        torch.arange(width, device=source.device, dtype=source.dtype),
        indexing="ij",
    )
    x, y = grid_x + flow[:, 0], grid_y + flow[:, 1]  # (B, H, W) where each source pixel lands
    lands = (x > -1) & (x < width) & (y > -1) & (y < height)  # false for NaN and inf
    x, y = torch.where(lands, x, 0), torch.where(lands, y, 0)
    left, top = x.floor(), y.floor()

    # A column of ones travels along: its sum is the weight that arrived.
    values = torch.cat([source, torch.ones_like(source[:, :1])], dim=1).flatten(2)  # (B, C + 1, H * W)
    sums = torch.zeros_like(values)
    for column, x_weight in ((left, left + 1 - x), (left + 1, x - left)):
        for row, y_weight in ((top, top + 1 - y), (top + 1, y - top)):
            inside = lands & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            target = torch.where(inside, row * width + column, 0).long().flatten(1)
            weight = torch.where(inside, x_weight * y_weight, 0).flatten(1)
            weighted = torch.where(inside.flatten(1)[:, None], values * weight[:, None], 0)
            sums = sums.scatter_add(2, target[:, None].expand(-1, channels + 1, -1), weighted)
    total, weights = sums[:, :-1], sums[:, -1:]
    return (total / torch.where(weights == 0, 1, weights)).view(batch, channels, height, width)
