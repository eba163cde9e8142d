"""PSNR and SSIM against the reference's own values and against plain loops."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d

from uprnet.errors import InvalidInputError
from uprnet.evaluation.metrics import end_point_error, psnr, psnr_rounded, ssim


def test_psnr_is_that_of_the_reference(golden_metrics):
    x, y, values = golden_metrics
    assert psnr(x, y).tolist() == pytest.approx(values["psnr"], abs=1e-4)


def test_ssim_is_that_of_the_reference(golden_metrics):
    x, y, values = golden_metrics
    assert ssim(x, y).tolist() == pytest.approx(values["ssim"], abs=1e-5)


def test_ssim_does_not_depend_on_the_strips(golden_metrics, monkeypatch):
    x, y, values = golden_metrics
    monkeypatch.setattr("uprnet.evaluation.metrics.SSIM_STRIP", 7)
    assert ssim(x, y).tolist() == pytest.approx(values["ssim"], abs=1e-5)


def test_ssim_keeps_all_digits_on_cuda(monkeypatch):
    allowed, convolve = [], F.conv2d

    def conv2d(*arguments):
        allowed.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return convolve(*arguments)

    monkeypatch.setattr(F, "conv2d", conv2d)
    before = torch.backends.cudnn.allow_tf32
    ssim(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    assert set(allowed) == {(True, False)}
    assert torch.backends.cudnn.allow_tf32 == before


def test_ssim_against_a_three_dimensional_filter():
    rng = np.random.default_rng(0)
    x = rng.random((1, 3, 23, 17))
    y = np.clip(x + rng.normal(0, 0.1, x.shape), 0, 1)

    def blur(volume):
        for axis in range(3):
            volume = gaussian_filter1d(volume, 1.5, axis=axis, mode="nearest", radius=5)
        return volume

    a, b = x[0], y[0]
    ma, mb = blur(a), blur(b)
    cov, va, vb = blur(a * b) - ma * mb, blur(a * a) - ma**2, blur(b * b) - mb**2
    expected = ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean()
    assert ssim(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(expected, abs=1e-5)


def test_rounding_is_to_the_nearest_of_256_values():
    target = torch.full((1, 3, 4, 4), 100 / 255)
    assert math.isinf(psnr_rounded(target + 0.49 / 255, target).item())
    assert psnr_rounded(target + 0.51 / 255, target).item() == pytest.approx(20 * math.log10(255), abs=1e-4)
    assert psnr_rounded(torch.full_like(target, 1.5), torch.ones_like(target)).item() == math.inf


def test_end_point_error_is_per_image():
    flow = torch.zeros(2, 2, 3, 3)
    flow[1, 0], flow[1, 1] = 3, -4
    assert end_point_error(flow, torch.zeros_like(flow)).tolist() == [0, 5]


@pytest.mark.parametrize("metric", [psnr, psnr_rounded, ssim, end_point_error])
def test_different_sizes_are_refused_with_both_sizes(metric):
    with pytest.raises(InvalidInputError, match=r"\(1, 3, 8, 8\) and \(1, 3, 8, 9\)"):
        metric(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))


@pytest.mark.slow
def test_a_4k_pair_stays_within_two_gibibytes():
    code = (
        "import resource, torch; from uprnet.evaluation.metrics import psnr, ssim\n"
        "x = torch.rand(1, 3, 2160, 3840); y = (x + 0.01).clamp(0, 1)\n"
        "psnr(x, y), ssim(x, y); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) * 1024 < 2 * 1024**3  # ru_maxrss is in KiB on Linux
