"""The public benchmarks as data: where their files lie, which frames are measured, and with how many levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from uprnet.errors import InvalidInputError, MediaError
from uprnet.evaluation.samples import Item
from uprnet.media.images import list_images

HALF = Fraction(1, 2)
SNU_FILM_PREFIX = ("data", "SNU-FILM")
"""What the paths in the published SNU-FILM lists start with, where they were written for another folder."""

LIST_SIDE_FOLDERS = ("sequences", "eval_modes", "test")
"""Folders that lie beside the lists, and are given by mistake in place of the folder above."""

X4K_FRAMES = 33
"""Frames of a clip of X-TEST: the first and the last are given."""


@dataclass(frozen=True)
class Protocol:
    """How the frames of a benchmark are made.

    Attributes:
        num_levels: Levels of the pyramid; None for the rule of `default_num_levels`.
        skip_finest: Finest levels without motion estimation; None for the rule of `default_skip_finest`.
        shrink: How many times smaller the images are made first, by averaging areas.
    """

    num_levels: int | None = None
    skip_finest: int | None = None
    shrink: int = 1


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark.

    Attributes:
        name: What the command line calls it.
        title: What papers call it.
        tree: A drawing of its files.
        is_here: Whether a folder looks like this benchmark.
        find: Lists the items in a folder, for a subset and a factor (frames after per frames before).
        subsets: The parts that are measured on their own, with their protocols; the first is the default, and one
            without a name is all there is.
        factors: The factors that it can be measured at; the first is the default.
        count: Items that each subset has in papers; None where there is no such number.
    """

    name: str
    title: str
    tree: str
    is_here: Callable[[Path], bool]
    find: Callable[[Path, str, int], list[Item]]
    subsets: Mapping[str, Protocol]
    factors: tuple[int, ...] = (2,)
    count: int | None = None


def find_items(benchmark: Benchmark, root: Path, subset: str = "", factor: int | None = None) -> list[Item]:
    """List the items of a benchmark and check that all their files are there.

    Args:
        benchmark: One of `BENCHMARKS`.
        root: Its folder.
        subset: Which part; empty for the default.
        factor: Frames after per frames before; None for the default.

    Raises:
        InvalidInputError: If there is no such subset or factor.
        MediaError: If the folder is empty, holds something else, or lacks files, which the message tells with the tree;
            or if a list names an item twice.

    Example:
        >>> items = find_items(BENCHMARKS["ucf101"], Path("ucf101_interp_ours"))  # doctest: +SKIP
    """
    subset, factor = choose(benchmark, subset, factor)
    if not root.is_dir():
        raise MediaError(f"there is no folder {root}")
    if not benchmark.is_here(root):
        raise MediaError(f"{root} is not {benchmark.title}: {_what_is_in(root)}; expected:\n{benchmark.tree}")
    items = benchmark.find(root, subset, factor)
    if not items:
        raise MediaError(f"no item of {benchmark.title} {subset} is in {root}; expected:\n{benchmark.tree}")
    name, times = Counter(item.name for item in items).most_common(1)[0]
    if times > 1:
        raise MediaError(f"{root} lists {name} {times} times; each item is measured once, so remove the other lines")
    paths = [path for item in items for path in (*item.inputs, *item.targets)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise MediaError(
            f"{len(missing)} of {len(paths)} frames of {benchmark.title} are missing in {root}, "
            f"the first is {missing[0]}"
        )
    return items


def choose(benchmark: Benchmark, subset: str = "", factor: int | None = None) -> tuple[str, int]:
    """Return the subset and the factor, each the default where none is given.

    Raises:
        InvalidInputError: If there is no such subset or factor.
    """
    subset = subset or next(iter(benchmark.subsets))
    factor = benchmark.factors[0] if factor is None else factor
    if subset not in benchmark.subsets:
        known = f"one of {', '.join(benchmark.subsets)}" if "" not in benchmark.subsets else "left out"
        raise InvalidInputError(f"the subset of {benchmark.name} must be {known}, got {subset}")
    if factor not in benchmark.factors:
        known = ", ".join(map(str, benchmark.factors))
        raise InvalidInputError(f"the factor of {benchmark.name} must be one of {known}, got {factor}")
    return subset, factor


def _what_is_in(root: Path) -> str:
    if not any(root.iterdir()):
        return "it is empty"
    for benchmark in BENCHMARKS.values():
        if benchmark.is_here(root):
            return f"it looks like {benchmark.title} (benchmark {benchmark.name})"
    # The commonest mistake is to point one folder too high or too low.
    above = [root.resolve().parent] if root.resolve().name in LIST_SIDE_FOLDERS else []
    for folder in (*above, *_folders(root)):
        for benchmark in BENCHMARKS.values():
            if benchmark.is_here(folder):
                return f"but {folder} looks like {benchmark.title} (benchmark {benchmark.name})"
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    return f"it holds {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # with or without a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"cannot read the list {path}: {getattr(error, 'strerror', error)}") from error
    return [line.strip() for line in lines if line.strip()]


def _triplets(root: Path, _subset: str, _factor: int) -> list[Item]:
    items = []
    for folder in _folders(root):
        first, middle, last = (folder / f"im{number}.png" for number in (1, 2, 3))
        if any(path.is_file() for path in (first, middle, last)):
            clip = folder.name.rpartition("_")[0] or folder.name
            items.append(Item(folder.name, clip, (first, last), (middle,), (HALF,)))
    return items


def _vimeo90k(root: Path, _subset: str, _factor: int) -> list[Item]:
    items = []
    for name in _read_list(root / "tri_testlist.txt"):
        first, middle, last = (root / "sequences" / name / f"im{number}.png" for number in (1, 2, 3))
        items.append(Item(name, "", (first, last), (middle,), (HALF,)))
    return items


def _septuplets(root: Path, _subset: str, _factor: int) -> list[Item]:
    times = tuple(Fraction(k, 6) for k in range(1, 6))
    items = []
    for name in _read_list(root / "sep_testlist.txt"):
        first, *middle, last = (root / "sequences" / name / f"im{number}.png" for number in range(1, 8))
        items.append(Item(name, "", (first, last), tuple(middle), times))
    return items


def _ucf101(root: Path, _subset: str, _factor: int) -> list[Item]:
    items = []
    for folder in _folders(root):
        first, middle, last = (folder / f"frame_{name}.png" for name in ("00", "01_gt", "02"))
        if any(path.is_file() for path in (first, middle, last)):
            items.append(Item(folder.name, "", (first, last), (middle,), (HALF,)))
    return items


def _snu_film(root: Path, subset: str, factor: int) -> list[Item]:
    list_file = root / "eval_modes" / f"test-{subset}.txt"
    items = []
    for number, line in enumerate(_read_list(list_file), 1):
        paths = [_snu_film_path(root, text) for text in line.split()]
        if len(paths) != 3:
            raise MediaError(f"each line of {list_file} must hold three paths, line {number} holds {len(paths)}")
        first, middle, last = paths
        name = Path(line.split()[1]).with_suffix("").as_posix()
        targets = (middle,) if factor == 2 else _frames_between(first, last, factor)
        times = tuple(Fraction(k, factor) for k in range(1, factor))
        # <set>/<clip>/<frame>.png: the set (GOPRO_test or YouTube_test) is the group.
        items.append(Item(name, first.parent.parent.name, (first, last), targets, times))
    return items


def _snu_film_path(root: Path, text: str) -> Path:
    path = root / text
    parts = Path(text).parts
    if parts[:2] == SNU_FILM_PREFIX and not path.is_file():
        return root.joinpath(*parts[2:])
    return path


def _frames_between(first: Path, last: Path, factor: int) -> tuple[Path, ...]:
    """Return the frames at k / factor between two that are named by their numbers."""
    if not (first.stem.isdecimal() and last.stem.isdecimal()):
        raise MediaError(f"frames must be named by their numbers for factor {factor}, got {first.name} and {last.name}")
    step, rest = divmod(int(last.stem) - int(first.stem), factor)
    if rest or step < 1:
        raise InvalidInputError(
            f"factor {factor} does not fit: {first.name} and {last.name} are {int(last.stem) - int(first.stem)} "
            "frames apart; take a subset with larger steps"
        )
    numbers = (int(first.stem) + k * step for k in range(1, factor))
    return tuple(first.with_name(f"{number:0{len(first.stem)}d}{first.suffix}") for number in numbers)


def _x4k1000fps(root: Path, _subset: str, factor: int) -> list[Item]:
    step = (X4K_FRAMES - 1) // factor
    times = tuple(Fraction(k, factor) for k in range(1, factor))
    items = []
    for kind in _folders(root):
        for scene in _folders(kind):
            frames = list_images(scene)
            if len(frames) != X4K_FRAMES:
                raise MediaError(f"a scene of X-TEST has {X4K_FRAMES} frames, {scene} has {len(frames)}")
            targets = tuple(frames[k * step] for k in range(1, factor))
            items.append(Item(f"{kind.name}/{scene.name}", kind.name, (frames[0], frames[-1]), targets, times))
    return items


def _any_folder(root: Path, file: str) -> bool:
    return any((folder / file).is_file() for folder in _folders(root))


def _has_x4k_scene(root: Path) -> bool:
    scenes = (scene for kind in _folders(root) for scene in _folders(kind))
    return any(frame.stem.isdigit() for scene in scenes for frame in scene.glob("*.png"))


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "triplets",
            "a folder of triplets",
            "DIR/\n  <clip>_<number>/im1.png, im2.png (target, t = 1/2), im3.png\n  ...",
            lambda root: (
                any(_any_folder(root, f"im{number}.png") for number in (1, 2, 3))
                and not (_any_folder(root, "im4.png") or (root / "tri_testlist.txt").is_file())
            ),
            _triplets,
            {"": Protocol()},
        ),
        Benchmark(
            "vimeo90k",
            "Vimeo90K triplets",
            "DIR/\n  tri_testlist.txt                     one <id>/<id> on each line\n"
            "  sequences/<id>/<id>/im1.png, im2.png (target, t = 1/2), im3.png",
            lambda root: (root / "tri_testlist.txt").is_file(),
            _vimeo90k,
            {"": Protocol(num_levels=3, skip_finest=0)},
            count=3782,
        ),
        Benchmark(
            "septuplet",
            "Vimeo90K septuplets",
            "DIR/\n  sep_testlist.txt                     one <id>/<id> on each line\n"
            "  sequences/<id>/<id>/im1.png ... im7.png   (im2 ... im6 are targets, t = 1/6 ... 5/6)",
            lambda root: (root / "sep_testlist.txt").is_file(),
            _septuplets,
            {"": Protocol(num_levels=3, skip_finest=0)},
            factors=(6,),
            count=7824,
        ),
        Benchmark(
            "ucf101",
            "UCF101 (the 379 triplets of DVF)",
            "DIR/\n  <id>/frame_00.png, frame_01_gt.png (target, t = 1/2), frame_02.png\n  ...",
            lambda root: any(_any_folder(root, f"frame_{name}.png") for name in ("00", "01_gt", "02")),
            _ucf101,
            {"": Protocol(num_levels=3, skip_finest=0)},
            count=379,
        ),
        Benchmark(
            "snu-film",
            "SNU-FILM",
            "DIR/\n  eval_modes/test-easy.txt, test-medium.txt, test-hard.txt, test-extreme.txt\n"
            "                                       three paths on each line: first, target, last\n"
            "  test/<set>/<clip>/<number>.png       (wherever the lists say, from DIR)",
            lambda root: any((root / "eval_modes").glob("test-*.txt")),
            _snu_film,
            dict.fromkeys(("easy", "medium", "hard", "extreme"), Protocol(num_levels=5, skip_finest=0)),
            factors=(2, 4, 8),
            count=310,
        ),
        Benchmark(
            "x4k1000fps",
            "X4K1000FPS (X-TEST)",
            "DIR/\n  <type>/<scene>/0000.png ... 0032.png   33 frames; 0 and 32 are given, targets at k * 4, t = k/8",
            _has_x4k_scene,
            _x4k1000fps,
            {"4k": Protocol(num_levels=7, skip_finest=2), "2k": Protocol(shrink=2)},
            factors=(8, 4, 2),
            count=15,
        ),
    )
}
