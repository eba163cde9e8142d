"""Bilinear resizing, as the network does between its levels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uprnet.network.ops import cpu
from uprnet.network.ops.backend import backend_for, is_plain_call


def resize(tensor: Tensor, scale: float) -> Tensor:
    """Resize ``(B, C, H, W)`` bilinearly by ``scale``, corners not aligned; values stay as they are.

    That is `torch.nn.functional.interpolate`, which takes several times as long for few channels on a CPU.
    """
    is_float = tensor.dtype in (torch.float32, torch.float64)
    if is_float and backend_for(tensor) == "numba" and is_plain_call(tensor):
        height, width = (size * scale for size in tensor.shape[2:])
        if height == int(height) > 0 and width == int(width) > 0:
            return cpu.resize(tensor, int(height), int(width))
    return F.interpolate(tensor, scale_factor=scale, mode="bilinear", align_corners=False)
