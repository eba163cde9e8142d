"""Where one scene of a video ends and the next begins: found by PySceneDetect, or read from a list of times.

Convention:
    A cut is the time of the first frame of the new scene.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, count, islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, FrameTimecode

from uprnet.errors import MediaError
from uprnet.media.colour import Image
from uprnet.pipeline.duplicates import REPEATED, difference
from uprnet.pipeline.section import as_time

T = TypeVar("T")

WIDTH = 256
"""Pixels to which frames are shrunk for the search; PySceneDetect itself does so, and its thresholds are meant so."""

THRESHOLD = 2.0
"""How many times more than its neighbours a frame must differ from the one before, to begin a scene.

PySceneDetect's own default is 3. On 46 labelled cuts of real clips, some of them in the middle of whip pans and
explosions, 3 finds 27 with 2 false ones, 2 finds 33 with 8, and 1.75 finds 35 with 15.
"""

MIN_CHANGE = 15.0
"""Mean change of hue, saturation and brightness (0 to 255) below which nothing is a cut; PySceneDetect's default."""

WINDOW = 2
"""Neighbours on either side with which a frame is compared, and frames that the search looks ahead."""

LONGEST = 5
"""Repeated frames that count as one drawing in this search: animation on twos in a file of 60 frames a second has 5."""


def with_cuts(
    items: Iterable[T], picture: Callable[[T], Image], threshold: float = THRESHOLD
) -> Iterator[tuple[T, bool]]:
    """Yield every item and whether a scene begins with it; items are frames in order, all of them.

    Looks ``WINDOW`` frames ahead: a frame begins a scene if it differs much more from the one before than its
    neighbours do from theirs. So fast motion and shaking cameras are no cuts. Repeated frames count once.

    Args:
        items: Anything with a picture.
        picture: Gives the picture of an item, ``(H, W, 3)``; small ones are enough, see ``WIDTH``.
        threshold: See ``THRESHOLD``.

    Reference:
        https://www.scenedetect.com/docs/latest/api/detectors.html (``AdaptiveDetector``)
    """
    detector = AdaptiveDetector(
        adaptive_threshold=threshold, min_scene_len=1, window_width=WINDOW, min_content_val=MIN_CHANGE
    )
    fed = count()

    def is_cut_behind(new: Image) -> bool:
        """Feed a frame, and say whether the one ``WINDOW`` frames before it begins a scene."""
        # Its time codes need a rate; any will do, because only frames are counted.
        timecode = FrameTimecode(next(fed), fps=25.0)
        return bool(detector.process_frame(timecode, cv2.cvtColor(new, cv2.COLOR_RGB2BGR)))

    groups = _drawings(items, picture)
    waiting = deque(islice(groups, WINDOW + 1))
    if len(waiting) <= WINDOW:
        yield from ((item, False) for group, _ in waiting for item in group)  # so few tell nothing
        return
    # Before the first frame and after the last one time runs backwards, so that motion there is as fast as elsewhere.
    for _, image in [*reversed(waiting)][:-1]:
        is_cut_behind(image)
    last = waiting.pop()
    for _, image in waiting:
        is_cut_behind(image)
    tail = deque((image for _, image in waiting), WINDOW + 1)
    is_first = True
    for group, image in chain([last], groups):
        waiting.append((group, image))
        tail.append(image)
        is_cut = is_cut_behind(image) and not is_first
        yield from _marked(waiting.popleft()[0], is_cut)
        is_first = False
    for image in [*reversed(tail)][1:]:
        yield from _marked(waiting.popleft()[0], is_cut_behind(image))


def _marked(group: list[T], is_cut: bool) -> Iterator[tuple[T, bool]]:
    return ((item, is_cut and index == 0) for index, item in enumerate(group))


def _drawings(items: Iterable[T], picture: Callable[[T], Image]) -> Iterator[tuple[list[T], Image]]:
    """Join repeated frames, and give the small picture of the first of them.

    Between the drawings of an animation nothing changes, so that each would change much more than its neighbours.
    """
    group: list[T] = []
    first: Image | None = None
    for item in items:
        new = small(picture(item))
        if first is not None and (len(group) == LONGEST or difference(first, new) > REPEATED):
            yield group, first
            group, first = [], None
        group.append(item)
        first = new if first is None else first
    if first is not None:
        yield group, first


def with_listed_cuts(items: Iterable[T], time: Callable[[T], Fraction], cuts: Iterable[Fraction]) -> Iterator[
    tuple[T, bool]
]:  # fmt: skip
    """Yield every item and whether a scene begins with it: the first one at or after each of ``cuts``.

    Args:
        items: Frames in order.
        time: Gives the time of an item, in seconds.
        cuts: Times, in seconds.
    """
    left = deque(sorted(cuts))
    for item in items:
        now, is_cut = time(item), False
        # Times are written with three decimals: half a millisecond more or less means the same frame.
        while left and left[0] - Fraction(1, 2000) <= now:
            is_cut = left.popleft() > 0 or is_cut
        yield item, is_cut


def read_cuts(path: Path) -> tuple[Fraction, ...]:
    """Read a list of cuts: a time per line, in seconds or as hours:minutes:seconds; ``#`` begins a comment.

    Raises:
        MediaError: If there is no such file or it cannot be read.
        InvalidInputError: If a line is no time.

    Example:
        >>> read_cuts(Path("cuts.txt"))  # doctest: +SKIP
        (Fraction(25, 2), Fraction(3723, 1))
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"cannot read the list of cuts {path}: {error}") from error
    texts = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    return tuple(as_time(text, f"line {number} of {path}") for number, text in texts if text)


def small(image: Image) -> Image:
    """Shrink an image to ``WIDTH`` and 8 bits, without transparency."""
    height, width = image.shape[:2]
    if image.dtype.kind == "f":
        # Linear light, which may go beyond white: about as it would look.
        image = np.rint(np.sqrt(np.clip(np.nan_to_num(image[..., :3]), 0, 1)) * 255).astype(np.uint8)
    if width > WIDTH:
        image = cv2.resize(image, (WIDTH, max(1, round(WIDTH * height / width))), interpolation=cv2.INTER_AREA)
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    return np.ascontiguousarray(image[..., :3])
