"""Growing and shrinking chroma: where it lies, odd sizes, how little both ways change."""

import numpy as np
import pytest

from uprnet.media.chroma import grow, shrink

LOCATIONS = [(0, 0.5), (0.5, 0.5), (0, 0), (0.5, 0), (0, 1), (0.5, 1)]
BOTH = (True, True)


def waves(height, width, x, y):
    """Sample a smooth picture, waves of 25 and 30 pixels, at every ``x`` and ``y`` of the luma."""
    rows, columns = np.mgrid[0:height, 0:width]
    values = 128 + 50 * np.sin(2 * np.pi * x(columns) / 25) + 50 * np.cos(2 * np.pi * y(rows) / 30)
    return values.round().astype(np.uint8)


@pytest.mark.parametrize("location", LOCATIONS)
def test_samples_lie_where_they_should(location):
    luma = waves(96, 128, lambda x: x, lambda y: y)
    chroma = waves(48, 64, lambda x: 2 * x + location[0], lambda y: 2 * y + location[1])
    grown, shrunk = grow(chroma, (96, 128), location, BOTH), shrink(luma, location, BOTH)
    inside = slice(12, -12)
    assert np.abs(grown.astype(int) - luma)[inside, inside].max() <= 2
    assert np.abs(shrunk.astype(int) - chroma)[6:-6, 6:-6].max() <= 2


@pytest.mark.parametrize("size", [(33, 51), (1, 2), (2, 1), (47, 64)])
@pytest.mark.parametrize("halved", [(True, True), (False, True), (False, False)])
def test_odd_sizes_fit(size, halved):
    small = tuple(-(-length // 2) if half else length for length, half in zip(size, halved, strict=True))
    flat = np.full(small, 200, np.uint8)
    grown = grow(flat, size, (0, 0.5), halved)
    assert grown.shape == size
    assert (grown == 200).all()
    assert np.array_equal(shrink(grown, (0, 0.5), halved), flat)


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ten_generations_change_next_to_nothing(location, dtype):
    rng = np.random.default_rng(1)
    coarse = rng.integers(80, 176, (12, 16)).astype(dtype)
    chroma = grow(grow(coarse, (24, 32), (0, 0), BOTH), (48, 64), (0, 0), BOTH)  # no finer than a codec leaves it
    last = chroma
    for _ in range(10):
        last = shrink(grow(last, (96, 128), location, BOTH), location, BOTH)
    assert np.abs(last.astype(int) - chroma)[8:-8, 8:-8].mean() < 0.5
