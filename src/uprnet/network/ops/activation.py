"""PReLU without a second copy of the tensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uprnet.network.ops import cpu
from uprnet.network.ops.backend import backend_for


class PReLU(nn.PReLU):
    """`torch.nn.PReLU` by a kernel where there is one: in place when no gradient is asked for.

    Torch has no in-place PReLU; at 640 x 480 the second copy costs a tenth of the whole network. Its gradient of
    channels-last tensors takes several times as long as need be: a tenth of a training step.
    """

    def forward(self, tensor: Tensor) -> Tensor:
        """Return ``tensor`` with negative values multiplied by their channel's slope; ``tensor`` may be reused."""
        has_kernel = (
            not torch.compiler.is_compiling()  # a compiler fuses the plain one
            and backend_for(tensor) == "numba"
            and type(tensor) is Tensor
            and tensor.dtype == self.weight.dtype
            and tensor.dtype in (torch.float32, torch.float64)
            and tensor.is_contiguous(memory_format=torch.channels_last)
        )
        if not has_kernel:
            return super().forward(tensor)
        if torch.is_grad_enabled() and (tensor.requires_grad or self.weight.requires_grad):
            return cpu.prelu(tensor, self.weight)
        cpu.prelu_(tensor, self.weight)
        return tensor
