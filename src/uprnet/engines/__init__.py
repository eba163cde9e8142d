"""What runs the convolutions: torch, or something faster.

All arithmetic of the network is in three boxes of convolutions, `FeaturePyramid`, `FlowEstimator` and `FrameSynthesis`,
with two operators between them. An engine takes over the boxes; everything else stays with torch. Training has torch's
modules, and the convolutions of the engine `numba` inside them (`uprnet.engines.gradients`).

| engine | what it is | needs |
|---|---|---|
| ``torch`` | the modules themselves, on any device | nothing |
| ``numba`` | Winograd's algorithm, compiled for this very processor | nothing |
| ``ncnn`` | Tencent's inference library | ``pip install uprnet[fast]`` |
| ``openvino`` | Intel's inference library | ``pip install uprnet[fast]`` |
| ``onnxruntime`` | Microsoft's inference library | ``pip install uprnet[fast]`` |

Each builds what it runs in memory, from the network's weights, and takes any size without building anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, get_args

import torch
from torch import Tensor, nn

from uprnet.engines.graph import Graph, describe
from uprnet.errors import InvalidInputError, MissingDependencyError
from uprnet.network.config import Engine
from uprnet.network.model import BOXES, UPRNet

#: A box that an engine has built: from the box's inputs, a list that it may empty, to its outputs.
Run = Callable[[list[Tensor]], list[Tensor]]

#: What an engine needs to have installed.
LIBRARIES = {"ncnn": ("ncnn",), "openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx")}


def choose(
    engine: Engine, device: torch.device, dtype: torch.dtype = torch.float32, *, compile: bool = False
) -> Engine:
    """Return the engine that serves: ``auto`` becomes the fastest one for the device.

    On the CPU that is ``numba``; it was the fastest in every measurement (docs/performance.md), and is always there.

    Args:
        engine: What was asked for.
        device: Where the network lives. Engines other than ``torch`` run on the CPU.
        dtype: What it computes in. Engines other than ``torch`` compute in float32.
        compile: Whether `torch.compile` shall be used, which only ``torch`` can.

    Raises:
        InvalidInputError: If the engine is unknown, or does not go with the rest.
        MissingDependencyError: If it is not installed.

    Example:
        >>> choose("auto", torch.device("cpu"))
        'numba'
    """
    if engine not in get_args(Engine):
        raise InvalidInputError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    fits = device.type == "cpu" and dtype == torch.float32 and not compile
    if engine == "auto":
        return "numba" if fits else "torch"
    if engine != "torch" and not fits:
        raise InvalidInputError(
            f"engine {engine} runs on the CPU, in fp32, without torch.compile, got {device}, {dtype}; take engine torch"
        )
    missing = [name for name in LIBRARIES.get(engine, ()) if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"engine {engine} needs {missing[0]}, which is not installed; pip install uprnet[fast]"
        )
    return engine


def attach(network: UPRNet, engine: Engine) -> UPRNet:
    """Return a network that computes the same frames, with its boxes run by ``engine``; the given one stays as it is.

    Args:
        network: A network on the CPU, float32. Later changes of its weights are not seen.
        engine: One that `choose` returned.

    Example:
        >>> fast = attach(UPRNet(), choose("auto", torch.device("cpu")))
        >>> fast(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 32, 48), t=0.5).frame.shape
        torch.Size([1, 3, 32, 48])
    """
    if engine == "torch":
        return network
    build: Callable[[Graph], Run] = import_module(f"uprnet.engines.{engine}").build
    attached = copy.copy(network)
    attached._modules = {name: Box(build(describe(getattr(network, name)))) for name in BOXES}
    return attached


class Box(nn.Module):
    """A box of the network as an engine runs it: called as the module that it replaces. It has no gradient."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def forward(self, *inputs: Any) -> Any:
        """Return what the replaced module returns."""
        flat: list[Tensor] = []
        for part in inputs:
            if isinstance(part, list):
                flat += part
                part.clear()
            else:
                flat.append(part)
        outputs = self._run(flat)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]
