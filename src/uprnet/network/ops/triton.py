"""GPU kernels of the operators: Triton, registered with torch so that autograd, compile and export see them.

Tensors are read and written channels-last, so that the channels of a pixel are moved together. Splatting adds with
atomic operations, in whatever order the GPU comes by: results of two runs differ in the last bits. Where
`torch.use_deterministic_algorithms` asks for it, source pixels are sorted by where they land instead, and each target
pixel gathers its own in a fixed order. All else is deterministic anyway.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor

from uprnet.network.ops import triton_kernels as kernels
from uprnet.network.ops.autograd import differentiate_cost_volume, differentiate_splat
from uprnet.network.ops.backend import is_plain_call
from uprnet.network.ops.cpu_kernels import NUM_DISPLACEMENTS, RADIUS, SIDE

logger = logging.getLogger(__name__)

#: Elements of a tensor that a program holds at a time: four for each of its 128 threads, which leaves them registers.
_BLOCK = 512

#: Channels that a program holds at most: 32 floats fill a line of 128 bytes in the GPU's cache.
_MAX_CHANNELS = 32


@cache
def runs_on(device: torch.device) -> bool:
    """Return whether the kernels run on ``device``: tried once, because drivers and compilers fail in many ways.

    Triton needs a GPU that it knows (of NVIDIA's those from compute capability 7.0 on) and a C compiler. Where it
    fails, one line in the log says why.
    """
    try:
        _splat_now(torch.ones(1, 1, 2, 2, device=device), torch.zeros(1, 2, 2, 2, device=device))
        torch.cuda.synchronize(device)
    except Exception as error:
        # Whatever it was, plain torch still runs.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        logger.warning("Triton does not run on %s; plain torch does, but slower (%s)", device, reason)
        return False
    return True


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _empty(like: Tensor, channels: int | None = None) -> Tensor:
    """Make a channels-last tensor like another, with another number of channels if that is given."""
    batch, own, height, width = like.shape
    return like.new_empty(batch, height, width, own if channels is None else channels).permute(0, 3, 1, 2)


def _sums_type(tensor: Tensor) -> torch.dtype:
    """Return the type in which sums of ``tensor`` are kept."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _numbers(tensor: Tensor) -> tuple[int, int, int]:
    """Return the number of pixels in the whole batch, the height and the width."""
    batch, _, height, width = tensor.shape
    return batch * height * width, height, width


def _block(tensor: Tensor) -> dict[str, Any]:
    """Return the block of pixels and channels that a program takes of ``tensor``, and whether its sums are double."""
    width = min(1 << max(tensor.shape[1] - 1, 0).bit_length(), _MAX_CHANNELS)  # Triton wants powers of two
    return {"block_p": _BLOCK // width, "block_c": width, "is_double": tensor.dtype == torch.float64}


def _launch(kernel: Any, programs: int, constants: dict[str, Any], *arguments: Tensor | int) -> None:
    """Run so many programs of ``kernel`` for each block of pixels; their number is the first integer argument."""
    pixels = next(argument for argument in arguments if isinstance(argument, int))
    if pixels:
        with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]  # Triton launches on the current one
            kernel[-(-pixels // constants["block_p"]), programs](*arguments, **constants)


def _splat_now(source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    source, block = _contiguous(source), _block(source)
    pixels, channels = flow[:, 0].numel(), source.shape[1]
    programs = -(-channels // block["block_c"])
    where = (pixels, *source.shape[2:], *flow.stride(), channels)
    out = _empty(source)
    sums_type = _sums_type(source)
    weights = source.new_zeros(flow[:, 0].shape, dtype=sums_type)
    if torch.are_deterministic_algorithms_enabled():
        order, starts = _by_cell(flow, is_double=block["is_double"])
        _launch(kernels.splat_gather, programs, block, source, flow, order, starts, out, weights, *where)
    else:
        sums = torch.zeros_like(source, dtype=sums_type)
        _launch(kernels.splat_add, programs, block, source, flow, sums, weights, *where)
        del block["is_double"]
        _launch(kernels.splat_divide, programs, block, sums, weights, out, pixels, channels)
    return out, weights


_splat = torch.library.custom_op("uprnet::splat_average_triton", _splat_now, mutates_args=())


@_splat.register_fake
def _(source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    return _empty(source), source.new_empty(flow[:, 0].shape, dtype=_sums_type(source))


def _by_cell(flow: Tensor, is_double: bool) -> tuple[Tensor, Tensor]:
    """Sort the source pixels by the cell (the square between four pixels) that they land in.

    Returns:
        The indices of the pixels, sorted, and where in them each cell starts, with one more entry for the end of the
        last. The cells are numbered as `triton_kernels.splat_cells` does.
    """
    batch, _, height, width = flow.shape
    cells, pixels = batch * (height + 1) * (width + 1), batch * height * width
    cell = torch.empty(pixels, dtype=torch.int32, device=flow.device)
    constants = {"is_double": is_double, "block_p": _BLOCK}
    _launch(kernels.splat_cells, 1, constants, flow, cell, pixels, height, width, *flow.stride(), cells)
    ordered, order = cell.sort(stable=True)
    numbers = torch.arange(cells + 1, dtype=torch.int32, device=flow.device)
    return order, torch.searchsorted(ordered, numbers, out_int32=True)


@torch.library.custom_op("uprnet::splat_average_triton_backward", mutates_args=())
def _splat_backward(
    grad: Tensor, source: Tensor, flow: Tensor, warped: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    source, grad_source, grad_flow = _contiguous(source), _empty(source), _empty(flow)
    where = (weights.numel(), *source.shape[2:], *flow.stride(), source.shape[1])
    tensors = (_contiguous(grad), source, flow, warped, weights, grad_source, grad_flow)
    _launch(kernels.splat_backward, 1, _block(source), *tensors, *where)
    return grad_source, grad_flow


@_splat_backward.register_fake
def _(grad: Tensor, source: Tensor, flow: Tensor, warped: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return _empty(source), _empty(flow)


def _cost_volume_now(features0: Tensor, features1: Tensor) -> Tensor:
    costs = _empty(features0, NUM_DISPLACEMENTS)
    where = (features0[:, 0].numel(), *features0.shape[2:], features0.shape[1])
    constants = {**_block(features0), "radius": RADIUS}
    _launch(kernels.cost_volume, SIDE, constants, _contiguous(features0), _contiguous(features1), costs, *where)
    return costs


_cost_volume = torch.library.custom_op("uprnet::cost_volume_triton", _cost_volume_now, mutates_args=())


@_cost_volume.register_fake
def _(features0: Tensor, features1: Tensor) -> Tensor:  # noqa: ARG001
    return _empty(features0, NUM_DISPLACEMENTS)


@torch.library.custom_op("uprnet::cost_volume_triton_backward", mutates_args=())
def _cost_volume_backward(grad: Tensor, features0: Tensor, features1: Tensor) -> tuple[Tensor, Tensor]:
    grad0, grad1 = _empty(features0), _empty(features1)
    channels, constants = features0.shape[1], {**_block(features0), "radius": RADIUS}
    tensors = (_contiguous(grad), _contiguous(features0), _contiguous(features1), grad0, grad1)
    where = (features0[:, 0].numel(), *features0.shape[2:], channels)
    _launch(kernels.cost_volume_backward, -(-channels // constants["block_c"]), constants, *tensors, *where)
    return grad0, grad1


@_cost_volume_backward.register_fake
def _(grad: Tensor, features0: Tensor, features1: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return _empty(features0), _empty(features1)


differentiate_splat(_splat, _splat_backward)
differentiate_cost_volume(_cost_volume, _cost_volume_backward)


def splat_average(source: Tensor, flow: Tensor) -> Tensor:
    """Run the kernels of `uprnet.network.ops.splat_average` on checked tensors of any floating type."""
    run = _splat_now if is_plain_call(source, flow) else _splat
    warped: Tensor = run(source, flow)[0]
    return warped


def cost_volume(features0: Tensor, features1: Tensor) -> Tensor:
    """Run the kernel of `uprnet.network.ops.cost_volume` on checked tensors of any floating type."""
    run = _cost_volume_now if is_plain_call(features0, features1) else _cost_volume
    costs: Tensor = run(features0, features1)
    return costs
