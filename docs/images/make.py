"""Make the pictures of the documentation: ``python docs/images/make.py [--triplets DIR]``.

``before-after.webp`` comes from the bundled clip. With a folder of triplets, ``worst.webp`` and ``best.webp`` show what
the embedded weights make of them: a row for each of some clips, with the worst or the best frame of the clip.
"""

from __future__ import annotations

import argparse
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uprnet import Interpolator
from uprnet.demo import CLIP
from uprnet.media.video import VideoReader
from uprnet.training.sample import Sample
from uprnet.training.sheets import prediction_row

#: Every fourth frame of the clip is kept, and three are made in every gap.
STEP = 4

#: Milliseconds that each frame of the picture is shown: slower than life, so that the eye can follow.
SHOWN_MS = 66

SIZE = (360, 240)

#: Clips in a sheet, and the height of a row in pixels.
ROWS = 4
ROW_HEIGHT = 180


def main() -> None:
    """Write the pictures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triplets", type=Path, help="folder of folders CLIP_NUMBER with im1.png, im2.png and im3.png")
    arguments = parser.parse_args()
    if arguments.triplets is None:
        make_animation()
    else:
        make_sheets(arguments.triplets)


def make_animation() -> None:
    """Write ``before-after.webp``."""
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


def make_sheets(triplets: Path) -> None:
    """Write ``worst.webp`` and ``best.webp``: the blend, the true frame, ours, the error four times, the flow."""
    interpolator = Interpolator("base")
    folders = sorted(path for path in triplets.iterdir() if path.is_dir())
    clips = [
        [measure(interpolator, folder) for folder in group]
        for _, group in groupby(folders, key=lambda folder: folder.name.rpartition("_")[0])
    ]
    worst = sorted((min(clip, key=lambda made: made[0]) for clip in clips), key=lambda made: made[0])[:ROWS]
    best = sorted((max(clip, key=lambda made: made[0]) for clip in clips), key=lambda made: -made[0])[:ROWS]
    for name, chosen in (("worst", worst), ("best", best)):
        width = max(row.shape[1] for _, row in chosen)
        rows = [cv2.copyMakeBorder(row, 0, 4, 0, width - row.shape[1], cv2.BORDER_CONSTANT) for _, row in chosen]
        target = Path(__file__).with_name(f"{name}.webp")
        cv2.imwrite(str(target), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 80])


def measure(interpolator: Interpolator, folder: Path) -> tuple[float, NDArray[np.uint8]]:
    """Return the PSNR of the middle frame of a triplet, and its row of pictures."""
    paths = [folder / f"im{index}.png" for index in (1, 2, 3)]
    img0, target, img1 = (cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths)
    pair = interpolator.pair(img0, img1)
    frame, flow = pair.frame(0.5), pair.flow()[0][0].permute(1, 2, 0).numpy()
    row = prediction_row(Sample(img0, img1, target, 0.5), frame, flow)
    size = (round(row.shape[1] * ROW_HEIGHT / row.shape[0]), ROW_HEIGHT)
    score = -10 * np.log10(np.square((frame - target.astype(np.float64)) / 255).mean())
    return float(score), np.asarray(cv2.resize(row, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


if __name__ == "__main__":
    main()
