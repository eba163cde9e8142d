"""What is made small: differences of frames, errors of flow, and how well features match.

Convention:
    Every loss is one number per item of the batch, ``(B,)``. Their mean is the loss of the batch, so that a batch
    split over processes or accumulated in parts gives the same gradient. Images are RGB in [0, 1].
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from uprnet.network.model import FLOW_STRIDE
from uprnet.network.ops import resize
from uprnet.network.ops.cpu_kernels import NUM_DISPLACEMENTS, RADIUS, SIDE

CHARBONNIER_EPSILON = 1e-6  # squared intensity (section 4.1 of the paper)
CENSUS_RADIUS = 3  # pixels: a 7x7 neighbourhood (Meister et al. 2018)
CENSUS_SOFTNESS = 0.81  # squared intensity at which a difference saturates (Meister et al. 2018)
CENSUS_TOLERANCE = 0.1  # squared difference of descriptors at which the distance saturates (Meister et al. 2018)
GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # of R, G and B (ITU-R BT.601)
LAPLACIAN_LEVELS = 5  # (Niklaus and Liu 2018)
PSNR_EPSILON = 1e-5  # squared intensity: beyond 50 dB, noise and rounding of the target are all that is left


def charbonnier(img_t: Tensor, target: Tensor) -> Tensor:
    """Smooth absolute difference, ``mean(sqrt((img_t - target)^2 + 1e-6))``.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)``.
        target: True frames, like ``img_t``.

    Returns:
        ``(B,)``.

    Reference:
        UPR-Net, section 4.1.
    """
    return ((img_t - target).square() + CHARBONNIER_EPSILON).sqrt().flatten(1).mean(dim=1)


def census(img_t: Tensor, target: Tensor) -> Tensor:
    """Difference of local structure, which a change of brightness leaves alone.

    Each pixel of the grey image is described by the differences ``d`` to its 7x7 neighbourhood (zero outside the
    image), softened to ``d / sqrt(0.81 + d^2)``. The distance of two descriptors is the mean over the 49 of
    ``e^2 / (0.1 + e^2)``. The outermost pixel on each side counts 0.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)``.
        target: True frames, like ``img_t``; no gradient flows into them.

    Returns:
        ``(B,)``.

    Reference:
        UPR-Net, section 4.1; Meister et al., "UnFlow", AAAI 2018.
    """
    distance: Tensor = _CensusDistance.apply(_grey(img_t), _grey(target))  # type: ignore[no-untyped-call]
    return distance


def laplacian(img_t: Tensor, target: Tensor) -> Tensor:
    """Absolute difference of Laplacian pyramids; band ``i`` weighs ``2 ** i``, so broad errors count.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)``.
        target: True frames, like ``img_t``.

    Returns:
        ``(B,)``.

    Reference:
        Niklaus and Liu, "Context-aware Synthesis for Video Frame Interpolation", CVPR 2018; EMA-VFI, CVPR 2023.
    """
    # The pyramid is linear: that of the difference is the difference of the pyramids.
    band = img_t - target
    total = img_t.new_zeros(img_t.shape[0])
    for index in range(LAPLACIAN_LEVELS):
        last = index == LAPLACIAN_LEVELS - 1 or min(band.shape[2:]) < 4
        low = band if last else _blur(band)[:, :, ::2, ::2]
        detail = band if last else band - F.interpolate(low, size=band.shape[2:], mode="bilinear", align_corners=False)
        total = total + 2**index * detail.abs().flatten(1).mean(dim=1)
        if last:
            break
        band = low
    return total


def psnr(img_t: Tensor, target: Tensor) -> Tensor:
    """Negative PSNR, in decibel: a sample that is nearly right teaches as much as one that is far off.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)``.
        target: True frames, like ``img_t``.

    Returns:
        ``(B,)``.

    Reference:
        Chen et al., "HINet: Half Instance Normalization Network for Image Restoration", CVPR workshops 2021.
    """
    return 10 * ((img_t - target).square().flatten(1).mean(dim=1) + PSNR_EPSILON).log10()


def flow_error(flow: Tensor, true_flow: Tensor, level: int) -> Tensor:
    """End-point error of one level's flow, both directions, at every pixel that it moves.

    The flow is enlarged as the synthesis enlarges it: at edges, the flow of a cell that is then best is not that of
    its middle.

    Args:
        flow: Estimated flow of the level, ``(B, 4, h/4, w/4)``, in pixels of that level.
        true_flow: True flow at full resolution, ``(B, 4, H, W)``, full-resolution pixels; NaN where nobody knows it,
            which counts as no error.
        level: Which level ``flow`` is of.

    Returns:
        ``(B,)``, in pixels of that level.
    """
    difference = resize(flow, FLOW_STRIDE * 2**level) - true_flow / 2**level
    squared = torch.where(true_flow.isfinite(), difference, 0).square()
    both = squared[:, 0::2] + squared[:, 1::2]  # (B, 2, H, W), one for each direction
    error: Tensor = (both + CHARBONNIER_EPSILON).sqrt().flatten(1).mean(dim=1)
    return error


def matching(costs: Tensor, true_flow: Tensor, level: int, sharpness: Tensor) -> Tensor:
    """Cross-entropy of the cost volume of unwarped features against the true displacement.

    Where the true motion from frame 0 to frame 1 lies within the 81 displacements and inside the frame, the
    nearest of them should cost the most. It teaches features that can be matched before the flow means anything.

    Args:
        costs: Cost volume of the unwarped features of a level, ``(B, 81, h/4, w/4)``.
        true_flow: True flow at full resolution, ``(B, 4, H, W)``, full-resolution pixels; NaN where nobody knows it.
        level: Which level ``costs`` is of.
        sharpness: Factor on the costs before the softmax, one learned number.

    Returns:
        ``(B,)``; 0 where no pixel qualifies.
    """
    height, width = costs.shape[2:]
    truth = flow_at_level(true_flow, level)[:, :2].div(FLOW_STRIDE).round()
    displacement = truth.nan_to_num(RADIUS + 1).long()  # beyond what is looked at
    dx, dy = displacement[:, 0], displacement[:, 1]
    x = torch.arange(width, device=costs.device) + dx
    y = torch.arange(height, device=costs.device)[:, None] + dy
    valid = (dx.abs() <= RADIUS) & (dy.abs() <= RADIUS)
    valid = valid & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = ((dy + RADIUS) * SIDE + dx + RADIUS).clamp(0, NUM_DISPLACEMENTS - 1)
    entropy = F.cross_entropy(sharpness * costs, index, reduction="none") * valid
    return entropy.flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1).clamp(min=1)


def flow_at_level(true_flow: Tensor, level: int) -> Tensor:
    """Sample full-resolution flow on a level's quarter grid, in pixels of that level.

    The value nearest to the middle of each cell is taken: averages would invent motion along edges.

    Args:
        true_flow: ``(B, C, H, W)``, full-resolution pixels.
        level: 0 is full resolution.

    Returns:
        ``(B, C, H / 2^(level + 2), W / 2^(level + 2))``.
    """
    cell = FLOW_STRIDE * 2**level
    sampled: Tensor = true_flow[:, :, cell // 2 :: cell, cell // 2 :: cell] / 2**level
    return sampled


class _CensusDistance(torch.autograd.Function):
    """Census distance of grey images ``(B, H, W)``, with its gradient worked out on the way.

    Left to autograd, each of the 48 shifted views costs a full-size gradient of its own: a fifth of a training step.
    """

    @staticmethod
    def forward(ctx: Any, grey_t: Tensor, target: Tensor) -> Tensor:
        batch, height, width = grey_t.shape
        radius = CENSUS_RADIUS
        both = F.pad(torch.cat((grey_t, target)), (radius, radius, radius, radius))
        counts = torch.zeros(height + 2 * radius, width + 2 * radius, dtype=both.dtype, device=both.device)
        counts[radius + 1 : radius + height - 1, radius + 1 : radius + width - 1] = 1
        total = both.new_zeros(batch)
        gradient = torch.zeros_like(both[:batch])
        # The distance for neighbour +o of a pixel is that for neighbour -o of the other: half the offsets suffice.
        for dy, dx in _half_neighbourhood(radius):
            first, second = _overlap(both, dy, dx)
            weight = torch.add(*_overlap(counts, dy, dx))
            difference = second - first
            inverse = difference.square().add_(CENSUS_SOFTNESS).rsqrt_()
            soft = difference.mul_(inverse)
            error = soft[:batch] - soft[batch:]
            squared = error.square()
            tolerated = (squared + CENSUS_TOLERANCE).reciprocal_()
            total += squared.mul_(tolerated).mul_(weight).sum(dim=(1, 2))
            # d/de e^2 / (a + e^2) = 2 a e / (a + e^2)^2;   d/dd d / sqrt(s + d^2) = s / (s + d^2)^1.5
            slope = error.mul_(tolerated.square_()).mul_(weight).mul_(inverse[:batch].pow_(3))
            slope.mul_(2 * CENSUS_TOLERANCE * CENSUS_SOFTNESS)
            gradient_first, gradient_second = _overlap(gradient, dy, dx)
            gradient_first -= slope
            gradient_second += slope
        mean = 1 / ((2 * radius + 1) ** 2 * height * width)
        inner = gradient[:, radius : radius + height, radius : radius + width]
        ctx.save_for_backward(inner * mean)
        return total * mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grads[0].view(-1, 1, 1) * gradient, None


def _grey(image: Tensor) -> Tensor:
    red, green, blue = GREY_WEIGHTS
    grey: Tensor = red * image[:, 0] + green * image[:, 1] + blue * image[:, 2]
    return grey


def _half_neighbourhood(radius: int) -> list[tuple[int, int]]:
    """One of each pair of opposite offsets ``(dy, dx)`` in the neighbourhood, without the middle."""
    reach = range(-radius, radius + 1)
    return [(dy, dx) for dy in range(radius + 1) for dx in reach if dy > 0 or dx > 0]


def _overlap(planes: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Views of all pixels ``p`` for which ``p + (dx, dy)`` is inside, and of those ``p + (dx, dy)``; ``dy >= 0``."""
    height, width = planes.shape[-2:]
    left, right = max(0, -dx), width - max(0, dx)
    first = planes[..., : height - dy, left:right]
    second = planes[..., dy:, left + dx : right + dx]
    return first, second


def _blur(image: Tensor) -> Tensor:
    """Binomial 5x5 window, reflecting at the border; by shifted sums, which autocast leaves in float32."""
    padded = F.pad(image, (2, 2, 2, 2), mode="reflect")
    for axis in (2, 3):
        size = image.shape[axis]
        far0, near0, middle, near1, far1 = (padded.narrow(axis, start, size) for start in range(5))
        padded = (far0 + far1 + 4 * (near0 + near1) + 6 * middle) / 16
    return padded
