"""Parts of a batch side by side on a CPU, each on a thread of its own, in one process.

Inside an operation threads share the work, and wait for each other at its end: hundreds of small operations a step
gain nothing from that. Threads that each have samples of their own wait once a step.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from uprnet.engines.gradients import WinogradConv2d
from uprnet.training.sample import Batch


class SideBySide:
    """Computes losses and gradients as one backward pass over the batch does, but for rounding.

    The parts and the order in which their gradients are added up depend on the number of threads alone, so that
    results are the same from run to run.

    Args:
        objective: Takes a `Batch` and returns the losses of its samples, ``(B,)``: their sum, and each by name.
        threads: Threads to use, at least 1.

    Example:
        >>> side_by_side = SideBySide(objective, threads=2)  # doctest: +SKIP
        >>> total, losses = side_by_side(batch)  # doctest: +SKIP
    """

    def __init__(self, objective: nn.Module, threads: int) -> None:
        self._objective = objective
        self._threads = threads
        self._parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        self._transformed = [module for module in objective.modules() if isinstance(module, WinogradConv2d)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="uprnet-samples")

    def __call__(self, batch: Batch, scale: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradient of ``scale`` times the mean loss to that of the parameters.

        Args:
            batch: Samples, at least 1.
            scale: Factor on the gradient.

        Returns:
            The losses of the samples, detached: their weighted sum ``(B,)``, and each without its weight, by name.
        """
        parts = batch.split(min(self._threads, len(batch.t)))
        own_threads = self._threads // len(parts)
        factor = scale / len(batch.t)

        def run(part: Batch) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor | None, ...]]:
            torch.set_num_threads(own_threads)  # of this thread
            total, losses = self._objective(part)
            gradients = torch.autograd.grad(factor * total.sum(), self._parameters, allow_unused=True)
            return total.detach(), {name: loss.detach() for name, loss in losses.items()}, gradients

        before = torch.get_num_threads()
        list(self._pool.map(WinogradConv2d.prepare, self._transformed))  # or each thread would do it for itself
        done = list(self._pool.map(run, parts))
        torch.set_num_threads(before)  # what threads that are yet to start will have
        totals, losses, gradients = zip(*done, strict=True)
        for parameter, *parts_of_it in zip(self._parameters, *gradients, strict=True):
            found = [gradient for gradient in parts_of_it if gradient is not None]  # all, or none if it takes no part
            if found:
                gradient = sum(found[1:], start=found[0])
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return torch.cat(totals), {name: torch.cat([part[name] for part in losses]) for name in losses[0]}
