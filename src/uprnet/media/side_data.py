"""What comes along with a decoded frame besides its samples."""

from __future__ import annotations

from typing import Any

import av
from av.sidedata.sidedata import Type


def side_data(frame: av.VideoFrame) -> dict[Type, bytes]:
    """Give the side data of a frame by kind, as libav lays it out in memory."""
    found: Any = frame.side_data  # PyAV's stubs take it for a mapping, but one iterates over the values
    return {side.type: bytes(side) for side in found}
