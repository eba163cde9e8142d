"""One training example: two frames, the frame between them, its time and, where it is known, the true motion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]
Flow = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Two frames, what lies between them and when.

    Convention:
        Images are ``(H, W, 3)`` RGB uint8; flows ``(H, W, 2)`` float32 as ``(dx, dy)`` in pixels, from the first
        named frame to the second, or None where nobody knows the motion.

    Args:
        img0: First frame.
        img1: Second frame.
        target: True frame at time ``t``.
        t: Time of ``target``; 0 is ``img0``, 1 is ``img1``.
        flow_01: True motion from ``img0`` to ``img1``, at the pixels of ``img0``.
        flow_10: True motion from ``img1`` to ``img0``, at the pixels of ``img1``.
        skipped: Unreadable samples that were drawn before this one.
    """

    img0: Image
    img1: Image
    target: Image
    t: float
    flow_01: Flow | None = None
    flow_10: Flow | None = None
    skipped: int = 0


@dataclass(frozen=True)
class Batch:
    """Samples as tensors.

    Args:
        img0: ``(B, 3, H, W)`` RGB in [0, 1].
        img1: Like ``img0``.
        target: Like ``img0``.
        t: ``(B,)``.
        flow: ``(B, 4, H, W)``, channels ``(dx01, dy01, dx10, dy10)`` in pixels; zero where unknown.
        has_flow: ``(B,)``, 1 where the motion is known and 0 where it is not.
        skipped: Unreadable samples that were drawn before each of these, ``(B,)``.
    """

    img0: Tensor
    img1: Tensor
    target: Tensor
    t: Tensor
    flow: Tensor
    has_flow: Tensor
    skipped: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device.

        Args:
            device: Where the network is.

        Returns:
            The same batch there.
        """
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()})

    def split(self, count: int) -> list["Batch"]:
        """Split into parts of nearly equal size.

        Args:
            count: Number of parts, at most that of samples.

        Returns:
            The parts, in order; views of the same memory.
        """
        parts = zip(*(tensor.tensor_split(count) for tensor in vars(self).values()), strict=True)
        return [Batch(*part) for part in parts]

    def pin_memory(self) -> "Batch":
        """Copy to page-locked memory, from where a GPU reads faster; called by the data loader."""
        return Batch(**{name: tensor.pin_memory() for name, tensor in vars(self).items()})


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size into a batch.

    Args:
        samples: At least one sample; all images of one size.

    Returns:
        The batch, on the CPU.
    """
    flows = [_flow_channels(sample) for sample in samples]
    return Batch(
        img0=_stack([sample.img0 for sample in samples]),
        img1=_stack([sample.img1 for sample in samples]),
        target=_stack([sample.target for sample in samples]),
        t=torch.tensor([sample.t for sample in samples], dtype=torch.float32),
        flow=torch.from_numpy(np.stack(flows).transpose(0, 3, 1, 2).copy()),
        has_flow=torch.tensor([float(sample.flow_01 is not None) for sample in samples]),
        skipped=torch.tensor([sample.skipped for sample in samples]),
    )


def _stack(images: Sequence[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float() / 255


def _flow_channels(sample: Sample) -> Flow:
    if sample.flow_01 is None or sample.flow_10 is None:
        return np.zeros((*sample.img0.shape[:2], 4), dtype=np.float32)
    return np.concatenate((sample.flow_01, sample.flow_10), axis=2)
