"""The network made faster for a long run: boxes compiled by `torch.compile`, and on CUDA whole steps as graphs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uprnet.errors import MissingDependencyError
from uprnet.network.graphs import use_graphs
from uprnet.network.model import UPRNet
from uprnet.network.ops.backend import default_backend
from uprnet.network.precision import ConvolutionsIn

logger = logging.getLogger(__name__)


def compiled(model: UPRNet, backend: str | Any = "inductor") -> UPRNet:
    """Return a copy of ``model``, for inference, that is compiled when it first runs.

    The three boxes are compiled twice: for the size that comes first, and for all others, so that later ones cost
    nothing. The operators between them are kernels already. On a CUDA device the steps of the network are recorded as
    graphs, see `uprnet.network.graphs`, where each size costs two slow frames and memory.

    Args:
        model: The network, on its device.
        backend: What `torch.compile` compiles with.
    """
    network = copy.deepcopy(model)
    device = next(network.parameters()).device
    if device.type == "cuda" and default_backend(device) != "triton":  # what torch compiles to is Triton, too
        logger.warning("torch.compile is left out: it needs Triton, which does not run on %s", device)
    else:
        for child in network.children():
            # The box itself: torch counts compilations for each forward method, and those of the wrapper would be one.
            box = child.box if isinstance(child, ConvolutionsIn) else child
            box.compile(backend=backend)
    if device.type == "cuda":
        use_graphs(network, device)
    return network


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Say in one line what keeps `torch.compile` from working: it compiles when the network first runs.

    Raises:
        MissingDependencyError: If it fails, mostly because there is no C++ compiler.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingDependencyError(f"torch.compile does not work here, leave it out: {reason}") from error
