"""The commands that make weights: ``uprnet train``, ``uprnet synth``, ``uprnet widen``, ``uprnet average``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from uprnet.console import Output, Overwrite, stderr, stdout
from uprnet.errors import InvalidInputError
from uprnet.network.config import ModelConfig
from uprnet.network.model import BOXES
from uprnet.network.weights import load_model, read_metadata, save_model
from uprnet.training.averaging import average as average_networks
from uprnet.training.config import TrainingConfig
from uprnet.training.loop import train as run_training
from uprnet.training.sheets import save_synthetic_sheet
from uprnet.training.synthetic import SyntheticConfig
from uprnet.training.widening import widen as widen_network


def train(
    recipe: Path,  # noqa: ARG001 (`uprnet.cli` fills `config` from it)
    *,
    resume: Annotated[bool, Parameter(negative="")] = False,
    config: Annotated[TrainingConfig, Parameter(name="*")] = TrainingConfig(),  # noqa: B008 (it is frozen)
) -> None:
    """Train a network as a recipe says; every setting of the recipe can be replaced here.

    Args:
        recipe: The TOML file.
        resume: Go on where the run in the recipe's folder stopped.
        config: The run.
    """
    logging.getLogger("uprnet.training").setLevel(logging.INFO)  # without a terminal the metrics are logged
    result = run_training(config, resume=resume)
    stderr.print(f"{result.step} steps, best score {result.score:.2f} dB, {result.bad_steps} steps skipped")
    stdout.print(Path(config.run))


def synth(
    *,
    preview: Path,
    rows: int = 8,
    size: int = 192,
    seed: int = 0,
    overwrite: Overwrite = False,
    config: Annotated[SyntheticConfig, Parameter(name="*")] = SyntheticConfig(),  # noqa: B008 (it is frozen)
) -> None:
    """Show what the generator of synthetic motion makes: both images, the target between, and the flow both ways.

    Args:
        preview: The PNG file to write, one scene a row.
        rows: Scenes.
        size: Side of each picture in pixels.
        seed: Another number gives other scenes.
        overwrite: Replace a file that is there.
        config: What to make.
    """
    save_synthetic_sheet(preview, config, rows, size, seed, overwrite=overwrite)
    stdout.print(preview)


def widen(weights: str, *, to: str, output: Output, seed: int = 0, overwrite: Overwrite = False) -> None:
    """Make a larger network that computes the same frames, to train it further.

    Args:
        weights: small, base, or the path of a weights file.
        to: The larger size: base, large or xlarge.
        output: The .safetensors file to write.
        seed: Another number breaks the symmetry of the copies in another way.
        overwrite: Replace a file that is there.
    """
    wide = widen_network(load_model(weights), ModelConfig.from_size(to), seed)
    known = {name: value for name, value in read_metadata(weights).items() if not name.startswith("uprnet.")}
    save_model(wide, output, known, overwrite=overwrite)
    stdout.print(output)


def average(
    weights: Annotated[list[str], Parameter(negative="", json_list=False)],
    *,
    output: Output,
    shares: str = "",
    boxes: str = ",".join(BOXES),
    half: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Average the weights of networks that were trained further from the same ones.

    Args:
        weights: small, base, or the paths of weights files; all of one size.
        output: The .safetensors file to write.
        shares: What each counts: 3,1. Equal if left out.
        boxes: What is averaged; the rest is that of the first network.
        half: Write 16 bit numbers: half the size.
        overwrite: Replace a file that is there.
    """
    try:
        parts = [float(share) for share in shares.split(",")] if shares else []
    except ValueError:
        raise InvalidInputError(f"--shares must be numbers with commas, such as 3,1, got {shares!r}") from None
    mean = average_networks([load_model(name) for name in weights], parts, boxes.split(","))
    first, *others = (read_metadata(name).items() for name in weights)
    common = {key: value for key, value in first if all((key, value) in other for other in others)}
    save_model(mean, output, common, dtype=torch.float16 if half else torch.float32, overwrite=overwrite)
    stdout.print(output)
