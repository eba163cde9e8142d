"""The numbers of the paper, and which of our rows each belongs to."""

from __future__ import annotations

PUBLISHED: dict[tuple[str, str, int], dict[str, tuple[float, float]]] = {
    ("vimeo90k", "", 2): {"base": (36.03, 0.9801), "large": (36.28, 0.9810), "xlarge": (36.42, 0.9815)},
    ("ucf101", "", 2): {"base": (35.41, 0.9698), "large": (35.43, 0.9700), "xlarge": (35.47, 0.9700)},
    ("snu-film", "easy", 2): {"base": (40.37, 0.9910), "large": (40.42, 0.9911), "xlarge": (40.44, 0.9911)},
    ("snu-film", "medium", 2): {"base": (36.16, 0.9797), "large": (36.24, 0.9799), "xlarge": (36.29, 0.9801)},
    ("snu-film", "hard", 2): {"base": (30.67, 0.9365), "large": (30.81, 0.9370), "xlarge": (30.86, 0.9377)},
    ("snu-film", "extreme", 2): {"base": (25.49, 0.8627), "large": (25.58, 0.8636), "xlarge": (25.63, 0.8641)},
    ("x4k1000fps", "4k", 8): {"base": (30.13, 0.8990), "large": (30.68, 0.9086), "xlarge": (30.50, 0.9048)},
}
"""PSNR in decibel (unrounded predictions) and SSIM by benchmark, subset and factor, then size of the network.

Reference:
    Jin et al., "A Unified Pyramid Recurrent Network for Video Frame Interpolation", CVPR 2023, tables 1 to 3.
"""


def published_scores(benchmark: str, subset: str, factor: int) -> dict[str, tuple[float, float]]:
    """Return PSNR and SSIM of the paper's three sizes; empty where the paper has no number.

    Example:
        >>> published_scores("vimeo90k", "", 2)["base"]
        (36.03, 0.9801)
    """
    return PUBLISHED.get((benchmark, subset, factor), {})
