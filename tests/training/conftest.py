"""Small runs, clips and data set trees for the tests of the training room."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from uprnet.training.config import (
    ComputeConfig,
    LogConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainingConfig,
    ValidationConfig,
)
from uprnet.training.mixture import DataConfig
from uprnet.training.objective import LossConfig
from uprnet.training.synthetic import SyntheticConfig
from uprnet.training.textures import procedural_texture


@pytest.fixture(autouse=True)
def one_thread():
    """One thread for the tests' tiny tensors: more are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(tmp_path):
    """A run of eight steps on synthetic motion, about a second long."""

    def make(steps=8, **changes):
        config = TrainingConfig(
            run=str(tmp_path / "run"),
            network=NetworkConfig(size="small"),
            data=DataConfig(crop=32, workers=0, synthetic=SyntheticConfig(weight=1.0, max_layers=1, mean_motion=2.0)),
            loss=LossConfig(census=0.0, flow=0.05, matching=0.05, frame_decay=0.5),
            optimizer=OptimizerConfig(steps=steps, batch_size=4, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9),
            compute=ComputeConfig(device="cpu"),
            validation=ValidationConfig(every=0),
            log=LogConfig(every=1, checkpoint_every=3, tensorboard=False),
        )
        return replace(config, **changes)

    return make


def sliding_frames(count, size=(96, 128), shift=(2, 3), seed=0):
    """Frames of a texture that slides by ``shift`` pixels (dy, dx) a frame, ``(count, H, W, 3)``."""
    rng = np.random.default_rng(seed)
    height, width = size
    texture = procedural_texture((height + abs(shift[0]) * count, width + abs(shift[1]) * count), rng)
    return [texture[i * shift[0] :, i * shift[1] :][:height, :width].copy() for i in range(count)]


@pytest.fixture
def frames():
    return sliding_frames


def _write(path: Path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])


@pytest.fixture
def write_image():
    return _write


@pytest.fixture
def vimeo_tree(tmp_path):
    """Make a tree like Vimeo90K's, with ``length`` frames a sample."""

    def make(length, list_file, samples=40, size=(48, 64)):
        root = tmp_path / f"vimeo{length}"
        names = [f"{index // 10:05d}/{index % 10 + 1:04d}" for index in range(samples)]
        for index, name in enumerate(names):
            for number, image in enumerate(sliding_frames(length, size, (1, 1), seed=index), start=1):
                _write(root / "sequences" / name / f"im{number}.png", image)
        (root / list_file).write_text("\n".join(names) + "\n")
        return root

    return make
