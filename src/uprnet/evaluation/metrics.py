"""How close a predicted frame is to the true one: PSNR, interpolation error, volumetric SSIM, end-point error.

Convention:
    Images are ``(B, 3, H, W)`` RGB in [0, 1]. Each metric gives one number per image, ``(B,)`` float64; the
    published tables are means of these over the images of a data set.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from uprnet.errors import InvalidInputError

SSIM_WINDOW = 11  # pixels, and channels, that the Gaussian window spans (Wang et al. 2004)
SSIM_SIGMA = 1.5  # pixels (Wang et al. 2004)
SSIM_C1 = 0.01**2  # stabilises the luminance term at a range of 1 (Wang et al. 2004)
SSIM_C2 = 0.03**2  # stabilises the contrast term at a range of 1 (Wang et al. 2004)
SSIM_STRIP = 64  # rows computed at once, so that a 4K pair stays far below 2 GiB


def metric_device(device: torch.device) -> torch.device:
    """Return where frames of ``device`` are measured: MPS has no float64, which the metrics need."""
    return torch.device("cpu") if device.type == "mps" else device


def psnr(img_t: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, in decibel.

    ``-10 * log10(mean((img_t - target)^2))`` over the three channels of an image, on the prediction as it is:
    not rounded to 8 bit, as the published UPR-Net numbers are. Equal images give infinity.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)`` in [0, 1].
        target: True frames, like ``img_t``.

    Returns:
        ``(B,)`` float64.

    Raises:
        InvalidInputError: If the sizes differ.

    Example:
        >>> black, grey = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1)
        >>> round(psnr(grey, black).item(), 3)
        20.0
    """
    _check_pair(img_t, target)
    squared = (img_t.double() - target.double()).square_().flatten(1)
    return -10 * torch.log10(squared.mean(dim=1))


def psnr_rounded(img_t: Tensor, target: Tensor) -> Tensor:
    """PSNR of each image after the prediction was rounded to 8 bit, as a written PNG is.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)`` in [0, 1].
        target: True frames, like ``img_t``.

    Returns:
        ``(B,)`` float64, in decibel.

    Raises:
        InvalidInputError: If the sizes differ.

    Example:
        >>> psnr_rounded(torch.full((1, 3, 8, 8), 0.501 / 255), torch.full((1, 3, 8, 8), 1 / 255)).item()
        inf
    """
    rounded = torch.round(img_t.double().clamp(0, 1) * 255) / 255
    # In the target's precision, so that the 256 values are equal to those of a decoded image.
    return psnr(rounded.to(target.dtype), target)


def interpolation_error(img_t: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of each image after rounding to 8 bit, in steps of 1/255.

    This is what frame interpolation papers call IE; the Middlebury flow benchmark's IE is a root mean square.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)`` in [0, 1].
        target: True frames, like ``img_t``.

    Returns:
        ``(B,)`` float64, 0 for equal images.

    Raises:
        InvalidInputError: If the sizes differ.

    Example:
        >>> interpolation_error(torch.full((1, 3, 8, 8), 3.4 / 255), torch.zeros(1, 3, 8, 8)).item()
        3.0
    """
    _check_pair(img_t, target)
    rounded = torch.round(img_t.double().clamp(0, 1) * 255)
    return (rounded - target.double() * 255).abs_().flatten(1).mean(dim=1)


def ssim(img_t: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image, with RGB taken as a volume three deep.

    An 11x11x11 Gaussian window of sigma 1.5 runs over width, height *and* channels; all three axes are padded
    by 5 with their outermost value. The result is the mean of the map. This is the variant behind the
    published frame interpolation tables; the usual one, per channel, gives other numbers.

    Args:
        img_t: Predicted frames, ``(B, 3, H, W)`` in [0, 1].
        target: True frames, like ``img_t``.

    Returns:
        ``(B,)`` float64, 1 for equal images.

    Raises:
        InvalidInputError: If the sizes differ.

    Example:
        >>> image = torch.rand(1, 3, 16, 16)
        >>> round(ssim(image, image).item(), 6)
        1.0

    Reference:
        Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    _check_pair(img_t, target)
    height = img_t.shape[2]
    halo = SSIM_WINDOW // 2
    totals = []
    for x, y in zip(img_t.float(), target.float(), strict=True):
        total = 0.0
        for top in range(0, height, SSIM_STRIP):
            bottom = min(top + SSIM_STRIP, height)
            # Rows that the window of this strip touches; those beyond the image repeat the outermost row.
            rows = torch.arange(top - halo, bottom + halo, device=x.device).clamp(0, height - 1)
            total += _ssim_map(x[:, rows], y[:, rows]).sum(dtype=torch.float64).item()
        totals.append(total / x.numel())
    return torch.tensor(totals, dtype=torch.float64, device=img_t.device)


def end_point_error(flow: Tensor, true_flow: Tensor) -> Tensor:
    """Mean length of the difference of two flow fields, of each image, in pixels.

    Args:
        flow: Estimated flow, ``(B, 2, H, W)``.
        true_flow: True flow, like ``flow``.

    Returns:
        ``(B,)`` float64.

    Raises:
        InvalidInputError: If the sizes differ.

    Example:
        >>> true_flow = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        >>> end_point_error(torch.zeros(1, 2, 4, 4), true_flow).item()
        5.0
    """
    _check_pair(flow, true_flow)
    difference = flow.double() - true_flow.double()
    return difference.square_().sum(dim=1).sqrt_().flatten(1).mean(dim=1)


def _ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """SSIM at each pixel of two images ``(3, H + 10, W)`` whose height carries its padding: ``(3, H, W)``."""
    # (5, 3, H + 10, W): the five local means that the formula needs, blurred together.
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _volume_blur(torch.stack((x, y, x * x, y * y, x * y)))
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    luminance: Tensor = (2 * product + SSIM_C1) / (square_x + square_y + SSIM_C1)
    variances = (mean_xx - square_x) + (mean_yy - square_y)
    contrast: Tensor = (2 * (mean_xy - product) + SSIM_C2) / (variances + SSIM_C2)
    return luminance * contrast


def _volume_blur(volume: Tensor) -> Tensor:
    """Gaussian window over channels, rows and columns of ``(N, 3, H + 10, W)``: ``(N, 3, H, W)``."""
    count, channels, padded_height, width = volume.shape
    halo = SSIM_WINDOW // 2
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=volume.device) - halo
    bell: Tensor = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    window = bell / bell.sum()
    # Over three replicate-padded channels the window is a fixed 3x3 matrix.
    mix = torch.zeros(channels, channels, dtype=torch.float64, device=volume.device)
    for channel in range(channels):
        for offset, weight in zip(range(-halo, halo + 1), window, strict=True):
            mix[channel, min(max(channel + offset, 0), channels - 1)] += weight
    mixed = torch.einsum("kc,nchw->nkhw", mix.to(volume), volume)
    taps = window.to(volume)
    planes = mixed.reshape(count * channels, 1, padded_height, width)
    # By default CUDA rounds what it convolves to the ten bits of TF32, which moves SSIM by up to 0.008.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        planes = F.conv2d(planes, taps.view(1, 1, -1, 1))
        planes = F.conv2d(F.pad(planes, (halo, halo, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
    blurred: Tensor = planes.view(count, channels, padded_height - 2 * halo, width)
    return blurred


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.dim() != 4:
        raise InvalidInputError(
            "prediction and truth must be (B, C, H, W) of the same size, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
