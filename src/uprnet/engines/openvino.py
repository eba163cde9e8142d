"""The engine `openvino`: Intel's inference library, on any x86 or ARM processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import openvino
import torch
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor
from torch import Tensor

from uprnet.engines.graph import Convolution, Graph


def build(graph: Graph) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Return a function that runs ``graph``: from its inputs, ``(B, C, H, W)`` each, to its outputs."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(_model(graph), "CPU", settings)
    request = compiled.create_infer_request()

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        # Channels last, as torch has them here, is what OpenVINO computes in, too.
        arrays = [tensor.permute(0, 2, 3, 1).contiguous().numpy() for tensor in inputs]
        found = request.infer(arrays, share_inputs=True)
        return [torch.from_numpy(found[port].copy()).permute(0, 3, 1, 2) for port in compiled.outputs]

    return run


def _model(graph: Graph) -> Any:
    inputs = {name: ops.parameter([-1, channels, -1, -1], name=name) for name, channels in graph.inputs.items()}
    known: dict[str, Any] = dict(inputs)
    for name, slope in graph.rectified.items():
        known[name] = ops.prelu(known[name], ops.constant([slope], dtype="f4"))
    for layer in graph.layers:
        known[layer.output] = _layer(layer, [known[name] for name in layer.inputs])
    model = openvino.Model([known[name] for name in graph.outputs], list(inputs.values()), "box")
    layouts = PrePostProcessor(model)
    for number in range(len(graph.inputs)):
        layouts.input(number).tensor().set_layout(openvino.Layout("NHWC"))
        layouts.input(number).model().set_layout(openvino.Layout("NCHW"))
    for number in range(len(graph.outputs)):
        layouts.output(number).tensor().set_layout(openvino.Layout("NHWC"))
        layouts.output(number).model().set_layout(openvino.Layout("NCHW"))
    return layouts.build()


def _layer(layer: Convolution, inputs: list[Any]) -> Any:
    joined = ops.concat(inputs, axis=1) if len(inputs) > 1 else inputs[0]
    padding = 1 if layer.is_transposed else layer.weight.shape[-1] // 2
    convolve = ops.convolution_backprop_data if layer.is_transposed else ops.convolution
    made = convolve(
        joined,
        ops.constant(layer.weight.numpy()),
        strides=[layer.stride] * 2,
        pads_begin=[padding] * 2,
        pads_end=[padding] * 2,
        dilations=[1, 1],
    )
    made = ops.add(made, ops.constant(layer.bias.view(1, -1, 1, 1).numpy()))
    return made if layer.slopes is None else ops.prelu(made, ops.constant(layer.slopes.numpy()))
