"""What a training run is: a tree of frozen dataclasses, read from a TOML recipe."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

from cyclopts import App, CycloptsError, Parameter

from uprnet.errors import TrainingError
from uprnet.training.limits import check_limits
from uprnet.training.mixture import DataConfig
from uprnet.training.objective import LossConfig
from uprnet.training.recipe_file import apply_recipe
from uprnet.training.teacher import TeacherConfig


@dataclass(frozen=True)
class NetworkConfig:
    """The network and what it starts from.

    Args:
        size: small, base, large or xlarge.
        start: Weights to start from (a name or a file); empty for new ones.
        initialization: New weights: ``matching`` (learns motion soon) or ``default`` (PyTorch's, as in the paper).
        num_levels: Levels of the pyramid in training.
    """

    size: str = "base"
    start: str = ""
    initialization: str = "matching"
    num_levels: int = 3


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights change.

    Args:
        steps: Steps of the whole run.
        batch_size: Samples of a step, over all processes and accumulated parts together.
        accumulate: Parts that each process splits its share of a step into, to save memory.
        learning_rate: Largest learning rate.
        final_learning_rate: Learning rate at the last step.
        warmup_steps: Steps over which the learning rate rises from 0.
        weight_decay: Decay of AdamW.
        clip_norm: Largest norm of the gradient; 0 for no limit.
        ema_decay: Share of the averaged weights that a step keeps; 0 for no averaging.
        max_bad_steps: Steps with a loss or gradient that is not finite, in a row, after which training stops.
    """

    steps: int = 800_000
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 2e-4
    final_learning_rate: float = 2e-5
    warmup_steps: int = 2_000
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    max_bad_steps: int = 50

    def __post_init__(self) -> None:
        check_limits("optimizer", self, steps=1, batch_size=1, accumulate=1, learning_rate=0, final_learning_rate=0)
        check_limits("optimizer", self, warmup_steps=0, weight_decay=0, clip_norm=0, ema_decay=0, max_bad_steps=1)
        if self.ema_decay >= 1:
            raise TrainingError(f"optimizer.ema_decay must be below 1, got {self.ema_decay}")


@dataclass(frozen=True)
class ComputeConfig:
    """How the arithmetic is done.

    Args:
        device: ``auto`` (a GPU if there is one) or ``cpu``.
        precision: ``no`` (float32), ``bf16`` or ``fp16``.
        checkpointing: Compute activations twice instead of keeping them, for large crops.
        compile: Compile the network with ``torch.compile``.
        cuda_graphs: Record a step and replay it, on one NVIDIA GPU: the smaller the batch, the more it gains.
        channels_last: Lay images and weights out with channels side by side.
        engine: What runs the convolutions: ``numba`` (Winograd's algorithm, on the CPU in float32, with channels side
            by side), ``torch``, or ``auto`` (the first where it can be used).
        threads: Threads of each process on the CPU; 0 leaves that to PyTorch.
    """

    device: str = "auto"
    precision: str = "no"
    checkpointing: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    channels_last: bool = False
    engine: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        check_limits("compute", self, threads=0)


@dataclass(frozen=True)
class ValidationConfig:
    """How progress is measured, on samples that training never sees.

    Args:
        every: Steps between two validations; 0 for none.
        samples: Samples from the held-out part of each source.
        crop: Side of the validation samples, in pixels.
        triplets: Folder of folders with ``im1.png``, ``im2.png``, ``im3.png``, validated whole; empty for none.
    """

    every: int = 5_000
    samples: int = 64
    crop: int = 192
    triplets: str = ""

    def __post_init__(self) -> None:
        check_limits("validation", self, every=0, samples=1, crop=1)


@dataclass(frozen=True)
class LogConfig:
    """What is written down.

    Args:
        every: Steps between two lines of metrics.
        checkpoint_every: Steps between two checkpoints.
        keep: Checkpoints that are kept.
        images_every: Steps between two sheets of pictures in TensorBoard; 0 for none.
        tensorboard: Write TensorBoard files.
    """

    every: int = 50
    checkpoint_every: int = 1_000
    keep: int = 3
    images_every: int = 5_000
    tensorboard: bool = True


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Args:
        run: Folder for checkpoints, metrics and the best weights.
        seed: Seed of everything random.
        network: The network and what it starts from.
        data: Where samples come from.
        loss: What is made small.
        teacher: A finished network to learn from, beside the true frames.
        optimizer: How weights change.
        compute: How the arithmetic is done.
        validation: How progress is measured.
        log: What is written down.
    """

    run: str = "runs/run"
    seed: int = 0
    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        check_limits("", self, seed=0)
        if bool(self.teacher.weights) != (self.loss.teacher > 0 or self.teacher.motion):
            raise TrainingError(
                "teacher.weights and what it teaches (loss.teacher above 0, teacher.motion) go together, "
                "got one of them; give both, or none"
            )
        if self.teacher.motion and self.loss.flow == 0:
            raise TrainingError("teacher.motion is learned by loss.flow, got 0; give it a weight above 0")


def read_recipe(path: Path, arguments: Sequence[str] = ()) -> TrainingConfig:
    """Read a recipe.

    Args:
        path: TOML file whose tables and keys are those of `TrainingConfig`; what it leaves out has its default.
        arguments: Options that replace the recipe's settings, as on the command line.

    Returns:
        The run that it describes.

    Raises:
        TrainingError: If the file is missing or no TOML, or a key or the type of a value is wrong.

    Example:
        >>> read_recipe(Path("recipes/smoke.toml"), ["--optimizer.steps", "10"]).optimizer.steps  # doctest: +SKIP
        10
    """
    reader = App(config=apply_recipe)

    @reader.default
    def settings(
        recipe: Path,  # noqa: ARG001 (`apply_recipe` reads it)
        *,
        config: Annotated[TrainingConfig, Parameter(name="*")] = TrainingConfig(),
    ) -> TrainingConfig:
        return config

    tokens = [str(path), *arguments]
    try:
        config = reader(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise TrainingError(str(error)) from error
    return cast(TrainingConfig, config)


def write_recipe(config: TrainingConfig) -> str:
    """Write a run as TOML that `read_recipe` reads back to an equal one.

    Args:
        config: Any run.

    Returns:
        The text of the file.
    """
    lines: list[str] = []
    _write_table(config, "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(config: Any, where: str, lines: list[str]) -> None:
    tables = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            tables.append((f"{where}{item.name}", value))
        else:
            lines.append(f"{item.name} = {_toml(value)}")
    for name, table in tables:
        lines.extend(("", f"[{name}]"))
        _write_table(table, f"{name}.", lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return repr(value)
