"""The engine `onnxruntime`: Microsoft's inference library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from uprnet.engines.graph import Convolution, Graph

#: Versions of the format that every ONNX Runtime of the last years reads: of the file, and of its operators.
_FORMAT, _OPERATORS = 8, 17


def build(graph: Graph) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Return a function that runs ``graph``: from its inputs, ``(B, C, H, W)`` each, to its outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch's threads need the cores, too
    session = onnxruntime.InferenceSession(
        _model(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: tensor.contiguous().numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)}
        found = session.run(list(graph.outputs), arrays)
        return [torch.from_numpy(array).contiguous(memory_format=torch.channels_last) for array in found]

    return run


def _model(graph: Graph) -> Any:
    nodes: list[Any] = []
    constants: list[Any] = []
    renamed = {name: f"{name}_rectified" for name in graph.rectified}
    for name, slope in graph.rectified.items():
        nodes.append(helper.make_node("LeakyRelu", [name], [renamed[name]], alpha=slope))
    for layer in graph.layers:
        _add_layer(layer, [renamed.get(name, name) for name in layer.inputs], nodes, constants)
    channels = {layer.output: layer.channels[1] for layer in graph.layers}
    made = helper.make_graph(
        nodes,
        "box",
        [_tensor(name, count) for name, count in graph.inputs.items()],
        [_tensor(name, channels[name]) for name in graph.outputs],
        constants,
    )
    return helper.make_model(made, ir_version=_FORMAT, opset_imports=[helper.make_opsetid("", _OPERATORS)])


def _tensor(name: str, channels: int) -> Any:
    # The sizes are left open, so that the same session takes any.
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, channels, None, None])


def _add_layer(layer: Convolution, inputs: list[str], nodes: list[Any], constants: list[Any]) -> None:
    def constant(name: str, tensor: Tensor) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(tensor.numpy()), f"{layer.output}_{name}"))
        return f"{layer.output}_{name}"

    joined = inputs[0]
    if len(inputs) > 1:
        joined = f"{layer.output}_joined"
        nodes.append(helper.make_node("Concat", inputs, [joined], axis=1))
    padding = 1 if layer.is_transposed else layer.weight.shape[-1] // 2
    plain = layer.output if layer.slopes is None else f"{layer.output}_plain"
    kind = "ConvTranspose" if layer.is_transposed else "Conv"
    operands = [joined, constant("weight", layer.weight), constant("bias", layer.bias)]
    nodes.append(helper.make_node(kind, operands, [plain], strides=[layer.stride] * 2, pads=[padding] * 4))
    if layer.slopes is not None:
        slopes = constant("slopes", layer.slopes.view(-1, 1, 1))
        nodes.append(helper.make_node("PRelu", [plain, slopes], [layer.output]))
