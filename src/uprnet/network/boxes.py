"""The three convolutional boxes of UPR-Net: tensors in, tensors out, shared by all pyramid levels.

All arithmetic but splatting, the cost volume, resizing and blending is in here, so that an engine (`uprnet.engines`)
can take a box over. `uprnet.network.model` puts them together, and says what the tensors mean.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uprnet.network.ops.activation import PReLU
from uprnet.network.ops.cpu_kernels import NUM_DISPLACEMENTS

#: Negative slope of LeakyReLU in the feature pyramid, after the cost volume and in the flow estimator.
LEAKY_SLOPE = 0.1


def _run(stage: nn.Sequential, parts: list[Tensor]) -> Tensor:
    """Run ``stage`` on ``parts`` side by side; the list is emptied, so that nothing outlives its use."""
    tensor = torch.cat(parts, dim=1)
    parts.clear()
    for layer in stage:
        tensor = layer(tensor)
    return tensor


def _in_float32(head: nn.Module, features: Tensor) -> Tensor:
    """Run a last convolution; under autocast, too, in float32: flow and colours need its digits."""
    if torch.is_autocast_enabled(features.device.type):
        with torch.autocast(features.device.type, enabled=False):
            return _in_float32(head, features.float())
    output: Tensor = head(features)
    return output


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)


class FeaturePyramid(nn.Module):
    """Extract features of an image at full, half and quarter size (section 3.1)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.stage0 = self._stage(3, c, stride=1)
        self.stage1 = self._stage(c, 2 * c, stride=2)
        self.stage2 = self._stage(2 * c, 4 * c, stride=2)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for index in range(4):
            layers += [
                _conv(inputs, outputs, stride) if index == 0 else _conv(outputs, outputs),
                nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            ]
        return nn.Sequential(*layers)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features ``(B, c, H, W)``, ``(B, 2c, H/2, W/2)`` and ``(B, 4c, H/4, W/4)``."""
        c0 = self.stage0(image)
        c1 = self.stage1(c0)
        return c0, c1, self.stage2(c1)


class FlowEstimator(nn.Module):
    """Estimate motion both ways from the cost volume, features and the coarser level's result (section 3.2)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        inputs = NUM_DISPLACEMENTS + 3 * 4 * c + 4
        widths = [10 * c, 8 * c, 7 * c, 6 * c, 4 * c]
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, widths[0], kernel_size=1),
            nn.LeakyReLU(LEAKY_SLOPE, True),
        ]
        for before, after in pairwise(widths):
            layers += [_conv(before, after), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = _conv(widths[-1], 4)

    def forward(
        self, costs: Tensor, warped0: Tensor, warped1: Tensor, context: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the new flow ``(B, 4, h/4, w/4)`` and context ``(B, 4c, h/4, w/4)``; inputs on the same grid."""
        costs = F.leaky_relu(costs, LEAKY_SLOPE)
        context = self.layers(torch.cat([costs, warped0, warped1, context, flow], dim=1))
        return _in_float32(self.head, context), context


class FrameSynthesis(nn.Module):
    """Turn warped frames and features into the residual and masks of the new frame: a U-Net (section 3.3)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        d = 2 * c
        self.encode0 = self._stage(_conv(19, d), d)
        self.encode1 = self._stage(_conv(d + 2 * c, 2 * d, stride=2), 2 * d, depth=3)
        self.encode2 = self._stage(_conv(2 * d + 4 * c, 4 * d, stride=2), 4 * d, depth=3)
        self.decode1 = self._stage(self._up(4 * d + 8 * c, 2 * d), 2 * d)
        self.decode2 = self._stage(self._up(4 * d, d), d)
        self.decode3 = self._stage(_conv(2 * d, d), d)
        self.head = _conv(d, 5)

    @staticmethod
    def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)

    @staticmethod
    def _stage(first: nn.Module, width: int, depth: int = 2) -> nn.Sequential:
        layers: list[nn.Module] = [first, PReLU(width)]
        for _ in range(depth - 1):
            layers += [_conv(width, width), PReLU(width)]
        return nn.Sequential(*layers)

    def forward(self, images: list[Tensor], c0: list[Tensor], c1: list[Tensor], c2: list[Tensor]) -> Tensor:
        """Return 5 channels before their sigmoids: residual (3), mask of img0, mask of img1.

        The lists are emptied, so that features that only they hold are dropped once they were used.

        Args:
            images: Coarse frame, both warped images, both images, ``(B, 3, h, w)`` each, and flow_0t and flow_1t,
                ``(B, 2, h, w)`` each.
            c0: Warped full-size features of the two frames, ``(B, c, h, w)`` each.
            c1: Warped half-size features of the two frames, ``(B, 2c, h/2, w/2)`` each.
            c2: Warped quarter-size features of the two frames, ``(B, 4c, h/4, w/4)`` each.
        """
        outer = [_run(self.encode0, images)]  # (B, d, h, w)
        c0.insert(0, outer[0])
        middle = [_run(self.encode1, c0)]  # (B, 2d, h/2, w/2)
        c1.insert(0, middle[0])
        c2.insert(0, _run(self.encode2, c1))  # (B, 4d, h/4, w/4)
        middle.insert(0, _run(self.decode1, c2))  # (B, 2d, h/2, w/2)
        outer.insert(0, _run(self.decode2, middle))  # (B, d, h, w)
        return _in_float32(self.head, _run(self.decode3, outer))  # (B, d, h, w) before the head
