"""Weights files: our own format, the official checkpoints, and the weights inside the package.

Our own format is safetensors with the architecture in its metadata, so that a path needs no size. Tensor names
are those of `UPRNet`; float16 files are widened to float32 when they are read.
"""

from __future__ import annotations

import json
import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from uprnet.errors import InvalidInputError, WeightsError
from uprnet.files import write_whole
from uprnet.network.boxes import FeaturePyramid, FlowEstimator, FrameSynthesis
from uprnet.network.config import SIZES, ModelConfig
from uprnet.network.model import UPRNet

#: Key of the architecture (JSON of `ModelConfig`) in a file's metadata.
CONFIG_KEY = "uprnet.config"

#: Folder of the weights that come with the package.
EMBEDDED_FOLDER = Path(__file__).parent.parent / "weights"

#: Where the parts of `UPRNet` stand in an official state dict.
OFFICIAL_PARTS = {
    "encoder.stage0.": "feat_pyramid.conv_stage0.",
    "encoder.stage1.": "feat_pyramid.conv_stage1.",
    "encoder.stage2.": "feat_pyramid.conv_stage2.",
    "flow_estimator.layers.0.": "motion_estimator.conv_layer1.0.",
    "flow_estimator.layers.2.": "motion_estimator.conv_layer2.0.",
    "flow_estimator.layers.4.": "motion_estimator.conv_layer3.0.",
    "flow_estimator.layers.6.": "motion_estimator.conv_layer4.0.",
    "flow_estimator.layers.8.": "motion_estimator.conv_layer5.0.",
    "flow_estimator.head.": "motion_estimator.conv_layer6.0.",
    "synthesis.encode0.": "synthesis_network.encoder_conv.",
    "synthesis.encode1.": "synthesis_network.encoder_down1.",
    "synthesis.encode2.": "synthesis_network.encoder_down2.",
    "synthesis.decode1.": "synthesis_network.decoder_up1.",
    "synthesis.decode2.": "synthesis_network.decoder_up2.",
    "synthesis.decode3.": "synthesis_network.decoder_conv.",
    "synthesis.head.": "synthesis_network.pred.",
}

#: Prefix that `torch.nn.parallel` leaves on each name of a saved official file.
PARALLEL_PREFIX = "module."


def load_model(model: str | Path = "base", device: str | torch.device = "cpu") -> UPRNet:
    """Return a network with weights, ready for inference.

    Args:
        model: ``base`` or ``small`` for the weights inside the package, or the path of a file: our own
            ``.safetensors``, or an official ``.pkl`` checkpoint (recognised by its content, converted on the fly).
        device: Where the network shall live.

    Raises:
        WeightsError: If there is no such file, it is damaged, or it does not fit the network.

    Example:
        >>> load_model("small").config
        ModelConfig(base_channels=8)
    """
    path = weights_path(model)
    state = load_state(path)
    network = UPRNet(_config_of(state, path)).float()  # whatever torch's default type is
    _check_state(state, network.state_dict(), path)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False).to(device)


def weights_path(model: str | Path) -> Path:
    """Return the file that ``model`` (a name or a path) stands for."""
    embedded = EMBEDDED_FOLDER / f"{model}.safetensors"
    if str(model) in SIZES or str(model) == "LARGE":
        if embedded.is_file():
            return embedded
        raise WeightsError(
            f"no weights of size {model} come with uprnet; give the path of a file, or one of "
            f"{', '.join(sorted(path.stem for path in EMBEDDED_FOLDER.glob('*.safetensors')))}"
        )
    path = Path(model)
    if not path.is_file():
        raise WeightsError(
            f"no weights file {path}; give base, small or the path of a .safetensors or official .pkl file"
        )
    return path


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file of either format: RGB, float32, named as in `UPRNet`."""
    state = _read_safetensors(path) if _is_safetensors(path) else _read_official(path)
    return {name: tensor.float() for name, tensor in state.items()}


def read_metadata(model: str | Path) -> dict[str, str]:
    """Return the metadata of one of our own files: training data, scores, licence. Official ones have none."""
    path = weights_path(model)
    if not _is_safetensors(path):
        return {}
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is not a .safetensors file of uprnet: {error}") from error


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # after the length of a header in JSON


def save_model(
    model: UPRNet,
    path: str | Path,
    metadata: dict[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> None:
    """Write a network in our own format; the file appears only when it is complete.

    Args:
        model: The network.
        path: The file to write, ending in ``.safetensors``.
        metadata: What else to keep in the file; the architecture is put there always.
        dtype: Type of the tensors in the file; float16 halves its size.
        overwrite: Replace a file that is there.

    Raises:
        InvalidInputError: If ``path`` ends otherwise.
        OutputExistsError: If the file exists and ``overwrite`` is false.
        MediaError: If the folder does not exist, or the disk is full.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InvalidInputError(f"a weights file must end in .safetensors, got {path.name}")
    check_has_weights(model)
    state = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    config = json.dumps({"base_channels": model.config.base_channels})
    content = safetensors.torch.save(state, {**(metadata or {}), CONFIG_KEY: config})
    with write_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def check_has_weights(model: UPRNet) -> None:
    """Refuse a network whose boxes an engine has taken over, such as that of an `Interpolator`: it has no weights.

    Raises:
        InvalidInputError: If it is one.
    """
    boxes = (model.encoder, FeaturePyramid), (model.flow_estimator, FlowEstimator), (model.synthesis, FrameSynthesis)
    if not all(isinstance(box, kind) for box, kind in boxes):
        raise InvalidInputError("an Interpolator's network has no weights of its own; take what load_model returns")


def from_official(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Convert an official state dict: our names, RGB instead of BGR.

    Colour enters through the first convolutions of the encoder and of the synthesis (five colour triples, then
    flow) and leaves through the first three outputs of the last one; reversing those triples is exact.
    """
    state = {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in state.items()}
    official_to_ours = {official: ours for ours, official in OFFICIAL_PARTS.items()}
    converted = {}
    for name, tensor in state.items():
        part = next((official for official in official_to_ours if name.startswith(official)), None)
        if part is None:
            raise WeightsError(f"{path} does not fit UPR-Net: unexpected tensor {name}")
        if not isinstance(tensor, Tensor):
            raise WeightsError(f"{path} does not fit UPR-Net: {name} is no tensor but {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise WeightsError(f"{path} does not fit UPR-Net: {name} is no plain tensor")
        converted[official_to_ours[part] + name.removeprefix(part)] = tensor
    _check_state(converted, UPRNet(_config_of(converted, path)).state_dict(), path)

    first, mixed = converted["encoder.stage0.0.weight"], converted["synthesis.encode0.0.weight"]
    converted["encoder.stage0.0.weight"] = first.flip(1)
    colours = torch.cat([triple.flip(1) for triple in torch.split(mixed[:, :15], 3, dim=1)], dim=1)
    converted["synthesis.encode0.0.weight"] = torch.cat([colours, mixed[:, 15:]], dim=1)
    for name in ("synthesis.head.weight", "synthesis.head.bias"):
        converted[name] = torch.cat([converted[name][:3].flip(0), converted[name][3:]])
    return converted


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            if CONFIG_KEY not in (file.metadata() or {}):
                raise WeightsError(
                    f"{path} is a .safetensors file, but not one of uprnet: no {CONFIG_KEY} in its metadata"
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is damaged or truncated: {error}") from error


def _read_official(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on odd pickles: what does not fit is refused below
            with path.open("rb") as file:  # by its content: torch would go by the name
                state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise WeightsError(
                f"{path} holds more than tensors (it could run code when read); it was not loaded"
            ) from error
        raise WeightsError(f"{path} is no weights file: neither safetensors nor a PyTorch checkpoint") from error
    except (RuntimeError, EOFError, LookupError, ValueError, OSError, AssertionError, struct.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is damaged, truncated or no PyTorch checkpoint: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise WeightsError(f"{path} must hold a state dict (names and tensors), got {type(state).__name__}")
    return from_official(state, path)


def _config_of(state: dict[str, Tensor], path: Path) -> ModelConfig:
    first = state.get("encoder.stage0.0.weight")
    if first is None or first.ndim != 4:
        raise WeightsError(f"{path} does not fit UPR-Net: tensor encoder.stage0.0.weight is missing or misshapen")
    return ModelConfig(first.shape[0])


def _check_state(state: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing:
        raise WeightsError(f"{path} does not fit UPR-Net: tensor {min(missing)} is missing ({len(missing)} in all)")
    if extra:
        raise WeightsError(f"{path} does not fit UPR-Net: unexpected tensor {min(extra)} ({len(extra)} in all)")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise WeightsError(
                f"{path} does not fit UPR-Net: {name} must be {tuple(tensor.shape)}, got {tuple(state[name].shape)}"
            )
