"""What is installed and what it would run on."""

from __future__ import annotations

import platform

import av
import numba
import torch

from uprnet import __version__
from uprnet.devices import pick_device
from uprnet.network.ops import backend_for
from uprnet.network.weights import EMBEDDED_FOLDER, load_model, read_metadata


def facts() -> dict[str, str]:
    """Return name and value of each fact, in the order in which they are worth reading."""
    device = pick_device()
    backend = backend_for(torch.empty(0, device=device))
    names = {"numba": f"numba {numba.__version__}", "triton": "Triton", "torch": "plain torch"}
    found = {
        "uprnet": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": torch.__version__,
        "device": f"{device}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device),
        "kernels": names[backend],
        "media": f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}",
    }
    for path in sorted(EMBEDDED_FOLDER.glob("*.safetensors")):
        parameters = sum(parameter.numel() for parameter in load_model(path).parameters())
        score = read_metadata(path).get("score", "no score on file")
        found[f"weights {path.stem}"] = f"{parameters:,} parameters; {score}"
    return found
