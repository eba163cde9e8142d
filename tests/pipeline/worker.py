"""A process that works on a video, for tests that kill it: ``worker.py SOURCE OUTPUT``; segments are short."""

import sys
import time
from pathlib import Path

import numpy as np

from uprnet.pipeline import interpolate_video, task

task.SEGMENT = 8


class SlowBlend:
    identity = "slow blend"

    def between(self, img0, img1, times):
        time.sleep(0.004 * len(times))
        return [np.rint(img0 * (1 - t) + img1 * t).astype(img0.dtype) for t in times]


if __name__ == "__main__":
    interpolate_video(Path(sys.argv[1]), Path(sys.argv[2]), interpolator=SlowBlend())
