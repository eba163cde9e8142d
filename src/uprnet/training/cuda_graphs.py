"""A training step recorded as CUDA graphs: on a fast GPU, small crops otherwise wait for Python.

A step is some thousands of short kernels. Recorded once and replayed, they are launched in one go, forward and
backward; clipping and the optimiser's own few kernels stay outside.

Reference:
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.make_graphed_callables.html
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from uprnet.errors import TrainingError
from uprnet.training.config import TrainingConfig
from uprnet.training.objective import Objective
from uprnet.training.sample import Batch


def check_graphs(config: TrainingConfig, device: torch.device, processes: int) -> None:
    """Check that the steps of a run can be recorded.

    Args:
        config: The run.
        device: Where the network is.
        processes: Number of processes.

    Raises:
        TrainingError: If they cannot.
    """
    if device.type != "cuda" or processes > 1:
        raise TrainingError(f"compute.cuda_graphs needs one GPU, got {processes} x {device.type}; leave it out")
    for name, is_on in (
        ("compute.checkpointing", config.compute.checkpointing),
        ("optimizer.accumulate above 1", config.optimizer.accumulate > 1),  # gradients are written over, not added to
    ):
        if is_on:
            raise TrainingError(f"compute.cuda_graphs does not go together with {name}; leave one of them out")


class GraphedObjective:
    """Computes losses that can be differentiated, as the objective does, by replaying what was recorded.

    Record it before other threads use the GPU: what they do meanwhile may end the recording.

    Args:
        objective: The network with its losses, on the GPU. Its autocast must not cache weights: they change later.
        example: A batch on the GPU; every later one has its shapes.
        record: What records a module for some arguments.

    Example:
        >>> graphed = GraphedObjective(objective, batch)  # doctest: +SKIP
        >>> total, losses = graphed(batch)  # doctest: +SKIP
    """

    def __init__(
        self,
        objective: Objective,
        example: Batch,
        record: Callable[[nn.Module, tuple[Tensor, ...]], Callable[..., Any]] = torch.cuda.make_graphed_callables,
    ) -> None:
        self._flat = _Flat(objective)
        self._recorded = record(self._flat, tuple(vars(example).values()))

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum ``(B,)``, and each loss without its weight, detached, ``(B,)``, by name."""
        total, *losses = self._recorded(*vars(batch).values())
        return total, dict(zip(self._flat.names, losses, strict=True))


class _Flat(nn.Module):
    """An objective that takes and returns tensors, without a dataclass or names around them."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.names: tuple[str, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        total, losses = self.objective(Batch(*tensors))
        self.names = tuple(losses)
        return total, *(loss.detach() for loss in losses.values())
