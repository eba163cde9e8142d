"""Pictures to look at while training: what the generator makes, and what the network makes of it."""

from pathlib import Path

import cv2
import flow_vis
import numpy as np

from uprnet.files import check_output, write_whole
from uprnet.training.sample import Flow, Image, Sample
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion

ERROR_GAIN = 4  # factor on absolute differences, so that small ones are seen


def prediction_row(sample: Sample, img_t: Image, flow_01: Flow) -> Image:
    """Lay out one prediction: overlay of the inputs, target, prediction, error, flow.

    Args:
        sample: What the network was given, and the truth.
        img_t: Its frame, ``(H, W, 3)``.
        flow_01: Its flow, ``(H, W, 2)``.

    Returns:
        ``(H, 5 * W, 3)`` RGB uint8.
    """
    overlay = (sample.img0 // 2 + sample.img1 // 2).astype(np.uint8)
    difference = np.abs(img_t.astype(np.int16) - sample.target) * ERROR_GAIN
    error = np.clip(difference, 0, 255).astype(np.uint8)
    return np.hstack((overlay, sample.target, img_t, error, _colour(flow_01)))


def synthetic_sheet(config: SyntheticConfig, rows: int = 8, size: int = 192, seed: int = 0) -> Image:
    """Draw scenes of the generator, one a row: img0, target, img1, flow both ways.

    Args:
        config: What to make.
        rows: Number of scenes.
        size: Side of each picture, in pixels.
        seed: Seed of the first scene.

    Returns:
        ``(rows * size, 5 * size, 3)`` RGB uint8.

    Raises:
        TrainingError: If the folder of photos holds none.
    """
    generator = SyntheticMotion(config)
    pictures = []
    for row in range(rows):
        sample = generator.sample(size, np.random.default_rng((seed, row)))
        assert sample.flow_01 is not None  # synthetic motion is known
        assert sample.flow_10 is not None
        flows = (_colour(sample.flow_01), _colour(sample.flow_10))
        pictures.append(np.hstack((sample.img0, sample.target, sample.img1, *flows)))
    return np.vstack(pictures)


def save_synthetic_sheet(
    path: Path, config: SyntheticConfig, rows: int = 8, size: int = 192, seed: int = 0, *, overwrite: bool = False
) -> None:
    """Write what the generator makes as a PNG; see `synthetic_sheet`.

    Args:
        path: PNG file.
        config: What to make.
        rows: Number of scenes.
        size: Side of each picture, in pixels.
        seed: Seed of the first scene.
        overwrite: Replace a file that is there.

    Raises:
        TrainingError: If the folder of photos holds none.
        OutputExistsError: If the file exists and ``overwrite`` is false.
    """
    check_output(path, overwrite=overwrite)
    sheet = synthetic_sheet(config, rows, size, seed)
    _, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with write_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data.tobytes())


def _colour(flow: Flow) -> Image:
    return np.asarray(flow_vis.flow_to_color(np.ascontiguousarray(flow)), dtype=np.uint8)
