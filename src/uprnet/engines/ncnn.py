"""The engine `ncnn`: Tencent's inference library, with Winograd's algorithm for every kind of processor.

Reference:
    https://github.com/Tencent/ncnn (BSD-3), docs/developer-guide/param-and-model-file-structure.md.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ncnn
import numpy as np
import torch
from torch import Tensor

from uprnet.engines.graph import Convolution, Graph
from uprnet.errors import UprnetError

#: First line of the text format: its version.
_MAGIC = "7767517"

#: Tag of weights that are stored as plain float32.
_FLOAT32 = b"\0\0\0\0"


def build(graph: Graph) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Return a function that runs ``graph``: from its inputs, ``(B, C, H, W)`` each, to its outputs."""
    text, weights = _Text(graph), b"".join(_weights(layer) for layer in graph.layers)
    net = ncnn.Net()
    net.opt.lightmode = True
    net.opt.num_threads = torch.get_num_threads()
    # Results as torch's: all numbers stay float32.
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    if net.load_param_mem(text.whole()) or net.load_model(_Memory(weights)):
        raise UprnetError(f"ncnn {ncnn.__version__} does not take the network; update ncnn, or take another engine")

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        items = [_run_item(net, graph, text, item) for item in zip(*inputs, strict=True)]
        return [torch.stack(parts).contiguous(memory_format=torch.channels_last) for parts in zip(*items, strict=True)]

    return run


def _run_item(net: Any, graph: Graph, text: _Text, inputs: Sequence[Tensor]) -> list[Tensor]:
    extractor = net.create_extractor()
    for name, tensor in zip(graph.inputs, inputs, strict=True):
        channels, height, width = tensor.shape
        mat = ncnn.Mat(width, height, channels)  # ncnn wants each channel aligned, which a numpy array may not be
        torch.from_numpy(np.asarray(mat)).copy_(tensor)
        extractor.input(name, mat)
    found = []
    for name in text.outputs:
        _, mat = extractor.extract(name)
        found.append(torch.from_numpy(np.array(mat)))
    return found


class _Text:
    """A graph in ncnn's text format, where each name may be read once: `Split` makes copies of it."""

    def __init__(self, graph: Graph) -> None:
        renamed = {name: f"{name}_rectified" for name in graph.rectified}
        read = [[renamed.get(name, name) for name in layer.inputs] for layer in graph.layers]
        self._uses = Counter([*renamed, *(name for names in read for name in names), *graph.outputs])
        self._copies: dict[str, list[str]] = {}
        self._lines: list[str] = []
        self._names = 0
        for name in graph.inputs:
            self._add("Input", [], name)
        for name, slope in graph.rectified.items():
            self._add("ReLU", [name], renamed[name], f"0={slope:.9e}")
        for layer, names in zip(graph.layers, read, strict=True):
            self._add_layer(layer, names)
        self.outputs = [self._take(name) for name in graph.outputs]

    def whole(self) -> str:
        """Return the text."""
        return "\n".join([_MAGIC, f"{len(self._lines)} {self._names}", *self._lines]) + "\n"

    def _add_layer(self, layer: Convolution, inputs: list[str]) -> None:
        joined = inputs
        if len(inputs) > 1:
            joined = [f"{layer.output}_joined"]
            self._add("Concat", inputs, joined[0], "0=0")
        _, outputs = layer.channels
        taps = layer.weight.shape[-1]
        padding = 1 if layer.is_transposed else taps // 2
        sizes = f"0={outputs} 1={taps} 3={layer.stride} 4={padding} 5=1 6={layer.weight.numel()}"
        kind = "Deconvolution" if layer.is_transposed else "Convolution"
        if layer.slopes is None:
            self._add(kind, joined, layer.output, sizes)
        else:
            plain = f"{layer.output}_plain"
            self._add(kind, joined, plain, sizes)
            self._add("PReLU", [plain], layer.output, f"0={outputs}")

    def _add(self, kind: str, inputs: list[str], output: str, settings: str = "") -> None:
        taken = [self._take(name) for name in inputs]
        self._line(kind, taken, [output], settings)
        count = self._uses[output]
        if count > 1:
            self._copies[output] = [f"{output}_copy{number}" for number in range(count)]
            self._line("Split", [output], self._copies[output])

    def _take(self, name: str) -> str:
        return self._copies[name].pop() if name in self._copies else name

    def _line(self, kind: str, inputs: list[str], outputs: list[str], settings: str = "") -> None:
        name = f"{kind.lower()}_{outputs[0]}"
        self._names += len(outputs)
        self._lines.append(" ".join([kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs, settings]))


def _weights(layer: Convolution) -> bytes:
    weight = layer.weight.transpose(0, 1) if layer.is_transposed else layer.weight
    parts = [weight, layer.bias] if layer.slopes is None else [weight, layer.bias, layer.slopes]
    return _FLOAT32 + b"".join(part.contiguous().numpy().tobytes() for part in parts)


class _Memory(ncnn.DataReader):  # type: ignore[misc]
    """Gives ncnn the weights, which it copies; its own reader of memory would point into what Python may free."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data, self._place = data, 0

    def read(self, target: Any, size: int) -> int:
        """Write the next ``size`` bytes to the address in the capsule ``target``."""
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        ctypes.memmove(pointer(target, None), self._data[self._place : self._place + size], size)
        self._place += size
        return size
