"""One training example: two frames, the frame between them, its time and, where it is known, the true motion."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uprnet.errors import MediaError

Image = NDArray[np.uint8]
Flow = NDArray[np.float32]


def read_picture(path: Path) -> Image:
    """Read a picture, ``(H, W, 3)`` RGB.

    Raises:
        MediaError: If there is none.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise MediaError(f"{path} is missing, damaged or no image")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_frames(paths: Sequence[Path]) -> list[Image]:
    """Read the frames of one sample.

    Raises:
        MediaError: If one cannot be read, or their sizes differ.
    """
    images = [read_picture(path) for path in paths]
    if len({image.shape for image in images}) > 1:
        raise MediaError(f"the frames of a sample must have one size, those of {paths[0].parent} differ")
    return images


@dataclass(frozen=True)
class Sample:
    """Two frames, what lies between them and when.

    Convention:
        Images are ``(H, W, 3)`` RGB uint8; flows ``(H, W, 2)`` float32 as ``(dx, dy)`` in pixels, from the first
        named frame to the second, NaN at pixels whose motion nobody knows, or None if that is so of all.

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
        flow: ``(B, 4, H, W)``, channels ``(dx01, dy01, dx10, dy10)`` in pixels; NaN at pixels whose motion is unknown,
            zero in samples of which it is unknown altogether.
        has_flow: ``(B,)``, 1 where the motion is known and 0 where it is not.
        skipped: Unreadable samples that were drawn before each of these, ``(B,)``.
        lesson: What a teacher makes of them, like ``target``; ``target`` itself where nobody teaches.
    """

    img0: Tensor
    img1: Tensor
    target: Tensor
    t: Tensor
    flow: Tensor
    has_flow: Tensor
    skipped: Tensor
    lesson: Tensor

    def split(self, count: int) -> list["Batch"]:
        """Split into parts of nearly equal size.

        Args:
            count: Number of parts, at most that of samples.

        Returns:
            The parts, in order; views of the same memory.
        """
        parts = zip(*(tensor.tensor_split(count) for tensor in vars(self).values()), strict=True)
        return [Batch(*part) for part in parts]


@dataclass(frozen=True)
class PackedBatch:
    """Samples as they travel from a data worker to the device: a quarter of a `Batch`'s bytes, and less work.

    Args:
        images: First frames, targets and second frames, ``(3, B, H, W, 3)`` RGB uint8.
        t: ``(B,)``.
        flow: Motion of the samples where it is known, ``(K, H, W, 4)``, as in `Batch`.
        known: Numbers of those samples, ``(K,)``.
        skipped: Unreadable samples that were drawn before each of these, ``(B,)``.
    """

    images: Tensor
    t: Tensor
    flow: Tensor
    known: Tensor
    skipped: Tensor

    def pin_memory(self) -> "PackedBatch":
        """Copy to page-locked memory, from where a GPU reads faster; called by the data loader."""
        return PackedBatch(**{name: tensor.pin_memory() for name, tensor in vars(self).items()})

    def unpack(self, device: torch.device, *, channels_last: bool = False) -> Batch:
        """Copy to a device, and turn into what the network takes.

        Args:
            device: Where the network is.
            channels_last: Lay images out with channels side by side.

        Returns:
            The batch there.
        """
        there = {name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()}
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        img0, target, img1 = (
            images.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory_format).div_(255)
            for images in there["images"]
        )
        flow = torch.zeros(len(self.t), 4, *self.images.shape[2:4], device=device)
        flow.index_copy_(0, there["known"], there["flow"].permute(0, 3, 1, 2))
        has_flow = torch.zeros_like(there["t"]).index_fill_(0, there["known"], 1)
        return Batch(img0, img1, target, there["t"], flow, has_flow, there["skipped"], target)


def collate(samples: Sequence[Sample]) -> PackedBatch:
    """Stack samples of one size into a batch.

    Args:
        samples: At least one sample; all images of one size.

    Returns:
        The batch, on the CPU.
    """
    known = [index for index, sample in enumerate(samples) if sample.flow_01 is not None]
    flows = [np.dstack((samples[index].flow_01, samples[index].flow_10)) for index in known]  # type: ignore[arg-type]
    images = [[getattr(sample, name) for sample in samples] for name in ("img0", "target", "img1")]
    return PackedBatch(
        images=torch.from_numpy(np.array(images)),
        t=torch.tensor([sample.t for sample in samples], dtype=torch.float32),
        flow=torch.from_numpy(np.array(flows).reshape(-1, *samples[0].img0.shape[:2], 4)).float(),
        known=torch.tensor(known, dtype=torch.long),
        skipped=torch.tensor([sample.skipped for sample in samples]),
    )
