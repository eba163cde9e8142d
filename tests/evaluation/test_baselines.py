"""What the network is compared with."""

import numpy as np
import pytest
import torch

from uprnet.evaluation.baselines import Minterpolate, blend, dis_flow, has_minterpolate, repeat

TIMES = [0.25, 0.5, 0.75]


def as_batch(*images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def psnr(frame, target):
    return 10 * np.log10(1 / (frame - target).square().mean().item())


def test_repeat_shows_the_nearer_frame_and_blend_fades():
    img0, img1 = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert [frame.mean().item() for frame in repeat(img0, img1, TIMES)] == [0, 0, 1]
    assert [frame.mean().item() for frame in blend(img0, img1, TIMES)] == TIMES


def test_dis_flow_follows_a_shift(frames):
    img0, img1, quarter = (np.roll(frames[0], shift, axis=1) for shift in (0, 8, 2))
    batch = as_batch(img0, img0), as_batch(img1, img1)
    made = dis_flow(*batch, TIMES)
    assert [frame.shape for frame in made] == [batch[0].shape] * 3
    inner = (..., slice(8, -8), slice(16, -16))
    target = as_batch(quarter)[inner]
    assert psnr(made[0][inner][:1], target) > psnr(blend(*batch, TIMES)[0][inner][:1], target) + 6
    assert torch.equal(made[1][0], made[1][1])


def test_dis_flow_leaves_no_holes():
    rng = torch.Generator().manual_seed(0)
    img0, img1 = (torch.rand(1, 3, 48, 48, generator=rng) * 0.5 + 0.5 for _ in range(2))
    assert all(frame.min() > 0.4 for frame in dis_flow(img0, img1, TIMES))


@pytest.mark.skipif(not has_minterpolate(), reason="libavfilter was built without it")
def test_minterpolate_rounds_sixteen_bits_to_the_nearest_eight():
    filtered = Minterpolate(32, 32, 2)
    for _ in range(3):
        made = filtered.push(np.full((32, 32, 3), 100 * 257 - 100, np.uint16))
    assert {int(value) for image in made.values() for value in np.unique(image)} == {100}


@pytest.mark.skipif(not has_minterpolate(), reason="libavfilter was built without it")
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_minterpolate_numbers_its_frames_as_the_video_did(factor, frames):
    given = frames[::factor]
    filtered = Minterpolate(*given[0].shape[:2], factor)
    made = {}
    for count, image in enumerate(given):
        made |= filtered.push(image)
        # The frames before the last one given are there.
        assert all(number in made for number in range(factor * max(count - 1, 0)))
    for number, image in made.items():
        quality = 10 * np.log10(255**2 / np.square(image - frames[number].astype(float)).mean())
        if number % factor == 0:
            assert quality > 40  # a given frame, but for the way through YUV
        elif factor == 2:
            assert quality > 15
