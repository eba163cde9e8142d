"""Data sets in their true layouts, made from the frames of a small real clip."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uprnet.media.images import write_image
from uprnet.media.video import VideoReader

CLIP = Path(__file__).parent.parent / "data" / "bear.webm"


@pytest.fixture(scope="session")
def frames() -> list[np.ndarray]:
    """The first 33 frames of a real clip, 64 x 96 pixels of the middle."""
    found = []
    with VideoReader(CLIP) as reader:
        for frame in reader:
            found.append(np.ascontiguousarray(frame.image[90:154, 100:196]))
            if len(found) == 33:
                return found
    raise AssertionError("the clip is shorter than it was")


@pytest.fixture
def make_tree(tmp_path: Path, frames: list[np.ndarray]) -> Callable[[str], Path]:
    """Return a function that makes a data set of two items by the name of its benchmark, and returns its root."""

    def write(path: Path, index: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, frames[index])

    def make(name: str) -> Path:
        root = tmp_path / name
        root.mkdir()
        for item in range(2):
            start = 10 * item
            if name == "triplets":
                for number in (1, 2, 3):
                    write(root / f"bear_{start:04d}" / f"im{number}.png", start + number)
            elif name == "vimeo90k":
                for number in (1, 2, 3):
                    write(root / "sequences" / "00001" / f"000{item}" / f"im{number}.png", start + number)
            elif name == "septuplet":
                for number in range(1, 8):
                    write(root / "sequences" / "00001" / f"000{item}" / f"im{number}.png", start + number)
            elif name == "ucf101":
                for number, part in enumerate(("00", "01_gt", "02")):
                    write(root / str(item + 1) / f"frame_{part}.png", start + number)
            elif name == "snu-film":
                for number in range(9):
                    write(root / "test" / "GOPRO_test" / f"clip{item}" / f"{number:06d}.png", start + number)
            elif name == "x4k1000fps":
                for number in range(33):
                    write(root / "Type1" / f"TEST0{item}" / f"{number:04d}.png", number if item else 32 - number)
        if name in ("vimeo90k", "septuplet"):
            list_name = {"vimeo90k": "tri_testlist.txt", "septuplet": "sep_testlist.txt"}[name]
            (root / list_name).write_text("00001/0000\n00001/0001\n\n")
        if name == "snu-film":
            (root / "eval_modes").mkdir()
            for subset, gap in (("easy", 2), ("medium", 4), ("hard", 8)):
                lines = [
                    " ".join(f"test/GOPRO_test/clip{item}/{number:06d}.png" for number in (0, gap // 2, gap))
                    for item in range(2)
                ]
                (root / "eval_modes" / f"test-{subset}.txt").write_text("\n".join(lines) + "\n")
        return root

    return make
