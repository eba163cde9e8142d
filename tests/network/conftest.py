"""The golden cases: outputs of the reference with made-up weights, and those weights."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

#: Sizes as the official files call them, and as we do.
OFFICIAL_SIZES = {"base": "base", "large": "large", "LARGE": "xlarge"}


def official_state(size: str) -> dict[str, Tensor]:
    """Make the made-up official weights: each tensor is drawn from its name alone (BGR, as the reference)."""
    shapes = json.loads((GOLDEN / "official_keys.json").read_text())[size]
    return {name: torch.from_numpy(_tensor(name, shape).astype(np.float32)) for name, shape in shapes.items()}


def _tensor(name: str, shape: list[int]) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 1 and name.endswith("weight"):
        values = rng.uniform(0.05, 0.3, shape)
    elif len(shape) == 1:
        values = rng.uniform(-0.05, 0.05, shape)
    else:
        values = rng.uniform(-1, 1, shape) * np.sqrt(3 / np.prod(shape[1:]))
    if "conv_layer6" in name:
        values = values * 60
    if name == "synthesis_network.pred.weight":
        values = values * 0.3
    return values


@pytest.fixture(scope="session")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that saves a made-up official checkpoint, as the reference does, and returns its path."""

    def save(size: str, prefix: str = "") -> Path:
        path = tmp_path_factory.mktemp("official") / f"{size}{prefix}.pkl"
        torch.save({prefix + name: tensor for name, tensor in official_state(size).items()}, path)
        return path

    return save


@pytest.fixture(scope="session", params=[0, 1], ids=["case0", "case1"])
def golden_case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A golden case: its settings, and its tensors turned from BGR to RGB."""
    settings = json.loads((GOLDEN / "cases.json").read_text())[request.param]
    with np.load(GOLDEN / f"case{request.param}.npz") as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in ("img0", "img1", "frame", "flow")}
    for name in ("img0", "img1", "frame"):
        tensors[name] = tensors[name].flip(1)
    return {**settings, **tensors}
