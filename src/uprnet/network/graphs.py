"""CUDA graphs: the launches of a whole step, recorded once for each size and replayed in one go.

A frame of 640x480 is some hundreds of short kernels, and a fast GPU waits for Python to launch them. A graph launches
all of them at once. It reads and writes fixed places in memory, so inputs are copied in and results copied out.

Reference:
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from uprnet.network.model import UPRNet

logger = logging.getLogger(__name__)

#: Sizes whose graphs are kept for each step of the network; the one that was not used for longest goes first.
MAX_GRAPHS = 4

#: What records a call: runs a function on its arguments, and returns what replays that, and the results.
Capture = Callable[[Callable[..., Any], tuple[Any, ...]], tuple[Callable[[], None], Any]]


def use_graphs(model: UPRNet, device: torch.device) -> None:
    """Let the three steps of ``model`` (on a CUDA ``device``, for inference) go through graphs.

    A device that cannot record them says so in the log, and all goes on without.
    """
    capture = CudaCapture(device)
    for step in ("encode", "estimate_motion", "synthesize"):
        setattr(model, step, Graphed(getattr(model, step), capture))


class CudaCapture:
    """Record what a function launches; all recordings share one pool of memory, because one is replayed at a time.

    Args:
        device: Where the function works; torch would record what the current device does.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
        """Return what replays ``function``, and its results, which every replay overwrites."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device meanwhile.
        record = torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        with torch.cuda.device(self._device), record:
            results = function(*arguments)
        return graph.replay, results


@dataclass(frozen=True)
class _Recording:
    inputs: list[Any]
    replay: Callable[[], None]
    results: Any


class Graphed:
    """A function of tensors that is recorded when the same sizes come for the second time, and then replayed.

    The first call runs as it is, which also compiles what has to be compiled. Numbers with a point become tensors, so
    that one recording serves all of them; whatever else is no tensor counts as part of the size.

    Args:
        function: Takes and returns tensors, also in tuples and lists. It must not wait for the device.
        capture: What records a call.
        limit: How many sizes are remembered.
    """

    def __init__(self, function: Callable[..., Any], capture: Capture, limit: int = MAX_GRAPHS) -> None:
        self._function = function
        self._capture = capture
        self._limit = limit
        self._sizes: OrderedDict[Hashable, _Recording | None] = OrderedDict()  # None: came once, is not recorded

    def __call__(self, *arguments: Any) -> Any:
        """Run the function, or replay it; the results belong to the caller."""
        if torch.is_grad_enabled() or not self._limit:
            return self._function(*arguments)
        leaves, structure = tree_flatten(arguments)
        device = next(leaf.device for leaf in leaves if isinstance(leaf, Tensor))
        leaves = [torch.full((), leaf, device=device) if isinstance(leaf, float) else leaf for leaf in leaves]
        size = (repr(structure), *map(_size, leaves))  # the structure itself has no hash before torch 2.8
        if size not in self._sizes:
            self._remember(size, None)
            # Copies, as they will be recorded: an expanded tensor becomes dense, for which code is compiled anew.
            return self._function(*tree_unflatten(_copied(leaves), structure))
        recording = self._sizes[size]
        if recording is None:
            try:
                inputs = _copied(leaves)
                recording = _Recording(inputs, *self._capture(self._function, tree_unflatten(inputs, structure)))
            except RuntimeError as error:
                logger.warning("no CUDA graphs here, which costs speed: %s", str(error).splitlines()[0])
                self._limit = 0
                self._sizes.clear()
                return self._function(*tree_unflatten(leaves, structure))
        self._remember(size, recording)
        for fixed, leaf in zip(recording.inputs, leaves, strict=True):
            if isinstance(leaf, Tensor):
                fixed.copy_(leaf)
        recording.replay()
        return tree_map_only(Tensor, Tensor.clone, recording.results)

    def _remember(self, size: Hashable, recording: _Recording | None) -> None:
        """Put a size last in the queue, and drop those that are too many."""
        self._sizes.pop(size, None)
        self._sizes[size] = recording
        while len(self._sizes) > self._limit:
            self._sizes.popitem(last=False)


def _copied(leaves: list[Any]) -> list[Any]:
    return [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _size(leaf: Any) -> Hashable:
    """Return all of a leaf that a recording depends on."""
    return (leaf.shape, leaf.stride(), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
