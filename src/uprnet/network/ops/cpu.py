"""CPU kernels of the operators: numba, registered with torch so that autograd, compile and export see them.

Tensors are read and written channels-last: the channels of a pixel lie side by side, so that one pixel's
position is worked out once and its channels are moved together. Work is split into bands of rows, one a
thread of `_pool`; each band is written by one thread in a fixed order, so that there is no race, and the result
is the same from run to run and for any number of threads.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numba import typeof
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

from uprnet.network.ops import cpu_kernels as kernels
from uprnet.network.ops.autograd import differentiate_cost_volume, differentiate_splat
from uprnet.network.ops.backend import is_plain_call

#: Multiply-adds or moves below which one thread is faster than several.
_SINGLE_THREAD_WORK = 100_000


#: Bytes of an output that is added to at random, small enough to stay in a core's cache.
_CACHED_BYTES = 2**20

Job = TypeVar("Job")

#: Kernels that are compiled, with the types they are compiled for.
_compiled: set[tuple[object, torch.dtype]] = set()

#: Makes memory that a forked process does not share; where nothing is forked, there is no such choice.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}

_local = threading.local()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="uprnet-ops")


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")


@contextmanager
def threads_of_our_own() -> Iterator[None]:
    """Let the kernels here have all threads, and torch's own operators, in this thread of Python, one.

    After each of torch's operators its threads spin for milliseconds, on the cores that the kernels need: a frame that
    is made by kernels of ours takes a quarter longer. Where they are told to sleep (``OMP_WAIT_POLICY``, which the
    command line sets before torch is loaded), they stay. Nothing changes for other threads of Python.
    """
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" or num_threads() == 1:
        yield
        return
    before = getattr(_local, "threads", None)
    threads = num_threads()
    with _openmp().limit(limits=1):
        _local.threads = threads
        try:
            yield
        finally:
            _local.threads = before


def num_threads() -> int:
    """Return how many threads the kernels may use: as many as torch may, or might before `threads_of_our_own`."""
    threads: int | None = getattr(_local, "threads", None)
    return threads or torch.get_num_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has no threads but its own


def share_out(work: Callable[[Job], None], jobs: Iterable[Job]) -> None:
    """Do ``work`` on each of some jobs, on as many threads as torch may use; they are begun in the order given."""
    waiting = deque(jobs)

    def help_out() -> None:
        while waiting:
            try:
                job = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            work(job)

    threads = min(num_threads(), len(waiting))
    helpers = [_pool(threads).submit(help_out) for _ in range(threads - 1)]
    try:
        help_out()
    finally:  # whatever was raised, Ctrl-C, too: nobody may go on writing to memory that the caller frees now
        waiting.clear()
        wait(helpers)
    for helper in helpers:
        helper.result()


def thread_memory(size: int) -> NDArray[np.uint8]:
    """Return this thread's own memory, at least ``size`` bytes, which start with a whole vector.

    They come straight from the system: pages that are not touched take no memory, and the heap gets no holes.
    """
    memory: NDArray[np.uint8] | None = getattr(_local, "memory", None)
    if memory is None or len(memory) < size:
        memory = _local.memory = np.frombuffer(mmap.mmap(-1, size, **_PRIVATE), np.uint8)
    return memory


def _in_bands(
    kernel: Any, rows: int, work: int, *tensors: Tensor, rows_at_once: int | None = None, scratch: int = 0
) -> None:
    """Run ``kernel(*arrays, first_row, end_row)`` over all rows: a band for each thread, in steps of some rows.

    If it needs scratch memory, so many numbers of it, in an array of the tensors' type, come after the arrays.
    """
    arrays = [tensor.detach().numpy() for tensor in tensors]

    def own() -> list[NDArray[Any]]:
        size = scratch * arrays[0].itemsize
        return [thread_memory(size)[:size].view(arrays[0].dtype)] if scratch else []

    if (kernel, tensors[0].dtype) not in _compiled:
        # In the calling thread: a pool thread that compiles waits for ever if the caller holds an import lock.
        kernel.compile(tuple(map(typeof, (*arrays, *own(), 0, 0))))
        _compiled.add((kernel, tensors[0].dtype))

    def run(first: int, end: int) -> None:
        step, memory = rows_at_once or rows, own()
        for row in range(first, end, step):
            kernel(*arrays, *memory, row, min(row + step, end))

    threads = 1 if work < _SINGLE_THREAD_WORK else min(num_threads(), rows)
    edges = [rows * i // threads for i in range(threads + 1)]
    share_out(lambda edge: run(*edge), pairwise(edges))


def _rows(tensor: Tensor) -> Tensor:
    """View or copy ``(B, C, H, W)`` as contiguous ``(B, H, W, C)``."""
    return tensor.permute(0, 2, 3, 1).contiguous()


def _unexpanded_rows(tensor: Tensor) -> Tensor:
    """Return `_rows` of a tensor, and of an expanded one of its only item."""
    return _rows(tensor[:1] if tensor.stride(0) == 0 else tensor)


def _planes(tensor: Tensor) -> Tensor:
    """View ``(B, H, W, C)`` as ``(B, C, H, W)``, channels-last."""
    return tensor.permute(0, 3, 1, 2)


def _splat_both_now(source: Tensor, other: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return two warped tensors, and the weights that arrived."""
    src, other_src, displacement = _unexpanded_rows(source), _unexpanded_rows(other), _rows(flow)
    batch, height, width, _ = displacement.shape
    channels, others = src.shape[3], other_src.shape[3]
    out, other_out = (src.new_empty(batch, height, width, count) for count in (channels, others))
    weight = src.new_empty(batch, height, width)
    lowest, highest = src.new_empty(batch, height), src.new_empty(batch, height)
    numbers = out.numel() + other_out.numel()
    _in_bands(kernels.reach, height, displacement.numel(), displacement, lowest, highest)
    rows_at_once = min(max(1, _CACHED_BYTES * height // (src.itemsize * numbers or 1)), height)
    arrays = (src, other_src, displacement, lowest, highest, out, other_out, weight)
    scratch = kernels.numbers_of_sums(rows_at_once, width, channels, others)
    _in_bands(kernels.splat, height, numbers, *arrays, rows_at_once=rows_at_once, scratch=scratch)
    return _planes(out), _planes(other_out), weight


def _splat_now(source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return the warped tensor and the weights that arrived."""
    warped, _, weights = _splat_both_now(source, source[:, :0], flow)
    return warped, weights


_splat = torch.library.custom_op("uprnet::splat_average_cpu", _splat_now, mutates_args=(), device_types="cpu")


@_splat.register_fake
def _(source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    batch, channels, height, width = source.shape
    out = source.new_empty(batch, height, width, channels)
    return _planes(out), source.new_empty(batch, height, width)


@torch.library.custom_op("uprnet::splat_average_cpu_backward", mutates_args=(), device_types="cpu")
def _splat_backward(
    grad: Tensor, source: Tensor, flow: Tensor, warped: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    src, displacement = _rows(source), _rows(flow)
    grad_source, grad_flow = torch.empty_like(src), torch.empty_like(displacement)
    arrays = (_rows(grad), src, displacement, _rows(warped), weight, grad_source, grad_flow)
    _in_bands(kernels.splat_backward, src.shape[1], src.numel(), *arrays)
    return _planes(grad_source), _planes(grad_flow)


@_splat_backward.register_fake
def _(grad: Tensor, source: Tensor, flow: Tensor, warped: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return _planes(_rows(torch.empty_like(source))), _planes(_rows(torch.empty_like(flow)))


def _cost_volume_now(features0: Tensor, features1: Tensor) -> Tensor:
    first, second = _rows(features0), _rows(features1)
    costs = first.new_empty(*first.shape[:3], kernels.NUM_DISPLACEMENTS)
    work = first.numel() * kernels.NUM_DISPLACEMENTS
    _in_bands(kernels.cost_volume, first.shape[1], work, first, second, costs)
    return _planes(costs)


_cost_volume = torch.library.custom_op("uprnet::cost_volume_cpu", _cost_volume_now, mutates_args=(), device_types="cpu")


@_cost_volume.register_fake
def _(features0: Tensor, features1: Tensor) -> Tensor:  # noqa: ARG001
    batch, _, height, width = features0.shape
    return _planes(features0.new_empty(batch, height, width, kernels.NUM_DISPLACEMENTS))


@torch.library.custom_op("uprnet::cost_volume_cpu_backward", mutates_args=(), device_types="cpu")
def _cost_volume_backward(grad: Tensor, features0: Tensor, features1: Tensor) -> tuple[Tensor, Tensor]:
    grads, first, second = _rows(grad), _rows(features0), _rows(features1)
    grad_first, grad_second = torch.empty_like(first), torch.empty_like(second)
    work = first.numel() * kernels.NUM_DISPLACEMENTS
    _in_bands(kernels.cost_volume_backward, first.shape[1], work, grads, first, second, grad_first, grad_second)
    return _planes(grad_first), _planes(grad_second)


@_cost_volume_backward.register_fake
def _(grad: Tensor, features0: Tensor, features1: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return _planes(_rows(torch.empty_like(features0))), _planes(_rows(torch.empty_like(features1)))


def resize(tensor: Tensor, height: int, width: int) -> Tensor:
    """Run the kernel of `uprnet.network.ops.resize` on a float32 or float64 CPU tensor; it has no gradient."""
    source = _rows(tensor)
    out = source.new_empty(len(source), height, width, source.shape[3])
    _in_bands(kernels.resize, height, 4 * out.numel(), source, out)
    return _planes(out)


def blend(warped0: Tensor, warped1: Tensor, raw: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Run the kernel of `uprnet.network.ops.blend` on float32 or float64 CPU tensors; it has no gradient."""
    images = (_rows(warped0), _rows(warped1))
    frame, merged = torch.empty_like(images[0]), torch.empty_like(images[0])
    times = t.flatten().expand(len(frame)).contiguous()
    _in_bands(kernels.blend, frame.shape[1], 8 * frame.numel(), *images, _rows(raw), times, frame, merged)
    return _planes(frame), _planes(merged)


def prelu_(tensor: Tensor, slopes: Tensor) -> None:
    """Apply PReLU to a channels-last ``(B, C, H, W)`` tensor in place; without gradient or tracing."""
    rows = tensor.permute(0, 2, 3, 1)
    _in_bands(kernels.prelu_, rows.shape[1], rows.numel(), rows, slopes)


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(tensor, slopes)
        rectified = tensor.clone()
        prelu_(rectified, slopes)
        return rectified

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        tensor, slopes = ctx.saved_tensors
        rows, grad = tensor.permute(0, 2, 3, 1), _rows(grads[0])
        grad_rows = rows.new_empty(rows.shape[0], rows.shape[1], rows.shape[3])
        grad_tensor = torch.empty_like(rows)
        _in_bands(kernels.prelu_backward, rows.shape[1], rows.numel(), grad, rows, slopes, grad_tensor, grad_rows)
        return _planes(grad_tensor), grad_rows.sum(dim=(0, 1))


def prelu(tensor: Tensor, slopes: Tensor) -> Tensor:
    """Apply PReLU to a channels-last ``(B, C, H, W)`` tensor, with gradients: torch's takes six times as long."""
    rectified: Tensor = _PReLU.apply(tensor, slopes)  # type: ignore[no-untyped-call]
    return rectified


differentiate_splat(_splat, _splat_backward)
differentiate_cost_volume(_cost_volume, _cost_volume_backward)


def splat_average(source: Tensor, flow: Tensor) -> Tensor:
    """Run the kernel of `uprnet.network.ops.splat_average` on checked float32 or float64 CPU tensors."""
    run = _splat_now if is_plain_call(source, flow) else _splat
    warped: Tensor = run(source, flow)[0]
    return warped


def splat_average_both(source: Tensor, other: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Run the kernel of `uprnet.network.ops.splat_average_both` on checked CPU tensors; it has no gradient."""
    warped, other_warped, _ = _splat_both_now(source, other, flow)
    return warped, other_warped


def cost_volume(features0: Tensor, features1: Tensor) -> Tensor:
    """Run the kernel of `uprnet.network.ops.cost_volume` on checked float32 or float64 CPU tensors."""
    run = _cost_volume_now if is_plain_call(features0, features1) else _cost_volume
    costs: Tensor = run(features0, features1)
    return costs
