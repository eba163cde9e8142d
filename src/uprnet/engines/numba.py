"""The engine `numba`: convolutions compiled for this very processor, with nothing to install.

Convolutions that follow each other directly form a chain. A chain is run a few rows at a time, so that what passes from
one to the next stays in the cache and never travels to memory and back; rows that will be needed once more are kept.
Where the share of one thread meets that of another, they are passed on (`uprnet.engines.shares`). All are computed in
tiles that are counted from the top of the picture, so that the result is the same for any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uprnet.engines import kernels
from uprnet.engines.graph import Convolution, Graph
from uprnet.engines.shares import Rows, Seam, Share, reach, rows_at_once, share_rows
from uprnet.engines.winograd import ROW_MULTIPLE
from uprnet.network.ops import cpu
from uprnet.network.ops.vectors import LANES, NUMBER, VECTOR

#: Winograd's transform of three taps, at the points 0, 1, -1, 2, -2 and infinity.
_THREE_TAPS = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]).double() / 24

#: The same for 3 x 3 taps at once, ``(36, 9)``.
THREE_TAPS_SQUARE = torch.kron(_THREE_TAPS, _THREE_TAPS)

#: Of two taps, at the points 0, 1, -1, 2 and infinity.
_TWO_TAPS = torch.tensor([[3, 0], [-3, -3], [-1, 1], [1, 2], [0, 6]]).double() / 6

#: Tiles that are worked on at once: their products stay in a core's own cache.
TILES_AT_ONCE = ROW_MULTIPLE

#: The same for pixels, which have one product each where a tile has 25 or 36.
PIXELS_AT_ONCE = 4 * ROW_MULTIPLE

#: Bytes that a layer makes at once, about, for the next one: so few that they stay in the cache.
STEP_BYTES = 2**20

#: Sizes of pictures that a chain remembers its layout for: the levels of a pyramid, and stripes of them.
MAX_LAYOUTS = 32

#: Fewer input channels than these are not worth Winograd's transforms.
MIN_WINOGRAD_CHANNELS = 12


def build(graph: Graph) -> Callable[[list[Tensor]], list[Tensor]]:
    """Return a function that runs ``graph``: from its inputs, ``(B, C, H, W)`` each, to its outputs.

    The list of inputs is emptied, so that those that nobody else holds are dropped once they were used.
    """
    return _Program(graph)


class _Program:
    """A graph, ready to run."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._chains = [Chain(layers) for layers in _chains(graph)]

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        graph = self._graph
        known = dict(zip(graph.inputs, (channels_last(tensor) for tensor in inputs), strict=True))
        inputs.clear()
        for name, slope in graph.rectified.items():
            known[name] = F.leaky_relu(known[name], slope)
        last_use = {name: chain for chain in self._chains for name in chain.reads}
        for chain in self._chains:
            known[chain.output] = chain.run(known)
            for name in [name for name in known if last_use.get(name) is chain and name not in graph.outputs]:
                del known[name]
        return [known[name] for name in graph.outputs]


def _chains(graph: Graph) -> list[list[Convolution]]:
    """Split the layers where an output is needed by more than the next layer, or the size changes."""
    uses = [name for layer in graph.layers for name in layer.inputs] + list(graph.outputs)
    chains: list[list[Convolution]] = []
    for layer in graph.layers:
        before = chains[-1][-1].output if chains else ""
        follows = before in layer.inputs and uses.count(before) == 1
        if follows and layer.stride == 1:
            chains[-1].append(layer)
        else:
            chains.append([layer])
    return chains


@dataclass(frozen=True)
class _Prepared:
    """A layer's numbers as the kernels take them."""

    layer: Convolution
    is_winograd: bool
    groups: int
    taps: int
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    slopes: NDArray[np.float32]
    panels: list[int]

    @property
    def stride(self) -> int:
        """The stride of the convolution that is computed: a transposed one is four with stride 1."""
        return 1 if self.layer.is_transposed else self.layer.stride

    @property
    def tile_rows(self) -> int:
        """Rows of output that are computed together."""
        if not self.is_winograd:
            return 1
        return 8 if self.layer.is_transposed else 4

    @property
    def chunk(self) -> int:
        """Tiles or pixels that are worked on at once."""
        return TILES_AT_ONCE if self.is_winograd else PIXELS_AT_ONCE

    @property
    def rows(self) -> Rows:
        """What sharing out rows needs to know."""
        return Rows(self.tile_rows, self.taps // 2, self.weights.size / self.tile_rows**2)

    def scratch(self) -> int:
        """Bytes that a kernel needs beside its inputs and outputs."""
        inputs, _ = self.layer.channels
        wide, out = -(-inputs // LANES), sum(self.panels) * self.groups
        if self.is_winograd:
            products, patch, phases = (36, 36, 1) if self.stride == 1 else (25, 81, 4)
            return VECTOR * (16 + patch * wide + products * (self.chunk * (phases * wide + out) + 2))
        rows = self.taps * ((self.chunk - 1) * self.stride + self.taps) * inputs * NUMBER
        return VECTOR * (1 + self.chunk * out + 1) + rows


def _prepare(layer: Convolution) -> _Prepared:
    weight = layer.weight.double()
    parts = _four_parts(weight) if layer.is_transposed else [weight]
    outputs, inputs, taps, _ = parts[0].shape
    vectors = -(-outputs // LANES)
    padded = weight.new_zeros(len(parts), vectors * LANES, inputs, taps, taps, dtype=torch.float64)
    padded[:, :outputs] = torch.stack(parts)
    is_winograd = taps == 3 and (layer.is_transposed or inputs >= MIN_WINOGRAD_CHANNELS)
    if not is_winograd:
        products = [padded[0].permute(2, 3, 1, 0).flatten(0, 2)[None]]
    elif layer.stride == 2 and not layer.is_transposed:
        products = _products_of_phases(padded[0])
    else:
        products = [_products(padded)]
    panels = panel_widths(vectors)
    widths = [LANES * width for width in panels]
    pieces = [
        torch.cat([part.flatten(1) for part in torch.split(matrices, widths, dim=2)], dim=1).flatten()
        for matrices in products
    ]
    bias = np.zeros((len(parts), vectors * LANES), np.float32)
    slopes = np.ones_like(bias)
    bias[:, :outputs] = layer.bias.numpy()
    if layer.slopes is not None:
        slopes[:, :outputs] = layer.slopes.numpy()
    return _Prepared(layer, is_winograd, len(parts), taps, torch.cat(pieces).float().numpy(), bias, slopes, panels)


def _products(weights: Tensor) -> Tensor:
    """Return the matrices ``(inputs, outputs)`` of Winograd's 36 products, in each the groups one by one.

    ``weights`` are ``(groups, outputs, inputs, 3, 3)``; of the four groups of a transposed convolution, products that
    are zero are left out.
    """
    groups, outputs, inputs = weights.shape[:3]
    spread = THREE_TAPS_SQUARE @ weights.permute(3, 4, 0, 2, 1).reshape(9, -1)
    matrices = spread.view(36 * groups, inputs, outputs)
    if groups == 1:
        return matrices
    kept = [
        (6 * y + x) * groups + group
        for y in range(6)
        for x in range(6)
        for group in range(groups)
        if y != (0 if group // 2 else 5) and x != (0 if group % 2 else 5)
    ]
    return matrices[kept]


def _products_of_phases(weight: Tensor) -> list[Tensor]:
    """Return the matrices ``(1, phases * inputs, outputs)`` of the 25 products of a convolution with stride 2.

    A phase is what the convolution does with even or odd rows and columns of the input: an output needs the odd ones on
    both sides of it, by taps 0 and 2, and the even one, by tap 1. One tap has no product at infinity.
    """
    taps = weight.new_tensor([[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]]])  # parity, tap of two, tap of three
    spread = torch.einsum("ik,ykm,ocmn,xln,jl->ijyxco", _TWO_TAPS, taps, weight, taps, _TWO_TAPS)
    return [
        spread[i, j, : 1 if i == 4 else 2, : 1 if j == 4 else 2].flatten(0, 2)[None] for i in range(5) for j in range(5)
    ]


def _four_parts(weight: Tensor) -> list[Tensor]:
    """Turn a transposed convolution of 4 x 4 taps into four of 3 x 3 taps, one for each of 2 x 2 output pixels.

    An even output reads input 0 by tap 1 and input -1 by tap 3, an odd one input 0 by tap 2 and input 1 by tap 0.
    """
    inputs, outputs = weight.shape[:2]
    taps = {0: ((0, 3), (1, 1)), 1: ((1, 2), (2, 0))}
    parts = []
    for odd_y in (0, 1):
        for odd_x in (0, 1):
            part = weight.new_zeros(outputs, inputs, 3, 3)
            for y, tap_y in taps[odd_y]:
                for x, tap_x in taps[odd_x]:
                    part[:, :, y, x] = weight[:, :, tap_y, tap_x].T
            parts.append(part)
    return parts


def panel_widths(vectors: int) -> list[int]:
    """Split a row of vectors into panels of at most 4, as even as possible."""
    count = -(-vectors // 4)
    return [vectors // count + (i < vectors % count) for i in range(count)]


@dataclass(frozen=True)
class _Layout:
    """What the kernels need to know of a chain for pictures of one size.

    Numbers of Python's own, no array: one that stays would cut the heap in two where tensors come and go.
    """

    size: tuple[int, int]  # rows and columns of the output
    layers: tuple[tuple[int, ...], ...]  # the numbers of each layer
    shares: tuple[Share, ...]  # what each thread makes
    step: int  # rows of output that are made at once
    links: int  # bytes of what passes from layer to layer
    seam: int  # bytes of what passes from share to share
    joined: int  # bytes of the joined inputs of the first layer


class Chain:
    """Layers of which each reads the one before, and nobody else does."""

    def __init__(self, layers: Sequence[Convolution]) -> None:
        self._layers = [_prepare(layer) for layer in layers]
        self.output = layers[-1].output
        links = {layer.output: layer.channels[1] for layer in layers[:-1]}
        #: Name of each input of each layer, and channels of those that are links: outputs of the layer before.
        self._inputs = [(name, links.get(name, 0)) for layer in layers for name in layer.inputs]
        self.reads = [name for name, channels in self._inputs if not channels]
        self._panels = np.array([width for layer in self._layers for width in layer.panels], np.int64)
        self._scratch = -(-max(layer.scratch() for layer in self._layers) // VECTOR) * VECTOR
        self._unit = rows_at_once([layer.rows for layer in self._layers])
        self._layout = lru_cache(MAX_LAYOUTS)(self._lay_out)

    def run(self, known: dict[str, Tensor]) -> Tensor:
        """Return the output of the last layer."""
        like = known[self.reads[0]]  # its type and place, not what is torch's default
        batch, _, height, width = like.shape
        inputs = [[0, 0, 0, 0, channels] if channels else table_row(known[name]) for name, channels in self._inputs]
        count = len(self._layers[0].layer.inputs)
        channels = tuple(row[kernels.CHANNELS] for row in inputs[:count])
        threads = cpu.num_threads()
        shares = threads // math.gcd(threads, batch)  # of each item, so that all threads have equally much to do
        layout = self._layout(height, width, channels, shares)
        shape = batch, self._layers[-1].layer.channels[1], *layout.size
        out = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        layers, read, written = (np.array(rows, np.int64) for rows in (layout.layers, inputs, table_row(out)))
        tables = (layers, read, self._panels, written)
        seams = [[Seam(layout.seam if share.gives else 0) for share in layout.shares] for _ in range(batch)]
        # From the bottom to the top: a share takes rows of the one below it.
        jobs = [(item, number) for item in range(batch) for number in reversed(range(len(layout.shares)))]
        cpu.share_out(lambda job: self._make(layout, tables, job[0], job[1], seams[job[0]]), jobs)
        return out

    def _make(
        self, layout: _Layout, tables: tuple[NDArray[np.int64], ...], item: int, number: int, seams: list[Seam]
    ) -> None:
        """Make one share of one item of the batch."""
        share = layout.shares[number]
        scratch = cpu.thread_memory(self._scratch + layout.links + layout.joined + VECTOR).ctypes.data
        links = scratch + self._scratch
        memory = (scratch, links, links + layout.links)
        starts, held, done, ends = (
            np.array(rows, np.int64) for rows in (share.starts, share.starts, share.starts, share.ends)
        )
        below = seams[number + 1].address if share.takes else 0

        def make(first: int, end: int, step: int) -> None:
            kernels.convolve(*tables, *memory, item, held, done, ends, below, first, end, step)

        first = share.first
        if share.gives:
            make(first, min(first + self._unit, share.end), self._unit)
            kernels.save_seam(tables[0], links, starts, seams[number].address)
            seams[number].finish()
            first += self._unit
        if share.takes:
            make(first, share.alone, layout.step)
            first = max(first, share.alone)
            if not seams[number + 1].wait():
                ends[:-1] = layout.size[0]
        make(first, share.end, layout.step)

    def _lay_out(self, height: int, width: int, channels: tuple[int, ...], threads: int) -> _Layout:
        """Work out what `run` needs for inputs of some size; ``channels`` are those of the first layer's inputs."""
        table = np.zeros((len(self._layers), kernels.LAYER_COLUMNS), np.int64)
        rows = [prepared.rows for prepared in self._layers]
        first = panels = joined = 0
        row_bytes: list[int] = []  # of each layer's output, as the next one reads it
        for row, prepared in zip(table, self._layers, strict=True):
            layer = prepared.layer
            channels_in, channels_out = layer.channels
            end = first + len(layer.inputs)
            numbers = (prepared.weights, prepared.bias, prepared.slopes)
            is_plain = prepared.stride == prepared.groups == 1
            is_joined = first == 0 and prepared.is_winograd and is_plain and _are_thin(channels)
            if is_joined:
                joined = -(-channels_in // LANES) * VECTOR * width
            row[: kernels.LINK] = (
                prepared.is_winograd,
                height,
                width,
                channels_in,
                channels_out,
                prepared.groups,
                prepared.taps,
                prepared.stride,
                prepared.chunk,
                *(array.ctypes.data for array in numbers),
                first,
                end,
                panels,
                panels := panels + len(prepared.panels),
                is_joined,
                prepared.tile_rows,
            )
            first = end
            if layer.is_transposed:
                height, width = 2 * height, 2 * width
            else:
                height, width = (height - 1) // layer.stride + 1, (width - 1) // layer.stride + 1
            row_bytes.append(-(-channels_out // LANES) * VECTOR * width)
        step = max(STEP_BYTES // max(row_bytes) // self._unit, 1) * self._unit
        links = seam = overlap = 0  # bytes; rows above and below those of the output that a layer makes, at most
        for i in range(len(rows) - 2, -1, -1):
            overlap = reach(rows[i:])
            table[i, kernels.LINK :] = links, seam
            links += (step + 2 * overlap) * row_bytes[i] + VECTOR
            seam += (rows[i].unit - 1 + 2 * rows[i + 1].padding) * row_bytes[i]
        layers = tuple(map(tuple, table.tolist()))
        shares = tuple(share_rows(rows, height, threads))
        return _Layout((height, width), layers, shares, step, links, seam, joined * (step + 2 * overlap + 2))


def _are_thin(channels: Sequence[int]) -> bool:
    """Return whether inputs of so many channels fill fewer vectors side by side than one by one."""
    return -(-sum(channels) // LANES) < sum(-(-count // LANES) for count in channels)


def table_row(tensor: Tensor) -> list[int]:
    """Return a tensor's row in a table of tensors."""
    item, _, row, pixel = (NUMBER * stride for stride in tensor.stride())
    return [tensor.data_ptr(), item, row, pixel, tensor.shape[1]]


def channels_last(tensor: Tensor) -> Tensor:
    """Return the tensor with the channels of a pixel side by side: itself, or a copy."""
    return tensor if tensor.stride(1) == 1 else tensor.contiguous(memory_format=torch.channels_last)
