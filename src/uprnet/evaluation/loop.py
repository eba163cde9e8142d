"""The one evaluation loop: samples in, scores out; which benchmark it is makes no difference here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from uprnet import __version__
from uprnet.errors import InvalidInputError
from uprnet.evaluation.metrics import interpolation_error, metric_device, psnr, psnr_rounded, ssim
from uprnet.evaluation.samples import Sample, as_tensor
from uprnet.interpolate import Interpolator
from uprnet.network.precision import choose_dtype
from uprnet.network.weights import weights_path
from uprnet.options import NetworkOptions

Metric = Callable[[Tensor, Tensor], Tensor]
"""Predictions and truth ``(B, 3, H, W)`` RGB in [0, 1] to one number per image, ``(B,)``."""

Method = Callable[[Tensor, Tensor, Sequence[float]], list[Tensor]]
"""Two frames ``(B, 3, H, W)`` RGB in [0, 1] and times to one prediction per time; `Interpolator.between` is one."""

METRICS: dict[str, Metric] = {
    "psnr": psnr,
    "psnr_rounded": psnr_rounded,
    "ssim": ssim,
    "error": interpolation_error,
}
"""What is measured always: decibel, decibel, 0 to 1, steps of 8 bit."""

OURS = "uprnet"
OURS_FLIPPED = "uprnet, flips"
"""The names of the network's own rows: plain, and the mean over flips."""


@dataclass(frozen=True)
class FrameResult:
    """How good one predicted frame is.

    Attributes:
        item: Name of the item.
        group: Group of the item.
        t: Time of the frame.
        method: What predicted it.
        scores: Value of each metric; PSNR is infinite for an exact frame.
    """

    item: str
    group: str
    t: Fraction
    method: str
    scores: dict[str, float]


def evaluate(
    samples: Iterable[Sample],
    methods: Mapping[str, Method],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    metrics: Mapping[str, Metric] = METRICS,
) -> Iterator[list[FrameResult]]:
    """Predict and measure the frames of each sample.

    Args:
        samples: What to measure.
        methods: What predicts, by name.
        device: Where frames are given to the methods, and measured.
        batch_size: Neighbouring samples of one size and with the same times are predicted together, at most so many.
        metrics: What is measured, by name.

    Yields:
        The results of one sample, in the order of the samples.

    Raises:
        InvalidInputError: If ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
    for batch in _batches(samples, batch_size):
        yield from _measure(batch, methods, torch.device(device), metrics)


def network_methods(interpolator: Interpolator, with_flips: bool = False) -> dict[str, Method]:
    """Return the network as a method; with flips as a second row beside it, never in its place."""
    methods: dict[str, Method] = {OURS: interpolator.between}

    def flipped(img0: Tensor, img1: Tensor, times: Sequence[float]) -> list[Tensor]:
        """Mean of the prediction and of that for the pair turned by half a turn (both axes flipped)."""
        plain = interpolator.between(img0, img1, times)
        turned = interpolator.between(img0.flip(2, 3), img1.flip(2, 3), times)
        return [(one + other.flip(2, 3)) / 2 for one, other in zip(plain, turned, strict=True)]

    if with_flips:
        methods[OURS_FLIPPED] = flipped
    return methods


def network_facts(network: NetworkOptions, interpolator: Interpolator) -> dict[str, Any]:
    """Return what the frames of ``interpolator``, made as ``network`` says, depend on."""
    return {
        "uprnet": __version__,
        "torch": torch.__version__,
        "weights_sha256": hashlib.sha256(weights_path(network.model).read_bytes()).hexdigest(),
        "device": interpolator.device.type,
        "engine": interpolator.engine,
        "precision": str(choose_dtype(network.precision, interpolator.device)).removeprefix("torch."),
        "compile": network.compile,
    }


def _batches(samples: Iterable[Sample], batch_size: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        fits = bool(batch) and sample.img0.shape == batch[0].img0.shape and sample.times == batch[0].times
        if batch and (not fits or len(batch) == batch_size):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


@torch.inference_mode()
def _measure(
    batch: list[Sample], methods: Mapping[str, Method], device: torch.device, metrics: Mapping[str, Metric]
) -> list[list[FrameResult]]:
    img0 = torch.cat([as_tensor(sample.img0, device) for sample in batch])
    img1 = torch.cat([as_tensor(sample.img1, device) for sample in batch])
    times = batch[0].times
    measured_on = metric_device(device)
    predicted = {name: method(img0, img1, [float(t) for t in times]) for name, method in methods.items()}
    for name in batch[0].predictions:
        given = [sample.predictions[name] for sample in batch]
        predicted[name] = [
            torch.cat([as_tensor(frames[index], device) for frames in given]) for index in range(len(times))
        ]
    results: list[list[FrameResult]] = [[] for _ in batch]
    for index, t in enumerate(times):
        target = torch.cat([as_tensor(sample.targets[index], measured_on) for sample in batch])
        for name, frames in predicted.items():
            frame = frames[index].to(measured_on)
            values = {key: metric(frame, target).tolist() for key, metric in metrics.items()}
            for number, sample in enumerate(batch):
                scores = {key: float(value[number]) for key, value in values.items()}
                results[number].append(FrameResult(sample.name, sample.group, t, name, scores))
    return results
