"""Weights files: ours, the official ones, and everything that is neither."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.network.conftest import OFFICIAL_SIZES, official_state

from uprnet import Interpolator, ModelConfig, UPRNet, WeightsError, load_model, save_model
from uprnet.errors import InvalidInputError, OutputExistsError
from uprnet.network.weights import read_metadata


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("size", OFFICIAL_SIZES)
def test_official_checkpoints_are_converted(official_file: Any, size: str, prefix: str):
    model = load_model(official_file(size, prefix))
    assert model.config.size == OFFICIAL_SIZES[size]
    assert not model.training
    assert read_metadata(official_file(size, prefix)) == {}
    official = official_state(size)
    first = model.state_dict()["encoder.stage0.0.weight"]
    assert torch.equal(first.flip(1), official["feat_pyramid.conv_stage0.0.weight"])
    head = model.state_dict()["synthesis.head.bias"]
    assert torch.equal(head[[2, 1, 0, 3, 4]], official["synthesis_network.pred.bias"])


def test_own_format_round_trip(tmp_path: Path):
    torch.manual_seed(0)
    model = UPRNet(ModelConfig(4)).eval()
    save_model(model, tmp_path / "mine.safetensors", {"score": "30 dB"})
    loaded = load_model(tmp_path / "mine.safetensors")
    assert loaded.config == model.config
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert read_metadata(tmp_path / "mine.safetensors")["score"] == "30 dB"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


def test_half_precision_files_are_widened(tmp_path: Path):
    save_model(UPRNet(ModelConfig(4)), tmp_path / "half.safetensors", dtype=torch.float16)
    save_model(UPRNet(ModelConfig(4)), tmp_path / "full.safetensors")
    assert {tensor.dtype for tensor in load_model(tmp_path / "half.safetensors").state_dict().values()} == {
        torch.float32
    }
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("size", ["small", "base"])
def test_embedded_weights_are_there(size: str):
    assert load_model(size).config == ModelConfig.from_size(size)
    assert read_metadata(size)["licence"] == "MIT"


def test_a_file_is_not_overwritten_unasked(tmp_path: Path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="already exists"):
        save_model(UPRNet(ModelConfig(4)), path)
    assert path.read_bytes() == b"precious"
    save_model(UPRNet(ModelConfig(4)), path, overwrite=True)
    assert load_model(path).config == ModelConfig(4)


def test_a_weights_file_must_end_in_safetensors(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"must end in \.safetensors, got mine\.pth"):
        save_model(UPRNet(ModelConfig(4)), tmp_path / "mine.pth")


def refuse(path: Path, message: str) -> None:
    """Loading must fail with one line that names the file and holds ``message`` (a regular expression)."""
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_no_such_file(tmp_path: Path):
    refuse(tmp_path / "none.pkl", "no weights file")


def test_a_size_without_embedded_weights():
    with pytest.raises(WeightsError, match="no weights of size large come with uprnet"):
        load_model("large")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("synthesis_network.pred.bias"), r"synthesis\.head\.bias is missing"),
        (lambda state: state.update(other=torch.zeros(1)), "unexpected tensor other"),
        (lambda state: state.update({"feat_pyramid.conv_stage0.9.weight": torch.zeros(1)}), "unexpected tensor"),
        (
            lambda state: state.update({"synthesis_network.pred.bias": torch.zeros(4)}),
            r"synthesis\.head\.bias must be \(5,\), got \(4,\)",
        ),
        (lambda state: state.update({"synthesis_network.pred.bias": 3}), "is no tensor but int"),
        (lambda state: state.clear(), "encoder.stage0.0.weight is missing"),
    ],
)
def test_official_checkpoints_that_do_not_fit(tmp_path: Path, change: Any, message: str):
    state = official_state("base")
    change(state)
    torch.save(state, tmp_path / "bad.pkl")
    refuse(tmp_path / "bad.pkl", message)


def test_truncated_official_checkpoint(tmp_path: Path, official_file: Any):
    content = official_file("base").read_bytes()
    for length in (0, 5, 1000, len(content) // 2, len(content) - 10):
        path = tmp_path / f"cut{length}.pkl"
        path.write_bytes(content[:length])
        refuse(path, "damaged, truncated or no PyTorch checkpoint|no weights file")


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "run"),)

    for name, save in (("new", torch.save), ("old", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        save({"feat_pyramid.conv_stage0.0.weight": Evil()}, tmp_path / f"{name}.pkl")
        refuse(tmp_path / f"{name}.pkl", "holds more than tensors|no weights file")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>404", b"version https://git-lfs.github.com/spec/v1"])
def test_a_failed_download_under_our_ending(tmp_path: Path, content: bytes):
    (tmp_path / "model.safetensors").write_bytes(content)
    refuse(tmp_path / "model.safetensors", "no weights file|no PyTorch checkpoint")


def test_an_official_checkpoint_is_recognised_under_any_name(tmp_path: Path, official_file: Any):
    size = next(iter(OFFICIAL_SIZES))
    renamed = official_file(size).rename(tmp_path / "renamed.safetensors")
    assert load_model(renamed).config.size == OFFICIAL_SIZES[size]


def test_the_network_of_an_interpolator_is_not_saved(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="has no weights of its own"):
        save_model(Interpolator("small", device="cpu").model, tmp_path / "mine.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_checkpoint(tmp_path: Path):
    (tmp_path / "text.pkl").write_text("hello, I am not a checkpoint")
    refuse(tmp_path / "text.pkl", "no weights file|no PyTorch checkpoint")
    torch.save([1, 2, 3], tmp_path / "list.pkl")
    refuse(tmp_path / "list.pkl", "must hold a state dict .* got list")


def test_damaged_and_foreign_safetensors(tmp_path: Path):
    save_model(UPRNet(ModelConfig(4)), tmp_path / "good.safetensors")
    content = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    refuse(tmp_path / "cut.safetensors", "damaged or truncated")
    safetensors.torch.save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    refuse(tmp_path / "other.safetensors", "not one of uprnet")
    state = UPRNet(ModelConfig(4)).state_dict()
    state["synthesis.head.bias"] = torch.zeros(6)
    safetensors.torch.save_file(state, tmp_path / "shape.safetensors", {"uprnet.config": "{}"})
    refuse(tmp_path / "shape.safetensors", "synthesis.head.bias must be")
