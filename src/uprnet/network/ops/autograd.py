"""What autograd keeps of an operator, and hands to its backward pass: the same whoever computes both."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Gradients = tuple[Tensor, Tensor]


def differentiate_splat(forward: Any, backward: Callable[..., Gradients]) -> None:
    """Tell torch the gradient of a splat.

    Args:
        forward: The custom operator, ``(source, flow)`` to ``(warped, weights)``.
        backward: ``(gradient of warped, source, flow, warped, weights)`` to the gradients of source and flow.
    """

    def setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)

    def gradients(ctx: Any, grad: Tensor, _grad_weights: Tensor) -> Gradients:
        return backward(grad, *ctx.saved_tensors)

    forward.register_autograd(gradients, setup_context=setup)


def differentiate_cost_volume(forward: Any, backward: Callable[..., Gradients]) -> None:
    """Tell torch the gradient of a cost volume.

    Args:
        forward: The custom operator, ``(features0, features1)`` to costs.
        backward: ``(gradient of the costs, features0, features1)`` to the gradients of both.
    """

    def setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG001
        ctx.save_for_backward(*inputs)

    def gradients(ctx: Any, grad: Tensor) -> Gradients:
        return backward(grad, *ctx.saved_tensors)

    forward.register_autograd(gradients, setup_context=setup)
