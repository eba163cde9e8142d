"""LPIPS, a learned distance between images; the only file that knows the library of that name."""

from __future__ import annotations

import warnings
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from uprnet.errors import MissingDependencyError, WeightsError
from uprnet.evaluation.loop import Metric

NETWORK = "alex"
"""The trunk that frame interpolation papers use (version 0.1)."""


def lpips_metric(device: torch.device | str = "cpu") -> Metric:
    """Return LPIPS as a metric: 0 for equal images, lower is better.

    The library fetches the weights of its trunk (AlexNet on ImageNet, 233 MB) when it is first used.

    Raises:
        MissingDependencyError: If the library is not installed.
        WeightsError: If the weights cannot be fetched or read.

    Reference:
        Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    """
    try:
        from lpips import LPIPS  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except (ImportError, RuntimeError) as error:  # torchvision of another torch fails at run time
        raise MissingDependencyError(
            f"the library of LPIPS cannot be used ({error}); run: pip install 'uprnet[lpips]'"
        ) from error
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls torchvision by an old name
            network = LPIPS(net=NETWORK, verbose=False).to(device).requires_grad_(False)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights of LPIPS cannot be loaded ({error}); without internet, put torchvision's AlexNet "
            f"(alexnet-owt-7be5be79.pth) into {folder}"
        ) from error

    def lpips(img_t: Tensor, target: Tensor) -> Tensor:
        distances: Tensor = network(img_t.float(), target.float(), normalize=True)
        return distances.flatten(1).mean(dim=1).double()

    return lpips
