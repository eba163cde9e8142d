"""Validation: fixed samples, honest numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from uprnet.errors import TrainingError
from uprnet.network.weights import load_model
from uprnet.training.mixture import DataConfig
from uprnet.training.synthetic import SyntheticConfig
from uprnet.training.trees import TripletConfig
from uprnet.training.validation import Validator

SYNTHETIC = DataConfig(crop=32, synthetic=SyntheticConfig(weight=1.0, max_layers=1, mean_motion=3))
CPU = torch.device("cpu")


def test_the_samples_are_the_same_in_every_run():
    first, second = (Validator(SYNTHETIC, 3, 48) for _ in range(2))
    for left, right in zip(first.sets["synthetic"], second.sets["synthetic"], strict=True):
        assert np.array_equal(left.img0, right.img0)


def test_a_trained_network_is_measured_as_better_than_blending():
    found = Validator(SYNTHETIC, 4, 64)(load_model("small"), CPU)
    values = found.values
    assert values["synthetic/psnr"] > values["synthetic/blend"] + 1
    assert found.score == values["synthetic/psnr"]
    assert 0 < values["synthetic/flow_error"] < 3
    assert 0.5 < values["synthetic/ssim"] <= 1
    assert found.sheet.shape == (4 * 64, 5 * 64, 3)


def test_small_samples_have_the_levels_of_training():
    """By the rule for images a sample of 64 pixels has one level, which cannot find motion of 20 pixels."""
    data = replace(SYNTHETIC, synthetic=SyntheticConfig(weight=1.0, max_layers=0, mean_motion=20, rotation=0, bend=0))
    few, many = (Validator(data, 6, 64, num_levels)(load_model("small"), CPU).values for num_levels in (1, 3))
    assert many["synthetic/flow_error"] < few["synthetic/flow_error"] - 1


def test_given_triplets_of_odd_size_are_padded_and_cropped(tmp_path, write_image, frames):
    for index, image in enumerate(frames(3, (45, 61), (1, 1)), start=1):
        write_image(tmp_path / "a" / f"im{index}.png", image)
    validator = Validator(SYNTHETIC, 1, 32, triplets=tmp_path)
    assert [sample.img0.shape for sample in validator.sets["given"]] == [(45, 61, 3)]
    assert validator(load_model("small"), CPU).values["given/psnr"] > 20


def test_given_triplets_of_unequal_sizes_are_refused(tmp_path, write_image):
    for index, height in enumerate((40, 44, 40), start=1):
        write_image(tmp_path / "a" / f"im{index}.png", np.zeros((height, 48, 3), np.uint8))
    with pytest.raises(TrainingError, match="of one size: the frames of a sample must have one size"):
        Validator(SYNTHETIC, 1, 32, triplets=tmp_path)


def test_a_source_that_holds_nothing_back_is_left_out(vimeo_tree, caplog):
    tree = TripletConfig(str(vimeo_tree(3, "tri_trainlist.txt", samples=2)), 1.0)
    assert list(Validator(replace(SYNTHETIC, triplets=tree), 1, 32).sets) == ["synthetic"]
    assert "no validation on triplets" in caplog.text
    with pytest.raises(TrainingError, match="no source holds anything back"):
        Validator(DataConfig(crop=32, triplets=tree), 1, 32)


def test_a_folder_without_triplets_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"must hold folders with im1.png"):
        Validator(SYNTHETIC, 1, 32, triplets=tmp_path)
