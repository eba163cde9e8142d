"""The cost volume: how well each pixel matches its 81 nearest neighbours in the other frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uprnet.errors import InvalidInputError
from uprnet.network.ops import cpu
from uprnet.network.ops.backend import backend_for
from uprnet.network.ops.cpu_kernels import RADIUS, SIDE


def cost_volume(features0: Tensor, features1: Tensor) -> Tensor:
    """Correlate each pixel of ``features0`` with the 9 x 9 neighbourhood of that pixel in ``features1``.

    Channel ``(dy + 4) * 9 + (dx + 4)`` at ``(x, y)`` is the mean over channels of
    ``features0(x, y) * features1(x + dx, y + dy)``; outside the picture ``features1`` is 0.

    Convention:
        dx is positive right, dy positive down, in pixels of the features, from -4 to 4.

    Args:
        features0: Features of the frame to match from, ``(B, C, H, W)``, floating.
        features1: Features of the frame to match to, like ``features0``.

    Returns:
        The cost volume, ``(B, 81, H, W)``. Differentiable in both arguments.

    Raises:
        InvalidInputError: If the two differ in size or type, or are not floating ``(B, C, H, W)``.

    Example:
        >>> cost_volume(torch.ones(1, 3, 5, 5), torch.ones(1, 3, 5, 5))[0, :, 2, 2].sum()
        tensor(25.)

    Reference:
        Sun et al., "PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume", CVPR 2018.
    """
    if features0.ndim != 4 or not features0.is_floating_point():
        raise InvalidInputError(
            f"features must be floating with shape (B, C, H, W), got {features0.dtype} {tuple(features0.shape)}"
        )
    if features0.shape != features1.shape or features0.dtype != features1.dtype:
        raise InvalidInputError(
            "features0 and features1 must have the same size and type, "
            f"got {features0.dtype} {tuple(features0.shape)} and {features1.dtype} {tuple(features1.shape)}"
        )
    backend = backend_for(features0)
    if backend == "triton":
        from uprnet.network.ops import triton  # imports an optional library

        return triton.cost_volume(features0, features1)
    dtype = features0.dtype if features0.dtype == torch.float64 else torch.float32
    wide0, wide1 = features0.to(dtype), features1.to(dtype)
    compute = cpu.cost_volume if backend == "numba" else cost_volume_definition
    return compute(wide0, wide1).to(features0.dtype)


def cost_volume_definition(features0: Tensor, features1: Tensor) -> Tensor:
    """Compute `cost_volume` with plain torch operations, on any device: the oracle of the kernels."""
    _, _, height, width = features0.shape
    padded = F.pad(features1, [RADIUS] * 4)
    costs = [
        (features0 * padded[:, :, dy : dy + height, dx : dx + width]).mean(dim=1)
        for dy in range(SIDE)
        for dx in range(SIDE)
    ]
    return torch.stack(costs, dim=1)
