"""How good the averaged weights are, on samples that training never sees."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from uprnet.errors import MediaError, TrainingError
from uprnet.evaluation.metrics import end_point_error, metric_device, psnr, ssim
from uprnet.network.config import default_num_levels, size_multiple
from uprnet.network.model import UPRNet
from uprnet.training.augmentation import AugmentationConfig
from uprnet.training.mixture import DataConfig, open_sources
from uprnet.training.sample import Image, Sample, collate, read_frames
from uprnet.training.sheets import prediction_row
from uprnet.training.synthetic import SyntheticMotion

logger = logging.getLogger(__name__)

VALIDATION_SEED = 20_230_618  # fixed, so that runs with different seeds can be compared
PSNR_CAP = 80.0  # decibel: what an exact frame counts for in a mean
SHEET_ROWS = 6  # samples on the sheet of pictures


@dataclass(frozen=True)
class Validation:
    """What one validation found.

    Args:
        values: Mean of each metric, by ``source/metric``; ``blend`` is the PSNR of blending the inputs.
        score: Mean PSNR over the sources, by which the best weights are chosen.
        sheet: Some predictions, see `prediction_row`.
    """

    values: dict[str, float]
    score: float
    sheet: Image


class Validator:
    """A fixed set of held-out samples.

    Args:
        data: The sources of training; their held-out parts are used.
        samples: Samples of each source.
        crop: Side of the samples, in pixels.
        num_levels: Levels of the pyramid, at least: small samples have no more than those that the network trains with.
        triplets: Folder of folders with ``im1.png``, ``im2.png``, ``im3.png`` to validate on as well; or None.

    Raises:
        TrainingError: If there is nothing to validate on.
    """

    def __init__(
        self, data: DataConfig, samples: int, crop: int, num_levels: int = 3, triplets: Path | None = None
    ) -> None:
        self.num_levels = num_levels
        self.sets: dict[str, list[Sample]] = {}
        for name in ("synthetic", "video", "triplets", "septuplets", "x4k"):
            if getattr(data, name).weight > 0:
                self._draw(name, data, samples, crop)
        if triplets is not None:
            self.sets["given"] = _read_triplets(triplets)
        if not self.sets:
            raise TrainingError("no source holds anything back to validate on; set validation.triplets or every = 0")

    def _draw(self, name: str, data: DataConfig, samples: int, crop: int) -> None:
        """Draw the samples of one source; a source that holds nothing back is left out."""
        others = {
            other: replace(getattr(data, other), weight=0.0)
            for other in ("synthetic", "video", "triplets", "septuplets", "x4k")
            if other != name
        }
        try:
            source, _ = open_sources(replace(data, **others), held_out=True)[name]
        except TrainingError as error:
            logger.warning("no validation on %s: %s", name, error)
            return
        drawn = []
        for index in range(samples):
            rng = np.random.default_rng((VALIDATION_SEED, index))
            try:
                if isinstance(source, SyntheticMotion):
                    drawn.append(source.sample(crop, rng))
                else:
                    drawn.append(source.draw(crop, AugmentationConfig(), rng))
            except MediaError as error:
                logger.warning("skipped a validation sample: %s", error)
        if drawn:
            self.sets[name] = drawn

    @torch.no_grad()
    def __call__(self, model: UPRNet, device: torch.device) -> Validation:
        """Measure a network.

        Args:
            model: The network.
            device: Where it is.

        Returns:
            Means over the samples of each source.
        """
        values: dict[str, float] = {}
        rows = []
        for name, samples in self.sets.items():
            found: dict[str, list[float]] = {"psnr": [], "ssim": [], "blend": [], "flow_error": []}
            for index, sample in enumerate(samples):
                measured, row = _measure(model, sample, device, self.num_levels)
                for metric, value in measured.items():
                    found[metric].append(value)
                if index < SHEET_ROWS and name != "given":
                    rows.append(row)
            values.update({f"{name}/{key}": float(np.mean(list_)) for key, list_ in found.items() if list_})
        score = float(np.mean([values[f"{name}/psnr"] for name in self.sets]))
        return Validation(values, score, np.vstack(rows) if rows else np.zeros((1, 1, 3), dtype=np.uint8))


def _measure(model: UPRNet, sample: Sample, device: torch.device, num_levels: int) -> tuple[dict[str, float], Image]:
    """Metrics of one sample and its row of pictures."""
    batch = collate([sample]).unpack(device)
    height, width = sample.img0.shape[:2]
    levels = max(num_levels, default_num_levels(height, width))
    multiple = size_multiple(levels)
    # Padding on the right and bottom with the constant 0.5, as the published protocol does.
    padding = (0, -width % multiple, 0, -height % multiple)
    img0, img1 = (torch.nn.functional.pad(image, padding, value=0.5) for image in (batch.img0, batch.img1))
    result = model(img0, img1, batch.t, levels)
    there = metric_device(device)
    frame = result.frame[:, :, :height, :width].float().to(there)
    flow = torch.cat((result.flow_01, result.flow_10), dim=1)[:, :, :height, :width].float().to(there)
    blend, target = torch.lerp(batch.img0, batch.img1, sample.t).to(there), batch.target.to(there)
    values = {
        "psnr": min(psnr(frame, target).item(), PSNR_CAP),
        "ssim": ssim(frame, target).item(),
        "blend": min(psnr(blend, target).item(), PSNR_CAP),
    }
    if sample.flow_01 is not None:
        true_flow = batch.flow.to(there)
        both = [end_point_error(flow[:, half], true_flow[:, half]).item() for half in (slice(0, 2), slice(2, 4))]
        values["flow_error"] = sum(both) / 2
    picture = (frame[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().cpu().numpy()
    return values, prediction_row(sample, picture, flow[0, :2].permute(1, 2, 0).cpu().numpy())


def _read_triplets(folder: Path) -> list[Sample]:
    """All triplets of a folder, whole."""
    samples = []
    for first in sorted(folder.rglob("im1.png")):
        try:
            img0, target, img1 = read_frames([first.with_name(f"im{index}.png") for index in (1, 2, 3)])
        except MediaError as error:
            raise TrainingError(
                f"validation.triplets must hold im1.png, im2.png, im3.png of one size: {error}"
            ) from error
        samples.append(Sample(img0, img1, target, 0.5))
    if not samples:
        raise TrainingError(f"validation.triplets must hold folders with im1.png, im2.png, im3.png, got {folder}")
    return samples
