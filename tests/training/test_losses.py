"""Losses against the reference's values and against what they must do."""

import numpy as np
import pytest
import skimage.metrics
import torch
import torch.nn.functional as F

from uprnet.network.ops import cost_volume
from uprnet.training.losses import census, charbonnier, flow_at_level, flow_error, laplacian, matching, psnr


@pytest.mark.parametrize("loss", [census, charbonnier])
def test_values_are_those_of_the_reference(golden_metrics, loss):
    x, y, values = golden_metrics
    # The reference reads its channels as R, G, B in the order of the file.
    assert loss(x, y).mean().item() == pytest.approx(values[loss.__name__], rel=1e-5)


def test_census_against_loops():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 1, 3, 7, 6))
    expected = 0.0
    weights = np.array([0.2989, 0.5870, 0.1140])[:, None, None]
    grey = [np.pad((image[0] * weights).sum(axis=0), 3) for image in (x, y)]
    for row in range(1, 6):
        for column in range(1, 5):
            for dy in range(-3, 4):
                for dx in range(-3, 4):
                    soft = []
                    for image in grey:
                        d = image[row + 3 + dy, column + 3 + dx] - image[row + 3, column + 3]
                        soft.append(d / np.sqrt(0.81 + d * d))
                    squared = (soft[0] - soft[1]) ** 2
                    expected += squared / (0.1 + squared) / 49 / (7 * 6)
    assert census(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", [census, charbonnier, laplacian, psnr])
def test_a_batch_is_the_sum_of_its_items(loss):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 3, 32, 40, generator=generator).unbind(0)
    together = loss(x, y)
    for index in range(3):
        assert together[index] == pytest.approx(loss(x[index : index + 1], y[index : index + 1]).item(), rel=1e-5)


@pytest.mark.parametrize("loss", [census, charbonnier, laplacian, psnr])
def test_gradients_are_those_of_finite_differences(loss):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 3, 9, 8, generator=generator, dtype=torch.float64).unbind(0)
    assert torch.autograd.gradcheck(loss, (x.requires_grad_(True), y))


def test_psnr_is_that_of_scikit_image_and_has_an_end_where_no_one_sees_a_difference():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 1, 3, 9, 8))
    expected = skimage.metrics.peak_signal_noise_ratio(y, x, data_range=1)
    assert psnr(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(-expected, abs=1e-3)
    assert psnr(torch.from_numpy(x), torch.from_numpy(x)).item() == pytest.approx(-50)


def test_laplacian_is_zero_for_equal_images_and_counts_broad_errors_more():
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    checker = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 - 0.5).mul(0.2)
    assert laplacian(image, image).item() == 0
    assert laplacian(image, image + 0.1).item() > 5 * laplacian(image, image + checker).item()


def test_flow_at_a_level_is_in_pixels_of_that_level():
    true_flow = torch.full((1, 4, 64, 96), 8.0)
    assert torch.equal(flow_at_level(true_flow, 0), torch.full((1, 4, 16, 24), 8.0))
    assert torch.equal(flow_at_level(true_flow, 2), torch.full((1, 4, 4, 6), 2.0))


def test_flow_error_is_the_mean_length_of_the_difference():
    true_flow = torch.zeros(2, 4, 32, 32)
    true_flow[1, 0], true_flow[1, 1] = 6.0, 8.0  # 3 and 4 pixels at level 1; the other direction is 0
    found = flow_error(torch.zeros(2, 4, 4, 4), true_flow, level=1)
    assert found.tolist() == pytest.approx([0, 2.5], abs=2e-3)


def test_flow_that_moves_every_pixel_right_has_no_error():
    flow = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    enlarged = F.interpolate(flow, scale_factor=16, mode="bilinear", align_corners=False)
    assert flow_error(flow, 4 * enlarged, level=2).item() == pytest.approx(0, abs=2e-3)
    assert flow_error(flow, 4 * enlarged.roll(2, dims=3), level=2).item() > 0.1


def test_pixels_of_unknown_motion_count_for_nothing():
    flow = torch.zeros(1, 4, 8, 8, requires_grad=True)
    truth = torch.full((1, 4, 32, 32), torch.nan)
    truth[:, :, :16] = 3.0
    found = flow_error(flow, truth, level=0)
    assert found.item() == pytest.approx(18**0.5 / 2, abs=2e-3)
    found.sum().backward()
    assert flow.grad.isfinite().all()
    assert not flow.grad[:, :, 5:].any()  # the fifth row of cells reaches into what is known
    costs = torch.randn(1, 81, 8, 8, generator=torch.Generator().manual_seed(0))
    known = torch.where(truth.isfinite(), truth, 1000.0)
    assert matching(costs, truth, 0, torch.tensor(1.0)) == matching(costs, known, 0, torch.tensor(1.0))


def test_matching_is_smallest_for_features_that_moved_as_the_flow_says():
    features = torch.nn.functional.normalize(torch.randn(1, 16, 24, 24, generator=torch.Generator().manual_seed(0)))
    moved = torch.roll(features, (1, -2), (2, 3))  # dy = 1, dx = -2 on the quarter grid
    flow = torch.zeros(1, 4, 96, 96)
    flow[:, 0], flow[:, 1] = -8.0, 4.0
    costs = 16 * cost_volume(features, moved)
    right = matching(costs, flow, 0, torch.tensor(10.0))
    wrong = matching(costs, -flow, 0, torch.tensor(10.0))
    assert right.item() < 0.2
    assert wrong.item() > 5


def test_matching_leaves_out_what_moves_too_far_or_out_of_the_picture():
    costs = torch.randn(1, 81, 8, 8, generator=torch.Generator().manual_seed(0))
    flow = torch.full((1, 4, 32, 32), 100.0)
    assert matching(costs, flow, 0, torch.tensor(10.0)).item() == 0
