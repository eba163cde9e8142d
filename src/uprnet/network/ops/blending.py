"""Blending: the last step of a new frame, from two warped frames and what the synthesis says about them."""

from __future__ import annotations

import torch
from torch import Tensor

from uprnet.network.ops import cpu
from uprnet.network.ops.backend import backend_for, is_plain_call


def blend(warped0: Tensor, warped1: Tensor, raw: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the new frame, and the weighted mean of the warped frames that it is made of.

    Args:
        warped0: First image, warped to time ``t``, ``(B, 3, H, W)``.
        warped1: Second image, like ``warped0``.
        raw: What the synthesis says, ``(B, 5, H, W)`` in (0, 1): the residual, halved and plus a half, and the trust in
            either image.
        t: Time, ``(B, 1, 1, 1)`` or ``(1, 1, 1, 1)``.

    Returns:
        The frame in [0, 1], and the mean, ``(B, 3, H, W)`` each.

    Reference:
        Section 3.3 of the paper, see `uprnet.network.model`.
    """
    tensors = (warped0, warped1, raw, t)
    is_same = raw.dtype in (torch.float32, torch.float64) and all(one.dtype == raw.dtype for one in tensors)
    if is_same and backend_for(raw) == "numba" and is_plain_call(*tensors):
        return cpu.blend(warped0, warped1, raw, t)
    return blend_definition(warped0, warped1, raw, t)


def blend_definition(warped0: Tensor, warped1: Tensor, raw: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `blend` with plain torch operations, on any device: the oracle of the kernel."""
    weight0, weight1 = raw[:, 3:4] * (1 - t), raw[:, 4:5] * t
    merged = torch.lerp(warped1, warped0, weight0 / (weight0 + weight1))  # their weighted mean
    return (merged + (2 * raw[:, :3] - 1)).clamp(0, 1), merged
