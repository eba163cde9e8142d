"""Video frame interpolation with UPR-Net: slow motion, 24 to 60 fps, a missing frame.

    import uprnet

    interpolator = uprnet.Interpolator()
    middle = interpolator(img0, img1, t=0.5)

The names below are the public interface; they are imported when first used, so that ``import uprnet`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uprnet.errors import InvalidInputError, MediaError, OutputExistsError, UprnetError, WeightsError
    from uprnet.interpolate import Interpolator
    from uprnet.network.config import ModelConfig
    from uprnet.network.model import UPRNet
    from uprnet.network.ops import cost_volume, splat_average
    from uprnet.network.weights import load_model, save_model
    from uprnet.pipeline import interpolate_images, interpolate_video

__version__ = "0.1.0"

_HOMES = {
    "Interpolator": "uprnet.interpolate",
    "InvalidInputError": "uprnet.errors",
    "MediaError": "uprnet.errors",
    "ModelConfig": "uprnet.network.config",
    "OutputExistsError": "uprnet.errors",
    "UPRNet": "uprnet.network.model",
    "UprnetError": "uprnet.errors",
    "WeightsError": "uprnet.errors",
    "cost_volume": "uprnet.network.ops",
    "interpolate_images": "uprnet.pipeline",
    "interpolate_video": "uprnet.pipeline",
    "load_model": "uprnet.network.weights",
    "save_model": "uprnet.network.weights",
    "splat_average": "uprnet.network.ops",
}

__all__ = [
    "Interpolator",
    "InvalidInputError",
    "MediaError",
    "ModelConfig",
    "OutputExistsError",
    "UPRNet",
    "UprnetError",
    "WeightsError",
    "cost_volume",
    "interpolate_images",
    "interpolate_video",
    "load_model",
    "save_model",
    "splat_average",
]


if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'uprnet' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
