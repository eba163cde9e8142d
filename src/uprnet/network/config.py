"""What sizes a network: its width, and how many pyramid levels a picture needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from uprnet.errors import InvalidInputError

#: What runs the convolutions: see `uprnet.engines`. ``auto`` takes the fastest for the device.
Engine = Literal["auto", "torch", "numba", "ncnn", "openvino", "onnxruntime"]

#: Floating type that the network computes in. ``auto`` is fp32 on the CPU.
Precision = Literal["auto", "fp32", "fp16", "bf16"]

#: Base channels `c` of each named size. ``small`` is ours; the others are the paper's base, large and LARGE.
SIZES: dict[str, int] = {"small": 8, "base": 16, "large": 24, "xlarge": 32}

#: The longer side, in pixels, up to which three levels suffice (the paper's training set is 448 wide).
REFERENCE_SIDE = 448

#: Value of the ``constant`` padding: the reference's choice, and that of the published benchmark numbers.
PADDING_VALUE = 0.5


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of one `UPRNet`: a single integer sets every width.

    Args:
        base_channels: Channels ``c`` of the full-resolution features; all other widths are multiples of it.

    Example:
        >>> ModelConfig.from_size("base")
        ModelConfig(base_channels=16)
    """

    base_channels: int = 16

    def __post_init__(self) -> None:
        if not isinstance(self.base_channels, int) or self.base_channels < 1:
            raise InvalidInputError(f"base_channels must be a positive integer, got {self.base_channels!r}")

    @classmethod
    def from_size(cls, size: str) -> ModelConfig:
        """Return the architecture with the name ``size``: small, base, large or xlarge (LARGE)."""
        name = "xlarge" if size == "LARGE" else size
        if name not in SIZES:
            raise InvalidInputError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
        return cls(SIZES[name])

    @property
    def size(self) -> str:
        """The name of this width, or ``c=...`` for a width without a name."""
        return next((name for name, c in SIZES.items() if c == self.base_channels), f"c={self.base_channels}")


def default_num_levels(height: int, width: int) -> int:
    """Return the number of pyramid levels for a picture: ``ceil(log2(longer side / 448) + 3)``, at least 1.

    The reference's demo applies the rule to the width alone; the longer side serves portrait pictures as well.

    Example:
        >>> default_num_levels(480, 640), default_num_levels(2160, 3840)
        (4, 7)
    """
    return max(1, math.ceil(math.log2(max(height, width) / REFERENCE_SIDE) + 3))


def size_multiple(num_levels: int) -> int:
    """Return the number that height and width must be divisible by: ``2 ** (num_levels + 1)``.

    Each level halves the picture, and its features are at a quarter of the level.
    """
    return 1 << (num_levels + 1)


def default_skip_finest(num_levels: int) -> int:
    """Return how many of the finest levels estimate no motion: 2 of 7 (4K), 3 of 8 (8K), none below.

    At 4K, skipping is both faster and better: +0.5 to +0.9 dB on X4K1000FPS (table 3 of the paper).
    """
    return num_levels - 5 if num_levels >= 7 else 0
