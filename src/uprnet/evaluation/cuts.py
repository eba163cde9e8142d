"""Where one scene of a video ends and the next begins, by PySceneDetect."""

from __future__ import annotations

import cv2
import numpy as np

from uprnet.errors import MissingDependencyError
from uprnet.media.colour import Image

WIDTH = 256
"""Pixels to which frames are shrunk for the search; PySceneDetect itself does so, and its threshold is meant so."""


class CutDetector:
    """Says of each frame of a video whether a scene begins with it, or a flash or fade changes it as much.

    Raises:
        MissingDependencyError: If PySceneDetect is not installed.

    Reference:
        https://www.scenedetect.com/docs/latest/api/detectors.html (``ContentDetector``, default threshold)
    """

    def __init__(self) -> None:
        try:
            from scenedetect import (  # type: ignore[import-not-found, unused-ignore]
                ContentDetector,
                FrameTimecode,
            )
        except ImportError as error:
            raise MissingDependencyError(
                "cuts are found by PySceneDetect, which is not installed; run: pip install 'uprnet[eval]'"
            ) from error
        self._timecode = FrameTimecode
        self._detector = ContentDetector(min_scene_len=1)
        self._index = 0

    def __call__(self, image: Image) -> bool:
        """Take the next frame, ``(H, W, 3)``, and say whether there is a cut between it and the one before."""
        height = max(1, round(WIDTH * image.shape[0] / image.shape[1]))
        small = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
        if small.dtype == np.uint16:
            small = (small // 257).astype(np.uint8)
        # Its time codes need a rate; any will do, because only frames are counted.
        timecode = self._timecode(self._index, fps=25.0)
        self._index += 1
        return bool(self._detector.process_frame(timecode, cv2.cvtColor(small, cv2.COLOR_RGB2BGR)))
