"""The mean of several networks' weights.

Networks that were trained further from the same weights lie in one valley of the loss: their mean is often better than
each of them, and has something of what each learned. Boxes can be averaged apart, such as those that make frames
without the one that finds motion.

Reference:
    Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models Improves Accuracy Without Increasing
    Inference Time", ICML 2022.
"""

import copy
import math
from collections.abc import Sequence

import torch

from uprnet.errors import InvalidInputError
from uprnet.network.model import BOXES, UPRNet


def average(models: Sequence[UPRNet], shares: Sequence[float] = (), boxes: Sequence[str] = BOXES) -> UPRNet:
    """Average the weights of networks.

    Args:
        models: At least one network; all of one size.
        shares: What each counts, 0 or more, in any unit; equal if left out.
        boxes: What is averaged: ``encoder``, ``flow_estimator``, ``synthesis``. The rest is the first network's.

    Returns:
        A new network.

    Raises:
        InvalidInputError: If sizes differ, or there is not one share for each, or a box that there is not.

    Example:
        >>> average([UPRNet(), UPRNet()], [3, 1]).config == UPRNet().config
        True
    """
    shares = shares or [1.0] * len(models)
    if len(shares) != len(models):
        raise InvalidInputError(f"there must be one share for each of the {len(models)} networks, got {len(shares)}")
    total = sum(shares)
    if not all(share >= 0 for share in shares) or not 0 < total < math.inf:
        raise InvalidInputError(f"shares must be 0 or more, and one above 0, got {', '.join(f'{s:g}' for s in shares)}")
    sizes = {model.config.size: None for model in models}
    if len(sizes) > 1:
        raise InvalidInputError(f"networks that are averaged must have one size, got {', '.join(sizes)}")
    if unknown := set(boxes).difference(BOXES):
        raise InvalidInputError(f"boxes may be {', '.join(BOXES)}, got {', '.join(sorted(unknown))}")
    mean = copy.deepcopy(models[0])
    with torch.no_grad():
        for box in boxes:
            parameters = [list(getattr(model, box).parameters()) for model in models]
            for target, *values in zip(getattr(mean, box).parameters(), *parameters, strict=True):
                target.copy_(sum(value.double() * (share / total) for value, share in zip(values, shares, strict=True)))
    return mean
