"""Published training sets as they lie on disk: Vimeo90K triplets and septuplets, X4K1000FPS."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uprnet.errors import TrainingError
from uprnet.training.augmentation import AugmentationConfig, draw_scale, random_crop
from uprnet.training.limits import check_limits
from uprnet.training.sample import Sample, read_frames

HELD_OUT_PERCENT = 5  # of a training list, kept for validation; never the test list
X4K_SCALES = (1.0, 0.5, 0.25)  # of X-TRAIN's frames: large motion at every size of detail


@dataclass(frozen=True)
class TripletConfig:
    """A tree of triplets in the layout of Vimeo90K.

    Args:
        root: Folder that holds the list and ``sequences``; empty for none.
        weight: Share of the samples of a run that come from here, relative to the other sources.
        list_file: Name of the list of training triplets inside ``root``.
    """

    root: str = ""
    weight: float = 0.0
    list_file: str = "tri_trainlist.txt"


@dataclass(frozen=True)
class SeptupletConfig:
    """A tree of septuplets in the layout of Vimeo90K.

    Args:
        root: Folder that holds the list and ``sequences``; empty for none.
        weight: Share of the samples of a run that come from here, relative to the other sources.
        list_file: Name of the list of training septuplets inside ``root``.
    """

    root: str = ""
    weight: float = 0.0
    list_file: str = "sep_trainlist.txt"


@dataclass(frozen=True)
class X4KConfig:
    """The training clips of X4K1000FPS, unpacked to frames.

    Args:
        root: Folder that holds the scenes; empty for none.
        weight: Share of the samples of a run that come from here, relative to the other sources.
        max_span: Largest distance between the first and the last frame of a triple, in frames.
    """

    root: str = ""
    weight: float = 0.0
    max_span: int = 32

    def __post_init__(self) -> None:
        check_limits("data.x4k", self, max_span=2)


class Triplets:
    """Vimeo90K triplets: the middle frame between its neighbours.

    Expected::

        root/
          tri_trainlist.txt            one <id>/<id> on each line
          sequences/
            00001/0001/im1.png         first frame
            00001/0001/im2.png         target, t = 0.5
            00001/0001/im3.png         last frame

    Args:
        config: Where the tree is.
        held_out: Take the 5 % of the list kept for validation.

    Raises:
        TrainingError: If the tree does not look like this.
    """

    def __init__(self, config: TripletConfig, held_out: bool = False) -> None:
        self.folders = _listed(Path(config.root), config.list_file, held_out, "data.triplets", ("im1.png", "im3.png"))

    def draw(self, size: int, augmentation: AugmentationConfig, rng: np.random.Generator) -> Sample:
        """Draw a triplet and cut a square from it; see `VideoFolder.draw`."""
        folder = self.folders[int(rng.integers(len(self.folders)))]
        img0, target, img1 = read_frames([folder / f"im{index}.png" for index in (1, 2, 3)])
        return random_crop(Sample(img0, img1, target, 0.5), size, rng, draw_scale(augmentation, rng))


class Septuplets:
    """Vimeo90K septuplets: random frames x < y < z, so ``t`` takes many values.

    Expected::

        root/
          sep_trainlist.txt            one <id>/<id> on each line
          sequences/
            00001/0001/im1.png ... im7.png

    Args:
        config: Where the tree is.
        held_out: Take the 5 % of the list kept for validation.

    Raises:
        TrainingError: If the tree does not look like this.
    """

    def __init__(self, config: SeptupletConfig, held_out: bool = False) -> None:
        self.folders = _listed(Path(config.root), config.list_file, held_out, "data.septuplets", ("im1.png", "im7.png"))

    def draw(self, size: int, augmentation: AugmentationConfig, rng: np.random.Generator) -> Sample:
        """Draw three frames and cut a square from them; see `VideoFolder.draw`."""
        folder = self.folders[int(rng.integers(len(self.folders)))]
        x, y, z = sorted(int(index) for index in rng.choice(7, 3, replace=False))
        img0, target, img1 = read_frames([folder / f"im{index + 1}.png" for index in (x, y, z)])
        return random_crop(Sample(img0, img1, target, (y - x) / (z - x)), size, rng, draw_scale(augmentation, rng))


class X4K:
    """X4K1000FPS training clips, for large motion: random frames x < y < z at a random scale 1, 1/2 or 1/4.

    Expected::

        root/
          002/                         a scene
            occ008.320_f2881/          a clip of it
              0000.png ... 0064.png    its frames (768x768)

    Clips directly inside ``root`` are found as well, each a scene of its own.

    Args:
        config: Where the tree is.
        held_out: Take the 5 % of the scenes kept for validation, with all their clips.

    Raises:
        TrainingError: If the tree does not look like this.
    """

    def __init__(self, config: X4KConfig, held_out: bool = False) -> None:
        root = Path(config.root)
        if not root.is_dir():
            raise TrainingError(f"data.x4k.root must be a folder, got {root}, which is not a folder{_drawn(self)}")
        clips: dict[Path, list[Path]] = {}
        for path in sorted(root.rglob("*.png")):
            clips.setdefault(path.parent, []).append(path)
        self.clips = [
            frames
            for clip, frames in clips.items()
            if len(frames) >= 3 and _is_held_out(clip.relative_to(root).parts[0] if clip != root else "") == held_out
        ]
        self._max_span = config.max_span
        if not self.clips:
            raise TrainingError(f"{root} must hold clips of at least three PNG frames, found none{_drawn(self)}")

    def draw(self, size: int, augmentation: AugmentationConfig, rng: np.random.Generator) -> Sample:
        """Draw three frames and cut a square from them; see `VideoFolder.draw`."""
        frames = self.clips[int(rng.integers(len(self.clips)))]
        span = int(rng.integers(2, min(self._max_span, len(frames) - 1) + 1))
        x = int(rng.integers(len(frames) - span))
        y = x + int(rng.integers(1, span))
        img0, target, img1 = read_frames([frames[index] for index in (x, y, x + span)])
        scale = float(rng.choice(X4K_SCALES)) * draw_scale(augmentation, rng)
        return random_crop(Sample(img0, img1, target, (y - x) / span), size, rng, scale)


def _listed(root: Path, list_file: str, held_out: bool, name: str, needed: tuple[str, str]) -> list[Path]:
    """The folders of a Vimeo90K tree that its training list names."""
    tree = _drawn(Triplets if name == "data.triplets" else Septuplets)
    if not root.is_dir():
        raise TrainingError(f"{name}.root must be a folder, got {root}, which is not a folder{tree}")
    if not (root / list_file).is_file():
        raise TrainingError(f"{root} must hold the list {list_file}, which is missing{tree}")
    entries = [line.strip() for line in (root / list_file).read_text().splitlines() if line.strip()]
    folders = [root / "sequences" / entry for entry in _split(entries, held_out)]
    if not folders:
        part = "validation" if held_out else "training"
        raise TrainingError(f"the list {root / list_file} must name samples, none is left for {part} of {len(entries)}")
    for file in needed:  # the first folder stands for all: a tree of another kind is found out at once
        if not (folders[0] / file).is_file():
            raise TrainingError(f"{folders[0]} must hold {file}, which is missing{tree}")
    return folders


def _split(entries: Sequence[str], held_out: bool) -> list[str]:
    """The 5 % of the entries that validation sees, or the others, whatever their order."""
    return [entry for entry in entries if _is_held_out(entry) == held_out]


def _is_held_out(name: str) -> bool:
    return zlib.crc32(name.encode()) % 100 < HELD_OUT_PERCENT


def _drawn(source: object) -> str:
    """The expected tree, as the docstring of a source draws it."""
    text = source.__doc__ or ""
    tree = text.split("Expected::")[1].split("Args:")[0].rstrip()
    return f"; expected:{tree}"
