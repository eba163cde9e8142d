"""Images on their way to a device and back, converted there, so that copies and computation overlap.

On CUDA a copy runs beside the computation only if its memory on this side is pinned, and on a stream of its own. Two
pinned buffers a direction are used in turn: one is filled or emptied here while the other is on its way. Elsewhere
images are simply moved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uprnet.arrays import copied, full_scale
from uprnet.errors import InvalidInputError

#: How far, in units of full scale, float images may leave [0, 1]: filters overshoot, 0-to-255 floats are a mistake.
RANGE_TOLERANCE = 0.05


class Transfers:
    """Brings images to one device and frames back from it.

    Args:
        device: The device.

    Example:
        >>> transfers = Transfers(torch.device("cpu"))
        >>> transfers.fetch(transfers.send(np.arange(3)) + 1)()
        array([1, 2, 3])
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._out = cycle([_Buffer(), _Buffer()])
        self._back = cycle([_Buffer(), _Buffer()])

    def send_image(self, image: NDArray[Any] | Tensor) -> Tensor:
        """Bring an image to the device, as float32 in [0, 1], ``(B, C, H, W)``.

        Raises:
            InvalidInputError: If it is of another type, or its floats are in another range.
        """
        white = full_scale(image)
        if self.device.type not in ("cpu", "cuda"):  # such as Apple's, which knows neither float64 nor uint16
            image = image.float() if isinstance(image, Tensor) else image.astype(np.float32)
        if isinstance(image, Tensor):
            tensor = (image if image.ndim == 4 else image[None]).to(self.device)
        else:
            # The batch comes first: torch takes a tensor for channels-last only if the strides of all axes say so.
            tensor = self.send(image[None]).permute(0, 3, 1, 2)
        tensor = tensor.float()
        if white != 1:
            return tensor / white
        low, high = float(tensor.min()), float(tensor.max())
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # true for NaN, too
            raise InvalidInputError(
                f"floating images must be in [0, 1], got values from {low:g} to {high:g}; scale them first"
            )
        return tensor

    def fetch_image(self, frame: Tensor, like: NDArray[Any] | Tensor) -> Callable[[], Any]:
        """Start to bring a frame into the type, shape and place of ``like``; what is returned waits for it.

        Integers are rounded, not truncated.
        """
        white = full_scale(like)
        if white != 1:
            frame = (frame * white).round().clamp(0, white)
        if isinstance(like, Tensor):
            result = copied(frame.to(like.device).to(like.dtype).view(like.shape))
            return lambda: result
        if like.dtype == np.uint8:
            frame = frame.to(torch.uint8)  # a quarter of the bytes to copy
        array = self.fetch(frame[0].permute(1, 2, 0).contiguous())
        return lambda: array().astype(like.dtype, copy=False)

    def send(self, array: NDArray[Any]) -> Tensor:
        """Copy an array to the device; it may be changed as soon as this returns, even if the copy is under way."""
        # torch warns of what it cannot write to, and knows the bytes of a number in this machine's order only.
        here = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
        if self._stream is None:
            return here.to(self.device)
        buffer = next(self._out)
        pinned = buffer.take(here)
        pinned.copy_(here)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            there = pinned.to(self.device, non_blocking=True)
            arrival = self._stream.record_event()
        buffer.free = arrival.synchronize
        computing.wait_event(arrival)
        there.record_stream(computing)  # the memory was made on the other stream
        return there

    def fetch(self, tensor: Tensor) -> Callable[[], NDArray[Any]]:
        """Start to copy a tensor to this side; what is returned waits for it and gives the array."""
        if self._stream is None:
            here = np.asarray(tensor.cpu())
            return lambda: here
        buffer = next(self._back)
        pinned = buffer.take(tensor)
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            pinned.copy_(tensor, non_blocking=True)
            arrival = self._stream.record_event()
        tensor.record_stream(self._stream)  # it may be dropped before the copy is done

        @cache
        def array() -> NDArray[Any]:
            arrival.synchronize()
            return np.array(pinned.numpy())

        buffer.free = array
        return array


class _Buffer:
    """Pinned memory that one copy at a time goes through; `free` waits until it is free for the next."""

    def __init__(self) -> None:
        self.free: Callable[[], object] = lambda: None
        self._memory = torch.empty(0, dtype=torch.uint8)

    def take(self, like: Tensor) -> Tensor:
        """Return the memory as a contiguous tensor of the shape and type of ``like``."""
        self.free()
        size = like.numel() * like.element_size()
        if self._memory.numel() < size:  # pinning takes longer than a copy, so the memory is kept
            self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return self._memory[:size].view(like.dtype).view(like.shape)
