"""File to file: frames between two images, and more frames for a video or a folder of images.

The names below are imported when first used, so that two images do not wait for what only videos need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uprnet.media.encoding import EncoderSettings
    from uprnet.pipeline.folder import FolderSummary, interpolate_folder
    from uprnet.pipeline.images import interpolate_images
    from uprnet.pipeline.options import SceneOptions, SoundOptions
    from uprnet.pipeline.section import SectionOptions
    from uprnet.pipeline.video import Summary, interpolate_video
    from uprnet.pipeline.work import Progress

_HOMES = {
    "EncoderSettings": "uprnet.media.encoding",
    "FolderSummary": "uprnet.pipeline.folder",
    "Progress": "uprnet.pipeline.work",
    "SceneOptions": "uprnet.pipeline.options",
    "SectionOptions": "uprnet.pipeline.section",
    "SoundOptions": "uprnet.pipeline.options",
    "Summary": "uprnet.pipeline.video",
    "interpolate_folder": "uprnet.pipeline.folder",
    "interpolate_images": "uprnet.pipeline.images",
    "interpolate_video": "uprnet.pipeline.video",
}

__all__ = [
    "EncoderSettings",
    "FolderSummary",
    "Progress",
    "SceneOptions",
    "SectionOptions",
    "SoundOptions",
    "Summary",
    "interpolate_folder",
    "interpolate_images",
    "interpolate_video",
]


if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'uprnet.pipeline' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
