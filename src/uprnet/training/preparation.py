"""What a run starts from: processes and device, the network and its first weights."""

from pathlib import Path
from typing import Any

import torch

from uprnet.errors import MissingDependencyError, TrainingError
from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.network.weights import load_model
from uprnet.training.config import ComputeConfig, OptimizerConfig, TrainingConfig
from uprnet.training.initialization import initialize_for_matching
from uprnet.training.mixture import TrainingStream
from uprnet.training.sample import collate
from uprnet.training.teacher import Teacher

INITIALIZATION_IMAGES = 8  # samples on which new filters are scaled


def check_batch(optimizer: OptimizerConfig, processes: int) -> None:
    """Check that a batch can be shared out evenly.

    Args:
        optimizer: Batch size and parts.
        processes: Number of processes.

    Raises:
        TrainingError: If it cannot.
    """
    shares = processes * optimizer.accumulate
    if optimizer.batch_size < 1 or shares < 1 or optimizer.batch_size % shares:
        raise TrainingError(
            f"optimizer.batch_size must be divisible by processes x accumulate = {processes} x {optimizer.accumulate}, "
            f"got {optimizer.batch_size}"
        )


def open_accelerator(config: TrainingConfig) -> Any:
    """Join the other processes of a run, if there are any, on the device that the recipe asks for.

    Args:
        config: The run.

    Returns:
        An `accelerate.Accelerator`.

    Raises:
        TrainingError: If device or precision are none that there is.
        MissingDependencyError: If accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import AutocastKwargs
    except ImportError as error:
        raise MissingDependencyError("accelerate is not installed; install uprnet[train] to train") from error
    if config.compute.precision not in ("no", "bf16", "fp16"):
        raise TrainingError(f"compute.precision must be no, bf16 or fp16, got {config.compute.precision!r}")
    if config.compute.device not in ("auto", "cpu"):
        raise TrainingError(f"compute.device must be auto or cpu, got {config.compute.device!r}")
    AcceleratorState._reset_state()  # of an earlier run in this process, which may have had another precision
    is_cpu = config.compute.device == "cpu" or not torch.cuda.is_available()
    # No cache of converted weights where steps are recorded, which must convert them on every replay; nor on the CPU,
    # where threads that share it would add up their gradients in an order that differs from run to run.
    autocast = AutocastKwargs(cache_enabled=not (is_cpu or config.compute.cuda_graphs))
    accelerator = Accelerator(
        mixed_precision=config.compute.precision, cpu=config.compute.device == "cpu", kwargs_handlers=[autocast]
    )
    if config.compute.precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("compute.precision fp16 needs a GPU, got the CPU; take no, or bf16 where it is fast")
    return accelerator


def uses_winograd(compute: ComputeConfig, device: torch.device) -> bool:
    """Return whether convolutions shall work by Winograd's algorithm.

    Args:
        compute: How the arithmetic is done.
        device: Where the network is.

    Returns:
        Whether the engine is ``numba``, or ``auto`` and it can be used.

    Raises:
        TrainingError: If the engine is none that there is, or it cannot be used.
    """
    fits = device.type == "cpu" and compute.precision == "no" and not compute.compile
    if compute.engine not in ("auto", "numba", "torch"):
        raise TrainingError(f"compute.engine must be auto, numba or torch, got {compute.engine!r}")
    if compute.engine == "numba" and not fits:
        raise TrainingError(
            'compute.engine = "numba" needs device = "cpu", precision = "no" and compile = false, '
            f"got {device.type}, {compute.precision} and {str(compute.compile).lower()}"
        )
    return compute.engine != "torch" and fits


def starting_model(config: TrainingConfig, stream: TrainingStream) -> UPRNet:
    """Make a network with its starting weights.

    Args:
        config: The run.
        stream: Its samples; new filters are scaled on some of them.

    Returns:
        The network, ready for training.

    Raises:
        TrainingError: If the weights do not fit the recipe.
    """
    network = config.network
    if network.start:
        model = load_model(network.start).requires_grad_(True).train()
        if model.config != ModelConfig.from_size(network.size):
            raise TrainingError(f"network.start must be of size {network.size}, {network.start} is {model.config.size}")
        return model
    model = UPRNet(ModelConfig.from_size(network.size))
    if network.initialization == "matching":
        images = collate([stream[index] for index in range(INITIALIZATION_IMAGES)]).unpack(torch.device("cpu")).img0
        initialize_for_matching(model, images, torch.Generator().manual_seed(config.seed))
    elif network.initialization != "default":
        raise TrainingError(f"network.initialization must be matching or default, got {network.initialization!r}")
    return model


def open_teacher(config: TrainingConfig, accelerator: Any) -> Teacher | None:
    """Load the teacher, if there is one.

    Args:
        config: The run.
        accelerator: What `open_accelerator` returned.

    Raises:
        InvalidInputError, WeightsError: If its weights cannot be loaded.
    """
    if not config.teacher.weights:
        return None
    frames = config.loss.has_frames and config.loss.teacher > 0
    return Teacher(config.teacher, config.network.num_levels, accelerator.device, accelerator.autocast, frames)


def check_size(saved: dict[str, Any], config: ModelConfig, folder: Path) -> None:
    """Check that a checkpoint is of the size that the recipe asks for.

    Args:
        saved: The checkpoint.
        config: The architecture that is asked for.
        folder: Where the checkpoint lies.

    Raises:
        TrainingError: If it is not.
    """
    found = ModelConfig(saved["base_channels"])
    if found != config:
        raise TrainingError(f"the checkpoints in {folder} must be of size {config.size}, they are {found.size}")
