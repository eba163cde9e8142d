"""Training with the engine `numba`: convolutions by Winograd's algorithm, forward and backward.

`torch` spends three quarters of a training step in convolutions, most of it in their backward passes. Those with 3 x 3
taps and stride 1 are two to three times as fast by Winograd's algorithm, all three ways: the output, the gradient of
the input (a convolution with the turned weights), and the gradient of the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uprnet.engines import gradient_kernels as kernels
from uprnet.engines.graph import Convolution
from uprnet.engines.numba import THREE_TAPS_SQUARE, Chain, channels_last, panel_widths, table_row
from uprnet.network.ops import cpu
from uprnet.network.ops.vectors import LANES, VECTOR

#: Fewer channels than these on either side are not worth the transforms.
MIN_CHANNELS = 16

#: Fewer tiles than these are not worth the transform of the weights.
MIN_TILES = 96

#: Tiles whose gradients are summed up on their own, so that threads can share the work: the sums of each such part are
#: added up at the end. That the parts depend on sizes alone keeps the result the same for any number of threads.
TILES_OF_PART = 256
MAX_PARTS = 16

#: Bytes of the transformed tiles that are worked on at once, about, and the fewest and most tiles.
CHUNK_BYTES = 2**20
CHUNK_TILES = (16, 128)

#: What each of Winograd's products is worth to each of the 3 x 3 taps, ``(36, 9)``.
_TAPS_OF_POINTS = THREE_TAPS_SQUARE.float().numpy()


def use_winograd(network: nn.Module) -> None:
    """Let the convolutions of a network that gain from it work by Winograd's algorithm, in training, too.

    Parameters and names stay. What does not fit (other types or devices, tiny pictures) goes to torch, as before.

    Args:
        network: Any module; its convolutions are changed in place.

    Example:
        >>> layer = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
        >>> use_winograd(layer)
        >>> layer(torch.zeros(1, 16, 64, 64)).shape
        torch.Size([1, 16, 64, 64])
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _gains(module):
            module.__class__ = WinogradConv2d


def _gains(layer: nn.Conv2d) -> bool:
    is_plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding == (1, 1)
    is_plain = is_plain and layer.padding_mode == "zeros" and layer.bias is not None
    fits = layer.kernel_size == (3, 3) and layer.stride == (1, 1)
    return is_plain and fits and min(layer.in_channels, layer.out_channels) >= MIN_CHANNELS


class WinogradConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` of 3 x 3 taps, stride 1 and padding 1, faster on the CPU in float32."""

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """Return the convolution of ``(B, C, H, W)``, channels-last."""
        fits = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32
        fits = fits and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
        if not fits or _tiles(input) < MIN_TILES:
            return super().forward(input)
        output: Tensor = _Convolve.apply(input, self.weight, self.bias, self._chains())  # type: ignore[no-untyped-call]
        return output

    def prepare(self) -> None:
        """Transform the weights ahead of the next step, if they have changed; else its first user does."""
        _ = self._chains().input_gradient

    def _chains(self) -> _Chains:
        """Return what runs the convolution, made anew when weights or bias have changed."""
        parameters = [(parameter.data_ptr(), parameter._version) for parameter in self.parameters()]
        known: tuple[object, _Chains] | None = self.__dict__.get("_known_chains")
        if known is None or known[0] != parameters:
            known = self.__dict__["_known_chains"] = parameters, _Chains(self.weight, self.bias)
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made from the weights: it holds addresses of memory."""
        return {name: value for name, value in self.__dict__.items() if name != "_known_chains"}


class _Chains:
    """A convolution's weights, transformed: for the output, and for the gradient of the input."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight.detach()
        self.output = _chain(self._weight, bias)
        self._input_gradient: Chain | None = None

    @property
    def input_gradient(self) -> Chain:
        if self._input_gradient is None:
            self._input_gradient = _chain(self._weight.flip(2, 3).transpose(0, 1), None)
        return self._input_gradient


def _chain(weight: Tensor, bias: Tensor | None) -> Chain:
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    return Chain([Convolution("output", ("input",), weight, bias)])


class _Convolve(torch.autograd.Function):
    """A convolution and its gradients."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, weight: Tensor, _bias: Tensor, chains: _Chains) -> Tensor:
        source = channels_last(source)
        ctx.save_for_backward(source, weight)  # the weights, so that torch notices if they have changed by then
        ctx.chains = chains
        return chains.output.run({"input": source})

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        source, _ = ctx.saved_tensors
        gradient = channels_last(grads[0])
        of_source, of_weight, of_bias = ctx.needs_input_grad[:3]
        return (
            ctx.chains.input_gradient.run({"input": gradient}) if of_source else None,
            weight_gradient(source, gradient) if of_weight else None,
            gradient.sum(dim=(0, 2, 3)) if of_bias else None,
            None,
        )


def weight_gradient(source: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weights of a 3 x 3 convolution with stride 1 and padding 1.

    Args:
        source: What the convolution read, ``(B, inputs, H, W)``, float32, channels-last.
        gradient: Gradient of what it made, ``(B, outputs, H, W)``, float32, channels-last.

    Returns:
        ``(outputs, inputs, 3, 3)``; the same for any number of threads.
    """
    batch, inputs, height, width = source.shape
    outputs = gradient.shape[1]
    vectors_in, vectors_out = -(-inputs // LANES), -(-outputs // LANES)
    rows = batch * (-(-height // 4))
    parts = min(max(_tiles(source) // TILES_OF_PART, 1), MAX_PARTS, rows)
    sums = source.new_zeros(parts, kernels.POINTS, vectors_in * LANES, vectors_out * LANES)
    tables = (np.array([table_row(source)], np.int64), np.array([table_row(gradient)], np.int64))
    panels = np.array(panel_widths(vectors_out), np.int64)
    pixels = (vectors_in + vectors_out) * VECTOR
    chunk = min(max(CHUNK_BYTES // (kernels.POINTS * pixels), CHUNK_TILES[0]), CHUNK_TILES[1])
    scratch = kernels.POINTS * ((chunk + 1) * pixels + 2 * VECTOR)
    jobs = [(rows * part // parts, rows * (part + 1) // parts, sums[part].data_ptr()) for part in range(parts)]

    def work(job: tuple[int, int, int]) -> None:
        first, end, place = job
        memory = cpu.thread_memory(scratch).ctypes.data
        kernels.add_weight_gradient(*tables, height, width, panels, chunk, first, end, memory, place)

    cpu.share_out(work, jobs)
    taps = source.new_empty(3, 3, *sums.shape[2:])
    kernels.add_up_taps(sums.flatten(2).numpy(), _TAPS_OF_POINTS, taps.view(9, -1).numpy())
    return taps[:, :, :inputs, :outputs].permute(3, 2, 0, 1)


def _tiles(tensor: Tensor) -> int:
    return tensor.shape[0] * -(-tensor.shape[2] // 4) * -(-tensor.shape[3] // 4)
