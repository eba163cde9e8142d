"""Arrays in, arrays out."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from uprnet import Interpolator, InvalidInputError, UPRNet, load_model
from uprnet.devices import pick_device

TYPES = [np.uint8, np.uint16, np.float32, np.float64]


@pytest.fixture(scope="module")
def interpolator() -> Interpolator:
    return Interpolator("small", device="cpu")


def images(dtype: Any = np.uint8, height: int = 70, width: int = 91, channels: int = 3) -> tuple[Any, Any]:
    """A smooth picture, and the same moved two pixels to the right; white is the full range of the type."""
    y, x = np.mgrid[0:height, 0 : width + 2]
    planes = [np.sin(x / (5 + c)) * np.cos(y / (7 + c)) for c in range(channels)]
    picture = 0.5 + 0.4 * np.stack(planes, axis=-1)
    white = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    picture = (picture * white).round().astype(dtype) if white != 1 else picture.astype(dtype)
    return picture[:, 2:].copy(), picture[:, :-2].copy()


@pytest.mark.parametrize("dtype", TYPES)
def test_type_size_and_range_come_back(interpolator: Interpolator, dtype: Any):
    img0, img1 = images(dtype)
    frame = interpolator(img0, img1, t=0.5)
    assert frame.dtype == img0.dtype
    assert frame.shape == img0.shape
    white = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    reference = interpolator(*images(np.float64), t=0.5)
    assert np.abs(frame / white - reference).max() < (1.5 if dtype == np.uint8 else 0.02) / 255  # 8 bits: half a step


def test_integers_are_rounded_not_truncated(interpolator: Interpolator):
    img0, img1 = images(np.uint8)
    exact = interpolator(img0 / np.float64(255), img1 / np.float64(255)) * 255
    assert np.abs(interpolator(img0, img1) - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_torch_images_give_torch_images(interpolator: Interpolator, dtype: torch.dtype, batched: bool):
    img0, img1 = (torch.from_numpy(image).permute(2, 0, 1) for image in images())
    if dtype != torch.uint8:
        img0, img1 = img0.to(dtype) / 255, img1.to(dtype) / 255
    if batched:
        img0, img1 = torch.stack([img0, img1]), torch.stack([img1, img0])
    frame = interpolator(img0, img1, t=0.5)
    assert frame.dtype == dtype
    assert frame.shape == img0.shape
    expected = interpolator(*images(), t=0.5)
    first = frame[0] if batched else frame
    scaled = first.float() * (1 if dtype == torch.uint8 else 255)
    assert np.abs(scaled.permute(1, 2, 0).numpy() - expected).max() <= 1.1


def test_the_ends_come_back_exactly(interpolator: Interpolator):
    img0, img1 = images()
    first, last = interpolator.between(img0, img1, [0, 1])
    assert np.array_equal(first, img0)
    assert np.array_equal(last, img1)
    first[:] = 0  # a copy: the input stays
    assert img0.any()


def test_the_middle_is_nearer_to_the_truth_than_a_blend(interpolator: Interpolator):
    img0, _ = images(width=95)
    img0, target, img1 = img0[:, 4:], img0[:, 2:-2], img0[:, :-4]
    frame = interpolator(img0, img1, t=0.5)
    blend = (img0.astype(float) + img1) / 2
    assert np.square(frame - target.astype(float)).mean() < 0.5 * np.square(blend - target).mean()


def counted(monkeypatch: pytest.MonkeyPatch, method: str) -> list[None]:
    """Count the calls of a method of the network."""
    calls: list[None] = []
    original = getattr(UPRNet, method)

    def count(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        return original(*arguments, **options)

    monkeypatch.setattr(UPRNet, method, count)
    return calls


@pytest.mark.parametrize(("channels", "levels", "skip"), [(3, 3, 0), (4, 3, 0), (3, 4, 2), (3, 1, 0)])
def test_many_times_equal_single_times(monkeypatch: pytest.MonkeyPatch, channels: int, levels: int, skip: int):
    """To the bit: coarser levels are made at once, and this leaves no trace."""
    interpolator = Interpolator("small", device="cpu", num_levels=levels, skip_finest=skip)
    img0, img1 = images(np.float32, channels=channels)
    times = [k / 7 for k in range(1, 7)]
    single = [interpolator(img0, img1, t=t) for t in times]
    batches: list[int] = []
    synthesize_coarse = UPRNet.synthesize_coarse

    def watched(*arguments: Any) -> Any:
        coarse = synthesize_coarse(*arguments)
        batches.append(0 if coarse is None else len(coarse))
        return coarse

    monkeypatch.setattr(UPRNet, "synthesize_coarse", watched)
    together = interpolator.between(img0, img1, times)
    assert batches == ([0, 0] if levels == 1 else [4, 2])
    assert all(np.array_equal(one, other) for one, other in zip(together, single, strict=True))


def test_motion_is_estimated_once_for_all_times(monkeypatch: pytest.MonkeyPatch):
    interpolator = Interpolator("small", device="cpu")
    motions, encodings = counted(monkeypatch, "estimate_motion"), counted(monkeypatch, "encode")
    interpolator.between(*images(), [0.25, 0.5, 0.75])
    assert len(motions) == 1
    assert len(encodings) == 2


def test_a_frame_of_the_last_pair_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch):
    interpolator = Interpolator("small", device="cpu")
    encodings = counted(monkeypatch, "encode")
    img0, img1 = images()
    img2 = np.roll(img1, 2, axis=1)
    interpolator(img0, img1)
    after = interpolator(img1, img2)
    assert len(encodings) == 3
    assert np.array_equal(after, Interpolator("small", device="cpu")(img1, img2))


def test_a_buffer_that_is_filled_anew_is_encoded_anew():
    interpolator = Interpolator("small", device="cpu")
    img0, img1 = images()
    buffer = img1.copy()
    interpolator(img0, buffer)
    buffer[:] = np.flipud(img1)
    fresh = Interpolator("small", device="cpu")(buffer, img0)
    assert np.array_equal(interpolator(buffer, img0), fresh)


def test_nothing_is_computed_for_the_ends_alone(monkeypatch: pytest.MonkeyPatch):
    encodings = counted(monkeypatch, "encode")
    Interpolator("small", device="cpu").between(*images(), [0, 1])
    assert encodings == []


@pytest.mark.parametrize("size", [(16, 16), (17, 130), (64, 31)])
def test_any_size_from_16_pixels_on(interpolator: Interpolator, size: tuple[int, int]):
    img0, img1 = images(height=size[0], width=size[1])
    assert interpolator(img0, img1).shape == (*size, 3)


def test_alpha_follows_the_motion(interpolator: Interpolator):
    img0, img1 = images()
    opaque = [np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]) for image in (img0, img1)]
    frame = interpolator(*opaque)
    assert np.array_equal(frame[..., :3], interpolator(img0, img1))
    assert (frame[..., 3] == 255).all()
    half = [image.copy() for image in opaque]
    half[0][:, :40, 3] = half[1][:, :42, 3] = 0  # the edge moves with the picture
    alpha = interpolator(*half)[20:-20, :, 3]
    assert alpha[:, :39].max() == 0
    assert alpha[:, 43:].min() == 255
    assert alpha.dtype == np.uint8


def test_flow_is_in_pixels_of_the_image(interpolator: Interpolator):
    flow_01, flow_10 = interpolator.pair(*images()).flow()
    assert flow_01.shape == flow_10.shape == (1, 2, 70, 91)
    assert float(flow_01[0, 0, 20:-20, 20:-20].mean()) == pytest.approx(2, abs=1)
    assert float(flow_10[0, 0, 20:-20, 20:-20].mean()) == pytest.approx(-2, abs=1)


def test_levels_and_skipping_can_be_given():
    img0, img1 = images(height=128, width=128)
    interpolator = Interpolator("small", device="cpu", num_levels=4, skip_finest=2)
    assert interpolator.levels_for(128, 128) == (4, 2)
    assert interpolator(img0, img1).shape == img0.shape


def test_padding_does_not_show_at_the_edges():
    """A black stripe on the right: grey must not leak into it from outside the picture."""
    img0, img1 = images()
    for image in (img0, img1):
        image[:, -8:] = 0
    leaks = {}
    for padding in ("replicate", "constant"):
        frame = Interpolator("small", device="cpu", padding=padding)(img0, img1)
        leaks[padding] = float(frame[:, -4:].mean())
    assert leaks["replicate"] < 2  # of 255
    assert leaks["replicate"] <= leaks["constant"]
    with pytest.raises(InvalidInputError, match="padding must be one of replicate, constant, got 'grey'"):
        Interpolator("small", device="cpu", padding="grey")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"), [("num_levels", 0), ("num_levels", 2.5), ("num_levels", 20), ("skip_finest", -1)]
)
def test_levels_that_there_cannot_be_are_refused(option: str, value: Any):
    with pytest.raises(InvalidInputError, match=f"{option} must be a whole number from . .*, got {value}"):
        Interpolator("small", device="cpu", **{option: value})


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan"), None, "soon"])
def test_time_outside_the_pair_is_refused(interpolator: Interpolator, t: Any):
    with pytest.raises(InvalidInputError, match=r"t must be in \[0, 1\]"):
        interpolator(*images(), t=t)
    with pytest.raises(InvalidInputError, match=r"t must be in \[0, 1\]"):
        interpolator.pair(*images()).synthesis(t)


def test_several_times_outside_the_pair_are_refused(interpolator: Interpolator):
    with pytest.raises(InvalidInputError, match=r"t must be in \[0, 1\], got 1.5"):
        interpolator.pair(*images()).synthesis(torch.tensor([0.25, 1.5]))


@pytest.mark.parametrize("times", [iter([0.25, 1, 0.75]), torch.tensor([0.25, 1, 0.75]), np.array([0.25, 1, 0.75])])
def test_times_may_be_anything_that_gives_numbers(interpolator: Interpolator, times: Any):
    expected = interpolator.between(*images(), [0.25, 1.0, 0.75])
    np.testing.assert_array_equal(interpolator.between(*images(), times), expected)


def test_torch_frames_and_flow_are_ordinary_tensors(interpolator: Interpolator):
    img0, img1 = (torch.from_numpy(image).permute(2, 0, 1) for image in images(np.float32))
    pair = interpolator.pair(img0, img1)
    for tensor in (*pair.frames([0, 0.5]), *pair.flow()):
        assert tensor.is_contiguous()
        tensor.mul_(torch.ones(1, requires_grad=True)).sum().backward()


def test_threads_may_share_an_interpolator():
    pictures = [np.roll(images()[0], shift, axis=1) for shift in range(6)]
    pairs = [(pictures[i], pictures[(i * k + 1) % 6]) for k in (1, 5) for i in range(6)]
    interpolator = Interpolator("small", device="cpu")
    expected = [interpolator(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(lambda pair: interpolator(*pair), pairs)), expected)


def test_a_network_is_copied(interpolator: Interpolator):
    network = load_model("small").double().train()
    mine = Interpolator(network, device="cpu")
    before = mine(*images())
    np.testing.assert_array_equal(before, interpolator(*images()))
    assert network.training
    for weights in network.parameters():
        weights.zero_()
    np.testing.assert_array_equal(mine(*images()), before)
    with pytest.raises(InvalidInputError, match="has no weights of its own"):
        Interpolator(interpolator.model)


@pytest.mark.parametrize("again", [deepcopy, lambda interpolator: pickle.loads(pickle.dumps(interpolator))])
@pytest.mark.parametrize("model", ["small", load_model("small")])
def test_an_interpolator_can_be_copied_and_sent_to_other_processes(again: Any, model: Any):
    interpolator = Interpolator(model, "cpu", engine="torch", num_levels=2, padding="constant")
    copy = again(interpolator)
    assert copy.identity == interpolator.identity
    np.testing.assert_array_equal(copy(*images()), interpolator(*images()))


@pytest.mark.parametrize("order", "<>")
def test_bytes_of_a_number_may_come_in_any_order(interpolator: Interpolator, order: str):
    given = [image.astype(f"{order}u2") for image in images(np.uint16)]
    made = interpolator(*given)
    assert made.dtype == given[0].dtype
    np.testing.assert_array_equal(made, interpolator(*images(np.uint16)))


def test_read_only_images_are_taken(interpolator: Interpolator):
    img0, img1 = images()
    expected = interpolator(img0, img1)
    img0.setflags(write=False)
    np.testing.assert_array_equal(interpolator(img0, img1), expected)


def bad_pairs() -> list[Any]:
    img0, img1 = images()
    return [
        (img0, img1[:-1], r"same size, got \(70, 91\) and \(69, 91\)"),
        (img0, img1.astype(np.uint16), "must be alike, got uint8 .* and uint16"),
        (img0, torch.from_numpy(img1).permute(2, 0, 1), "must be alike"),
        (img0[..., 0], img1[..., 0], r"must be a numpy array \(H, W, 3 or 4\).*got ndarray \(70, 91\)"),
        (img0.tolist(), img1.tolist(), "must be a numpy array .* got list"),
        (img0[:1, :1], img1[:1, :1], r"at least 16 x 16 pixels, got \(1, 1\)"),
        (torch.zeros(0, 3, 32, 32), torch.zeros(0, 3, 32, 32), r"got Tensor \(0, 3, 32, 32\)"),
        (img0.astype(np.longdouble), img1.astype(np.longdouble), "must be uint8, uint16 or floating"),
        (img0.astype(np.int32), img1.astype(np.int32), "must be uint8, uint16 or floating"),
        (img0.astype(np.float32), img1.astype(np.float32), r"in \[0, 1\], got values from"),
        (np.full((32, 32, 3), np.nan), np.zeros((32, 32, 3)), r"in \[0, 1\], got values from nan"),
    ]


@pytest.mark.parametrize(("img0", "img1", "message"), bad_pairs())
def test_images_that_do_not_fit_are_refused(interpolator: Interpolator, img0: Any, img1: Any, message: str):
    with pytest.raises(InvalidInputError, match=message) as caught:
        interpolator(img0, img1)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InvalidInputError, match="device must be auto, cpu, cuda or another"):
        pick_device("quantum")
    with pytest.raises(InvalidInputError, match="got meta"):
        pick_device("meta")
    assert pick_device("cpu") == torch.device("cpu")
