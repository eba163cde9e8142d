"""How rows are shared out among threads: all made, and none needed before it is there."""

from __future__ import annotations

import itertools

import pytest

from uprnet.engines.shares import Rows, Share, reach, rows_at_once, share_rows

CHAINS = {
    "one": [Rows(4, 1, 1.0)],
    "two": [Rows(8, 1, 2.0), Rows(4, 1, 1.0)],
    "flow": [Rows(1, 0, 1.0), *[Rows(4, 1, work) for work in (5.0, 3.0, 2.0, 1.0)]],
    "encoder": [Rows(1, 1, 1.0), *[Rows(4, 1, 2.0)] * 3],
    "decoder": [Rows(8, 1, 5.0), *[Rows(4, 1, work) for work in (2.0, 4.0, 2.0, 1.0)]],
}


def needed(chain: list[Rows], share: Share, bottom: int, height: int) -> list[int]:
    """Return up to which row each layer is needed for the last one's rows above ``bottom``."""
    goals = [bottom]
    for i in range(len(chain) - 2, -1, -1):
        goal = min(goals[0], share.ends[i + 1]) + chain[i + 1].padding
        if goal <= share.ends[i]:
            goal = -(-goal // chain[i].unit) * chain[i].unit
        goals.insert(0, min(goal, height))
    return goals


@pytest.mark.parametrize("threads", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("height", [1, 7, 8, 15, 30, 60, 64, 120, 480, 1083])
@pytest.mark.parametrize("name", CHAINS)
def test_every_row_is_made_once_and_in_time(name: str, height: int, threads: int):
    chain = CHAINS[name]
    unit = rows_at_once(chain)
    shares = share_rows(chain, height, threads)
    assert [row for share in shares for row in range(share.first, share.end)] == list(range(height))
    assert len(shares) <= threads
    if height >= 60 and len(chain) <= 2:
        assert len(shares) >= min(threads, 3)
    assert not shares[0].gives
    assert not shares[-1].takes
    assert [share.gives for share in shares[1:]] == [share.takes for share in shares[:-1]]
    for share in shares:
        assert share.first % unit == 0
        assert share.first < share.end
        assert all(start % layer.unit == 0 for start, layer in zip(share.starts, chain, strict=True))
        first_step = needed(chain, share, min(share.first + unit, share.end), height)  # as the engine does
        if share.gives:
            assert all(goal <= end for goal, end in zip(first_step, share.ends, strict=True))
        if share.takes:
            assert share.first <= share.alone <= share.end
            assert share.alone % unit == 0
            for goal, end in zip(needed(chain, share, share.alone, height), share.ends, strict=True):
                assert goal <= end or share.alone == share.first
    for upper, lower in itertools.pairwise(shares):
        if upper.takes:
            assert upper.ends == lower.starts
            # What the upper one takes of each layer, the lower one has made with its first step.
            taken = needed(chain, upper, upper.end, height)
            made = needed(chain, lower, lower.first + unit, height)
            assert all(goal <= there for goal, there in zip(taken, made, strict=True))
        else:
            assert all(end == height for end in upper.ends[:-1])


@pytest.mark.parametrize("name", ["flow", "encoder", "decoder"])
def test_work_is_even(name: str):
    chain = CHAINS[name]
    upper, lower = share_rows(chain, 240, 2)
    assert upper.takes
    assert lower.gives
    work = [
        sum((end - start) * layer.work for start, end, layer in zip(share.starts, share.ends, chain, strict=True))
        for share in (upper, lower)
    ]
    assert abs(work[0] / work[1] - 1) < 0.07  # a tile is 4 or 8 of 120 rows


def test_small_shares_have_no_seam():
    chain = CHAINS["flow"]
    assert any(share.takes for share in share_rows(chain, 2 * 2 * reach(chain), 2))
    assert not any(share.takes for share in share_rows(chain, 2 * reach(chain), 2))
