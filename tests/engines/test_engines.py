"""Engines: the same frames as torch, whatever runs the convolutions."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from uprnet import Interpolator, InvalidInputError, UPRNet, load_model
from uprnet.cli import main
from uprnet.engines import BOXES, LIBRARIES, attach, choose
from uprnet.errors import MissingDependencyError
from uprnet.network.config import Engine, ModelConfig

CPU = torch.device("cpu")

ENGINES = [engine for engine in get_args(Engine) if engine not in ("auto", "torch")]


def there(engine: str) -> str:
    for library in LIBRARIES.get(engine, ()):
        pytest.importorskip(library)
    return engine


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    return there(request.param)


@pytest.fixture(scope="module")
def small() -> UPRNet:
    return load_model("small")


@pytest.fixture(scope="module")
def fast(small: UPRNet, engine: Any) -> UPRNet:
    return attach(small, engine)


def pair(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth random picture, and the same moved by three pixels."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(batch, 3, height // 8 + 3, width // 8 + 3, generator=generator)
    picture = torch.nn.functional.interpolate(noise, scale_factor=8, mode="bicubic").clamp(0, 1)
    return picture[..., :height, :width].contiguous(), picture[..., 2 : height + 2, 3 : width + 3].contiguous()


@pytest.mark.parametrize(
    ("size", "num_levels", "skip_finest"),
    [((64, 96), 3, 0), ((36, 20), 1, 0), ((48, 112), 3, 1), ((96, 64), 4, 3), ((16, 16), 1, 0)],
)
def test_frames_are_those_of_torch(
    small: UPRNet, fast: UPRNet, size: tuple[int, int], num_levels: int, skip_finest: int
):
    images = pair(*size)
    with torch.inference_mode():
        expected = small(*images, 0.3, num_levels, skip_finest)
        got = fast(*images, 0.3, num_levels, skip_finest)
    torch.testing.assert_close(got.frame, expected.frame, rtol=0, atol=1e-4)
    torch.testing.assert_close(got.flow_01, expected.flow_01, rtol=0, atol=1e-3)
    torch.testing.assert_close(got.flow_10, expected.flow_10, rtol=0, atol=1e-3)


def test_each_item_of_a_batch_has_its_own_time(small: UPRNet, fast: UPRNet):
    images, times = pair(32, 48, batch=3), torch.tensor([0.1, 0.5, 0.8])
    with torch.inference_mode():
        expected, got = small(*images, times).frame, fast(*images, times).frame
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_either_layout_of_memory_is_taken(fast: UPRNet):
    images = pair(32, 48)
    with torch.inference_mode():
        plain = fast(*images, 0.5).frame
        last = fast(*(image.contiguous(memory_format=torch.channels_last) for image in images), 0.5).frame
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-5)


def test_a_result_outlives_the_next_one(fast: UPRNet):
    """No engine hands out memory that it writes again."""
    image, other = pair(32, 48)
    with torch.inference_mode():
        features = fast.encoder(image)
        before = [part.clone() for part in features]
        fast.encoder(other)
    assert all(torch.equal(part, kept) for part, kept in zip(features, before, strict=True))


def test_inputs_stay_as_they_are(fast: UPRNet):
    c = fast.config.base_channels
    inputs = [torch.randn(1, channels, 8, 12) for channels in (81, 4 * c, 4 * c, 4 * c, 4)]
    kept = [part.clone() for part in inputs]
    with torch.inference_mode():
        fast.flow_estimator(*inputs)
    assert all(torch.equal(part, before) for part, before in zip(inputs, kept, strict=True))


def test_the_given_network_stays_as_it_is(small: UPRNet, fast: UPRNet):
    assert isinstance(small.encoder, type(UPRNet(ModelConfig(1)).encoder))
    assert len(small.state_dict()) > 0
    assert fast.config == small.config
    assert all(getattr(fast, name) is not getattr(small, name) for name in BOXES)


def test_nothing_is_left_on_disk(small: UPRNet, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with torch.inference_mode():
        attach(small, engine)(*pair(32, 32), 0.5)
    assert list(tmp_path.rglob("*")) == []


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_by_default")
def test_the_default_type_of_torch_changes_nothing(engine: Any):
    images = np.random.default_rng(0).random((2, 64, 64, 3)).astype(np.float32)
    found = Interpolator("small", "cpu", engine=engine)(*images)
    torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found, Interpolator("small", "cpu", engine="torch")(*images), atol=1e-3)


def test_interpolator_takes_an_engine(engine: Any):
    img0, img1 = (np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()) for image in pair(37, 61))
    expected = Interpolator("small", "cpu", engine="torch").between(img0, img1, [0.25, 0.5])
    interpolator = Interpolator("small", "cpu", engine=engine)
    assert interpolator.engine == engine
    for got, frame in zip(interpolator.between(img0, img1, [0.25, 0.5]), expected, strict=True):
        assert np.abs(got - frame).max() < 1e-4


def test_auto_is_the_fastest_that_fits():
    assert choose("auto", CPU) == "numba"
    assert choose("auto", CPU, torch.bfloat16) == "torch"
    assert choose("auto", CPU, compile=True) == "torch"
    assert choose("auto", torch.device("cuda")) == "torch"
    assert choose("torch", torch.device("cuda"), torch.float16) == "torch"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_does_not_fit_is_refused(engine: Any):
    for device, dtype in ((torch.device("cuda"), torch.float32), (CPU, torch.float16)):
        with pytest.raises(InvalidInputError, match=f"engine {engine} runs on the CPU, in fp32"):
            choose(engine, device, dtype)
    with pytest.raises(InvalidInputError, match="engine must be one of auto, torch, numba"):
        choose("tensorrt", CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", LIBRARIES)
def test_a_missing_engine_is_one_line_that_says_what_to_install(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("uprnet.engines.find_spec", lambda name: None if name in LIBRARIES[engine] else find_spec(name))
    with pytest.raises(MissingDependencyError, match=r"pip install uprnet\[fast\]"):
        Interpolator("small", "cpu", engine=engine)  # type: ignore[arg-type]
    command = ["image", "a.png", "b.png", "-o", str(tmp_path / "c.png"), "--model", "small", "--engine", engine]
    assert main(command) == 1
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert f"engine {engine}" in error


@pytest.mark.slow
def test_an_engine_is_built_within_two_seconds(engine: Any):
    import time

    base = load_model("base")
    start = time.perf_counter()
    attach(base, engine)
    assert time.perf_counter() - start < 2
