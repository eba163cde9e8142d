"""The commands that make weights: ``uprnet train``, ``uprnet synth``, ``uprnet widen``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uprnet.console import Output, Overwrite, stderr, stdout
from uprnet.network.config import ModelConfig
from uprnet.network.weights import load_model, read_metadata, save_model
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
