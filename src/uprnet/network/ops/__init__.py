"""The operators that are no convolution: average splatting, the cost volume, resizing, and blending.

Each has a public function (splatting a second one, for two tensors at once), a plain-torch definition that runs on any
device, and compiled kernels: all for the CPU, splatting and the cost volume for GPUs. `backend` decides which of them
runs.
"""

from uprnet.network.ops.backend import backend_for, use_backend
from uprnet.network.ops.blending import blend
from uprnet.network.ops.matching import cost_volume
from uprnet.network.ops.resizing import resize
from uprnet.network.ops.splatting import splat_average, splat_average_both

__all__ = ["backend_for", "blend", "cost_volume", "resize", "splat_average", "splat_average_both", "use_backend"]
