"""Make the moving picture of the README from the bundled clip: ``python docs/images/make.py``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from uprnet import Interpolator
from uprnet.demo import CLIP
from uprnet.media.video import VideoReader

#: Every fourth frame of the clip is kept, and three are made in every gap.
STEP = 4

#: Milliseconds that each frame of the picture is shown: slower than life, so that the eye can follow.
SHOWN_MS = 66

SIZE = (360, 240)


def main() -> None:
    """Write ``before-after.webp`` beside this file."""
    with VideoReader(CLIP) as reader:
        kept = [frame.image for frame in reader][::STEP]
    interpolator = Interpolator("base")
    frames = []
    for img0, img1 in pairwise(kept):
        for new in (img0, *interpolator.between(img0, img1, [i / STEP for i in range(1, STEP)])):
            both = np.hstack([cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA) for image in (img0, new)])
            frames.append(cv2.cvtColor(both, cv2.COLOR_RGB2BGR))
    animation = cv2.Animation()
    animation.frames = frames
    animation.durations = np.full(len(frames), SHOWN_MS, np.int32)
    target = Path(__file__).with_name("before-after.webp")
    cv2.imwriteanimation(str(target), animation, [cv2.IMWRITE_WEBP_QUALITY, 60])


if __name__ == "__main__":
    main()
