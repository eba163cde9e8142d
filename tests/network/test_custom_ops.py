"""The kernels as torch sees them: shapes without data, autograd registration, tracing."""

from __future__ import annotations

import torch

from uprnet.network.ops import cost_volume, splat_average


def test_torch_accepts_the_registration_of_the_kernels():
    source = torch.randn(1, 3, 6, 7, requires_grad=True)
    flow = torch.randn(1, 2, 6, 7, requires_grad=True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.uprnet.splat_average_cpu.default, (source, flow), test_utils=checks)
    torch.library.opcheck(torch.ops.uprnet.cost_volume_cpu.default, (source, source * 2), test_utils=checks)


def test_export_sees_the_kernels():
    class Both(torch.nn.Module):
        def forward(self, features: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
            return cost_volume(features, splat_average(features, flow))

    inputs = torch.randn(1, 3, 6, 7), torch.randn(1, 2, 6, 7)
    exported = torch.export.export(Both(), inputs)
    torch.testing.assert_close(exported.module()(*inputs), Both()(*inputs))
    assert "uprnet.splat_average_cpu" in str(exported.graph)
