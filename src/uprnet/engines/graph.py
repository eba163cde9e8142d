"""The three boxes of the network as lists of convolutions, from which each engine builds what it runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uprnet.network.boxes import LEAKY_SLOPE, FeaturePyramid, FlowEstimator, FrameSynthesis
from uprnet.network.ops.cpu_kernels import NUM_DISPLACEMENTS


@dataclass(frozen=True)
class Convolution:
    """A convolution of tensors that are concatenated, with bias and activation.

    Attributes:
        output: Name of what it makes.
        inputs: Names of what it reads, concatenated in this order.
        weight: ``(outputs, inputs, k, k)``, or ``(inputs, outputs, 4, 4)`` if transposed, float32.
        bias: ``(outputs,)``.
        stride: 1 or 2; the padding is k // 2. A transposed one has stride 2 and padding 1.
        is_transposed: Whether it doubles the size.
        slopes: ``(outputs,)``, what negative outputs are multiplied by; None for no activation.
    """

    output: str
    inputs: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    stride: int = 1
    is_transposed: bool = False
    slopes: Tensor | None = None

    @property
    def channels(self) -> tuple[int, int]:
        """Input and output channels."""
        first, second = self.weight.shape[:2]
        return (first, second) if self.is_transposed else (second, first)


@dataclass(frozen=True)
class Graph:
    """A box: what goes in, what is computed in which order, what comes out.

    Attributes:
        inputs: Name and channels of each input, in the order of the box's ``forward``, pairs one by one.
        layers: The convolutions, each after those whose outputs it reads.
        outputs: Names of what comes out.
        rectified: Negative slope of inputs that go through a LeakyReLU first.
    """

    inputs: dict[str, int]
    layers: tuple[Convolution, ...]
    outputs: tuple[str, ...]
    rectified: dict[str, float]


def describe(box: nn.Module) -> Graph:
    """Return the graph of one of the network's boxes.

    Raises:
        TypeError: If ``box`` is none of them.
    """
    if isinstance(box, FeaturePyramid):
        return _pyramid(box)
    if isinstance(box, FlowEstimator):
        return _flow_estimator(box)
    if isinstance(box, FrameSynthesis):
        return _synthesis(box)
    raise TypeError(f"no box of the network: {type(box).__name__}")


def _pyramid(box: FeaturePyramid) -> Graph:
    layers = [
        *_stage("c0", ("image",), box.stage0),
        *_stage("c1", ("c0",), box.stage1),
        *_stage("c2", ("c1",), box.stage2),
    ]
    return Graph({"image": 3}, tuple(layers), ("c0", "c1", "c2"), {})


def _flow_estimator(box: FlowEstimator) -> Graph:
    features = box.head.in_channels
    inputs = {"costs": NUM_DISPLACEMENTS, "warped0": features, "warped1": features, "context": features, "flow": 4}
    layers = _stage("new_context", tuple(inputs), box.layers)
    head = _convolution("new_flow", ("new_context",), box.head, None)
    return Graph(inputs, (*layers, head), ("new_flow", "new_context"), {"costs": LEAKY_SLOPE})


def _synthesis(box: FrameSynthesis) -> Graph:
    c = box.head.in_channels // 2
    images = {"coarse": 3, "warped0": 3, "warped1": 3, "image0": 3, "image1": 3, "flow0": 2, "flow1": 2}
    features = {"c0_0": c, "c0_1": c, "c1_0": 2 * c, "c1_1": 2 * c, "c2_0": 4 * c, "c2_1": 4 * c}
    layers = [
        *_stage("e0", tuple(images), box.encode0),
        *_stage("e1", ("e0", "c0_0", "c0_1"), box.encode1),
        *_stage("e2", ("e1", "c1_0", "c1_1"), box.encode2),
        *_stage("u1", ("e2", "c2_0", "c2_1"), box.decode1),
        *_stage("u2", ("u1", "e1"), box.decode2),
        *_stage("u3", ("u2", "e0"), box.decode3),
        _convolution("head", ("u3",), box.head, None),
    ]
    return Graph(images | features, tuple(layers), ("head",), {})


def _stage(output: str, inputs: tuple[str, ...], stage: nn.Sequential) -> list[Convolution]:
    """Return the convolutions of a stage, which alternate with their activations."""
    modules = list(stage)
    layers = []
    for number, (module, activation) in enumerate(zip(modules[::2], modules[1::2], strict=True)):
        is_last = 2 * number + 2 == len(modules)
        name = output if is_last else f"{output}_{number}"
        layers.append(_convolution(name, inputs, module, activation))
        inputs = (name,)
    return layers


def _convolution(output: str, inputs: tuple[str, ...], module: nn.Module, activation: nn.Module | None) -> Convolution:
    assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    assert module.bias is not None
    slopes = None
    if isinstance(activation, nn.PReLU):
        slopes = _numbers(activation.weight)
    elif isinstance(activation, nn.LeakyReLU):
        slopes = torch.full_like(_numbers(module.bias), activation.negative_slope)
    return Convolution(
        output,
        inputs,
        _numbers(module.weight),
        _numbers(module.bias),
        module.stride[0],
        isinstance(module, nn.ConvTranspose2d),
        slopes,
    )


def _numbers(weights: Tensor) -> Tensor:
    return weights.detach().float().cpu()
