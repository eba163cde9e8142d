"""The network's convolutions in half precision; all that has to be exact stays in float32.

Half precision halves the memory and, on GPUs with tensor cores, multiplies the speed. It is kept inside the three
convolutional boxes: images, flow, time, masks and the blending of the new frame are float32, and so is the last
convolution of the flow estimator, because half precision knows a flow of 300 pixels to a quarter of a pixel only.
Splatting and the cost volume take and give half precision, but add up in float32.

How far frames are from those in float32 depends on the weights and the motion: docs/gpu.md has numbers.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from uprnet.network.config import Precision
from uprnet.network.model import UPRNet

#: NVIDIA's first compute capability whose tensor cores take half precision (Volta).
_TENSOR_CORES = (7, 0)

_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type that convolutions compute in.

    ``auto`` is float16 on CUDA devices that are faster with it, and float32 elsewhere. It is never bfloat16, whose
    frames are some 20 dB further from float32's at the same speed; its wider range serves weights whose features exceed
    65504.

    Example:
        >>> choose_dtype("auto", torch.device("cpu")), choose_dtype("bf16", torch.device("cpu"))
        (torch.float32, torch.bfloat16)
    """
    if precision != "auto":
        return _TYPES[precision]
    has_tensor_cores = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _TENSOR_CORES
    return torch.float16 if has_tensor_cores else torch.float32


def with_convolutions_in(dtype: torch.dtype, model: UPRNet) -> UPRNet:
    """Return a copy of ``model`` for inference whose convolutions compute in ``dtype``; itself if that is float32.

    Convention:
        Images and flow go in and come out in float32, whatever the type; features and context are in ``dtype``.
    """
    if dtype == torch.float32:
        return model
    network = copy.deepcopy(model)
    head = network.flow_estimator.head
    boxes = {name: ConvolutionsIn(dtype, box.to(dtype)) for name, box in network.named_children()}
    boxes["synthesis"].register_forward_hook(lambda _box, _inputs, output: output.float())
    head.float().register_forward_pre_hook(lambda _head, inputs: inputs[0].float())
    for name, box in boxes.items():
        setattr(network, name, box)
    return network


class ConvolutionsIn(nn.Module):
    """A convolutional box whose inputs, single or in lists, are brought to its type first."""

    def __init__(self, dtype: torch.dtype, box: nn.Module) -> None:
        super().__init__()
        self.dtype = dtype
        self.box = box

    def forward(self, *inputs: Tensor | list[Tensor]) -> Any:
        """Run the box."""
        return self.box(*(self._cast(value) for value in inputs))

    def _cast(self, value: Any) -> Any:
        return value.to(self.dtype) if isinstance(value, Tensor) else [self._cast(part) for part in value]
