"""Variations: flow follows the picture, and equal generators give equal results."""

import cv2
import numpy as np
import pytest

from uprnet.errors import TrainingError
from uprnet.training.augmentation import (
    AugmentationConfig,
    augment,
    flip_horizontally,
    flip_vertically,
    jitter_colour,
    pad,
    random_crop,
    resize_square,
    reverse_channels,
    rotate,
    swap_time,
)
from uprnet.training.sample import Sample
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion


@pytest.fixture(scope="module")
def sample():
    config = SyntheticConfig(max_layers=0, noise=0, jpeg=0, light=0, motion_blur=0, bend=0, mean_motion=6)
    return SyntheticMotion(config).sample(64, np.random.default_rng(3))


def mean_warping_error(sample: Sample) -> float:
    """Mean difference of img0 and img1 fetched along the flow, away from the border, of 255."""
    size = sample.img0.shape[0]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    fetch_x, fetch_y = x + sample.flow_01[..., 0], y + sample.flow_01[..., 1]
    fetched = cv2.remap(np.ascontiguousarray(sample.img1), fetch_x, fetch_y, cv2.INTER_CUBIC)
    inside = (fetch_x > 1) & (fetch_x < size - 2) & (fetch_y > 1) & (fetch_y < size - 2)
    assert inside.mean() > 0.3
    return np.abs(fetched.astype(float) - sample.img0)[inside].mean()


def seed_that(applies, change, sample):
    """A seed for which a variation with probability one half does, or does not, happen."""
    return next(seed for seed in range(50) if (change(sample, np.random.default_rng(seed)) is not sample) == applies)


def test_the_sample_itself_is_consistent(sample):
    assert np.hypot(*sample.flow_01.transpose(2, 0, 1)).mean() > 2
    assert mean_warping_error(sample) < 3
    still = Sample(**{**vars(sample), "flow_01": np.zeros_like(sample.flow_01)})
    assert mean_warping_error(still) > 10  # so the bound above means something


@pytest.mark.parametrize("change", [flip_horizontally, flip_vertically, swap_time, reverse_channels])
def test_flow_follows_the_picture(sample, change):
    changed = change(sample, np.random.default_rng(seed_that(True, change, sample)))
    assert not np.array_equal(changed.img0, sample.img0)
    assert mean_warping_error(changed) < 3


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_flow_follows_each_rotation(sample, turns):
    for seed in range(100):
        turned = rotate(sample, np.random.default_rng(seed))
        if turned is not sample and np.array_equal(turned.img0, np.rot90(sample.img0, turns)):
            assert mean_warping_error(turned) < 3
            return
    pytest.fail(f"no seed gives {turns} turns")


@pytest.mark.parametrize("size", [48, 96])
def test_flow_scales_with_the_picture(sample, size):
    resized = resize_square(sample, size)
    assert resized.img0.shape == (size, size, 3)
    assert resized.flow_01.mean() == pytest.approx(sample.flow_01.mean() * size / 64, rel=0.02)
    assert mean_warping_error(resized) < 4


def test_swapping_time_exchanges_frames_and_flows_and_mirrors_t(sample):
    swapped = swap_time(sample, np.random.default_rng(seed_that(True, swap_time, sample)))
    assert swapped.img0 is sample.img1
    assert swapped.flow_01 is sample.flow_10
    assert swapped.t == 1 - sample.t
    assert swapped.target is sample.target


def test_colours_change_alike_in_all_frames(sample):
    same = Sample(sample.img0, sample.img0, sample.img0, 0.5)
    seed = seed_that(True, lambda s, rng: jitter_colour(s, rng, 0.2), same)
    changed = jitter_colour(same, np.random.default_rng(seed), 0.2)
    assert not np.array_equal(changed.img0, same.img0)
    assert np.array_equal(changed.img0, changed.img1)
    assert np.array_equal(changed.img0, changed.target)


def test_a_crop_is_a_part_of_all_frames_and_of_the_flow(sample):
    crop = random_crop(sample, 32, np.random.default_rng(1))
    found = [
        (top, left)
        for top in range(33)
        for left in range(33)
        if np.array_equal(crop.img0, sample.img0[top : top + 32, left : left + 32])
    ]
    assert len(found) == 1
    top, left = found[0]
    assert np.array_equal(crop.target, sample.target[top : top + 32, left : left + 32])
    assert np.array_equal(crop.flow_10, sample.flow_10[top : top + 32, left : left + 32])


def test_a_crop_larger_than_the_picture_is_refused(sample):
    with pytest.raises(TrainingError, match="the crop of 65x65 must fit into the images, got images of 64x64"):
        random_crop(sample, 65, np.random.default_rng(0))


def test_padding_replaces_the_last_rows_and_columns_of_all_frames_and_forgets_their_flow(sample):
    seen = set()
    for seed in range(40):
        padded = pad(sample, np.random.default_rng(seed), 5)
        rows, columns = (np.isnan(padded.flow_01[..., 0]).all(axis=axis).sum() for axis in (1, 0))
        height, width = 64 - rows, 64 - columns
        for name in ("img0", "target", "img1"):
            image, before = getattr(padded, name), getattr(sample, name)
            assert np.array_equal(image[:height, :width], before[:height, :width])
            assert np.all(image[height:] == 128)  # what 0.5 is in 8 bit
            assert np.all(image[:, width:] == 128)
        assert np.array_equal(padded.flow_10[:height, :width], sample.flow_10[:height, :width])
        assert np.isnan(padded.flow_10[height:]).all()
        assert np.isnan(padded.flow_10[:, width:]).all()
        seen.add((rows, columns))
    assert {rows for rows, _ in seen} == {columns for _, columns in seen} == {0, 1, 2, 3, 4, 5}
    assert (0, 0) in seen


def test_augmenting_is_a_pure_function_of_sample_and_generator(sample):
    config = AugmentationConfig(colour=0.1, padding=8)
    before = sample.img0.copy()
    first, second = (augment(sample, config, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.img0, second.img0)
    assert np.array_equal(first.flow_01, second.flow_01, equal_nan=True)
    assert np.array_equal(sample.img0, before)


def test_everything_switched_off_changes_nothing(sample):
    config = AugmentationConfig(reverse_channels=False, flip=False, rotate=False, swap_time=False)
    assert augment(sample, config, np.random.default_rng(0)) is sample


def test_each_variation_happens_half_of_the_time(sample):
    for change in (reverse_channels, flip_horizontally, flip_vertically, rotate, swap_time):
        happened = sum(change(sample, np.random.default_rng(seed)) is not sample for seed in range(200))
        assert 70 < happened < 130, change.__name__
