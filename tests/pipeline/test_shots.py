"""Cuts, repeated frames, and what is decided about every frame of the output."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.timeline import Timing, plan
from uprnet.media.video import SkippedFrame, SourceFrame
from uprnet.pipeline.cuts import read_cuts, with_cuts, with_listed_cuts
from uprnet.pipeline.duplicates import MAX_HELD, REPEATED, SAME, difference
from uprnet.pipeline.shots import as_shots, decide, evened

STEP = Fraction(1, 24)


def picture(value, noise=0, seed=0):
    """A grey thumbnail; every value looks different."""
    grains = np.random.default_rng(seed).integers(-noise, noise + 1, (36, 64, 3))
    return np.clip(np.full((36, 64, 3), value) + grains, 0, 255).astype(np.uint8)


def source(values, cuts=()):
    for index, value in enumerate(values):
        image = picture(value)
        yield SourceFrame(index * STEP, STEP, image, image), index in cuts


def decided(values, cuts=(), *, duplicates="keep", at_cut="hold", **timing):
    timing = Timing.choose(**(timing or {"factor": 2}))
    shots = as_shots(source(values, cuts), duplicates)
    return list(decide(plan(evened(shots) if duplicates == "retime" else shots, timing, STEP), at_cut))


def told(decisions):
    """Each decision as (way, value on the left, value on the right, t)."""
    return [
        (d.way, int(d.left.image[0, 0, 0]), None if d.right is None else int(d.right.image[0, 0, 0]), str(d.t))
        for d in decisions
    ]


class TestDecide:
    def test_source_frames_pass_and_new_ones_lie_between(self):
        assert told(decided([10, 50, 90])) == [
            ("source", 10, None, "0"),
            ("network", 10, 50, "1/2"),
            ("source", 50, None, "0"),
            ("network", 50, 90, "1/2"),
            ("source", 90, None, "0"),
            ("source", 90, None, "0"),
        ]

    @pytest.mark.parametrize("timing", [{"factor": 2}, {"factor": "5/2"}, {"fps": 60}, {"fps": 10}, {"slow": 3}])
    @pytest.mark.parametrize("values", [[10, 50, 90, 130, 170], [10, 10, 50, 50, 90, 90], [10] * 12])
    def test_count_and_times_never_change(self, timing, values):
        plain = decided(values, **timing)
        for cuts, duplicates, at_cut in [((2, 3), "keep", "blend"), ((), "retime", "hold"), ((2,), "retime", "blend")]:
            other = decided(values, cuts, duplicates=duplicates, at_cut=at_cut, **timing)
            assert [(d.number, d.pts, d.duration) for d in other] == [(d.number, d.pts, d.duration) for d in plain]

    def test_nothing_leads_across_a_cut(self):
        assert told(decided([10, 50, 200, 240], cuts=[2]))[2:6] == [
            ("source", 50, None, "0"),
            ("source", 50, None, "0"),
            ("source", 200, None, "0"),
            ("network", 200, 240, "1/2"),
        ]

    def test_or_it_fades(self):
        assert told(decided([10, 50, 200], cuts=[2], at_cut="blend"))[3] == ("blend", 50, 200, "1/2")

    def test_same_neighbours_are_no_work(self):
        ways = [d.way for d in decided([10, 10, 12, 60, 60])]
        assert ways == ["source"] * 5 + ["network"] + ["source"] * 4


class TestRetime:
    def test_drawings_on_twos_move_over_both_frames(self):
        assert told(decided([10, 10, 50, 50, 90, 90], duplicates="retime")) == [
            ("source", 10, None, "0"),
            ("network", 10, 50, "1/4"),
            ("network", 10, 50, "1/2"),
            ("network", 10, 50, "3/4"),
            ("source", 50, None, "0"),
            ("network", 50, 90, "1/4"),
            ("network", 50, 90, "1/2"),
            ("network", 50, 90, "3/4"),
            ("source", 90, None, "0"),
            *[("source", 90, None, "0")] * 3,
        ]

    def test_it_smooths_at_the_same_rate(self):
        ts = [d.t for d in decided([10, 10, 50, 50, 90, 90], duplicates="retime", factor=1)]
        assert [str(t) for t in ts] == ["0", "1/2", "0", "1/2", "0", "0"]

    def test_noise_of_a_codec_does_not_hide_a_repetition(self):
        first, again = picture(100, noise=4, seed=1), picture(100, noise=4, seed=2)
        assert SAME < difference(first, again) <= REPEATED

    def test_small_thing_that_moves_does(self):
        first, moved = picture(100), picture(100)
        first[4:8, 4:8], moved[4:8, 12:16] = 200, 200
        assert difference(first, moved) > REPEATED

    def test_still_scene_stays_still_until_it_moves(self):
        still = decided([10] * (MAX_HELD + 4) + [90, 130], duplicates="retime")
        moving = [(d.index, str(d.t)) for d in still if d.way == "network"]
        assert moving == [(MAX_HELD + 3, "1/2"), (MAX_HELD + 4, "1/2")]

    def test_drawing_of_the_longest_hold_moves(self):
        ways = [d.way for d in decided([10] * MAX_HELD + [90], duplicates="retime")]
        assert ways == ["source"] + ["network"] * (2 * MAX_HELD - 1) + ["source"] * 2

    def test_slow_change_adds_up(self):
        # Neighbours differ by 3, which is noise; the fourth differs from the first by 9.
        right = {d.right.pts for d in decided([10, 13, 16, 19, 22], duplicates="retime") if d.right}
        assert right == {2 * STEP, 4 * STEP}

    def test_cut_between_drawings_is_held(self):
        ways = [d.way for d in decided([10, 10, 90, 90], cuts=[2], duplicates="retime")]
        assert ways == ["source"] * 8


class TestEvened:
    def positions(self, holds, **timing):
        """Where each output lies, in drawings: 1.5 is halfway between drawings 1 and 2."""
        values = [value for value, held in zip(range(0, 240, 12), holds, strict=False) for _ in range(held)]
        decisions = decided(values, duplicates="retime", **(timing or {"factor": 1}))
        return [float(int(d.left.image[0, 0, 0]) / 12 + d.t) for d in decisions]

    def test_drawings_of_24_in_a_file_of_60_move_evenly(self):
        steps = np.diff(self.positions([2, 3] * 5))[5:-5]
        assert np.allclose(steps, 1 / 2.5)

    def test_repeats_of_a_telecine_move_more_evenly(self):
        steps = np.diff(self.positions([1, 1, 1, 2] * 4))[5:-5]
        assert steps.min() > 0.6
        assert steps.max() <= 1

    def test_equal_holds_stay(self):
        assert self.positions([2] * 6)[::2] == [0, 1, 2, 3, 4, 5]

    def test_nothing_is_lost_or_shown_twice(self):
        places = self.positions([2, 3, 2, 2, 1, 1, 2, 3, 4, 3, 1, 1], factor=3)
        assert all(b >= a for a, b in pairwise(places))
        assert places[0] == 0
        assert places[-1] == 11

    def test_pictures_that_are_done_with_are_let_go(self):
        frames = source([12 * (k // 2 + k // 5) % 250 for k in range(400)])
        living = max(len({id(d) for d in linked(shot.drawing)}) for shot in evened(as_shots(frames, "retime")))
        assert living <= 8


def linked(drawing):
    """All drawings that one holds on to."""
    found, back, forth = [drawing], drawing.previous, drawing.following
    while back is not None:
        found.append(back)
        back = back.previous
    while forth is not None:
        found.append(forth)
        forth = forth.following
    return found


@pytest.mark.parametrize("duplicates", ["keep", "retime"])
def test_decisions_do_not_need_pictures(duplicates):
    values, cuts = [10, 10, 50, 50, 90, 200, 220, *[220] * 10, 30], (5,)
    skipped = [(SkippedFrame(f.pts, f.duration, f.thumbnail), cut) for f, cut in source(values, cuts)]
    timing = Timing.choose(fps=60)
    shots = as_shots(skipped, duplicates)
    without = decide(plan(evened(shots) if duplicates == "retime" else shots, timing, STEP), "hold")
    facts = [(d.way, d.t, d.left.pts, d.index) for d in without]
    assert facts == [(d.way, d.t, d.left.pts, d.index) for d in decided(values, cuts, duplicates=duplicates, fps=60)]


class TestCuts:
    def shot(self, seed, length, speed=1):
        """A textured wall and a camera that moves over it."""
        wall = np.random.default_rng(seed).integers(0, 256, (20, 60 + length * speed, 3), dtype=np.uint8)
        wall = wall.repeat(4, axis=0).repeat(4, axis=1)
        tone = np.random.default_rng(seed + 100).uniform(0.3, 1, 3)
        return [(wall[:, speed * i : speed * i + 160] * tone).astype(np.uint8) for i in range(length)]

    def found(self, frames, **options):
        return [index for index, (_, is_cut) in enumerate(with_cuts(frames, lambda frame: frame, **options)) if is_cut]

    def test_every_frame_comes_through_in_order(self):
        frames = list(range(30))
        assert [item for item, _ in with_cuts(frames, lambda index: picture(index))] == frames

    def test_cuts_are_found_at_the_first_frame_of_the_new_scene(self):
        frames = [*self.shot(1, 12), *self.shot(2, 9), *self.shot(3, 12)]
        assert self.found(frames) == [12, 21]

    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_and_close_to_the_ends(self, length):
        frames = [*self.shot(1, length), *self.shot(2, 12), *self.shot(3, length)]
        assert self.found(frames) == [length, length + 12]

    def test_fast_motion_is_none(self):
        assert self.found(self.shot(1, 30, speed=12)) == []

    @pytest.mark.parametrize("held", [2, 3, 5])
    def test_animation_on_twos_is_none(self, held):
        drawings = [*self.shot(1, 12, speed=2), *self.shot(2, 12, speed=2)]
        assert self.found([drawing for drawing in drawings for _ in range(held)]) == [12 * held]

    def test_threshold(self):
        frames = [*self.shot(1, 12), *self.shot(2, 12)]
        assert self.found(frames, threshold=1000.0) == []

    def test_single_frame(self):
        assert self.found(self.shot(1, 1)) == []

    def test_listed(self):
        times = [Fraction(k, 24) for k in range(10)]
        listed = [Fraction("0.0833"), Fraction("0.083"), Fraction("0.2"), Fraction(0), Fraction(9)]
        marks = [is_cut for _, is_cut in with_listed_cuts(times, lambda time: time, listed)]
        assert [k for k, mark in enumerate(marks) if mark] == [2, 5]

    def test_list_is_read(self, tmp_path):
        (tmp_path / "cuts.txt").write_text("# cuts\n12.5\n\n1:02:03.25  # the second\n0:07\n")
        assert read_cuts(tmp_path / "cuts.txt") == (Fraction(25, 2), Fraction("3723.25"), Fraction(7))

    def test_bad_list(self, tmp_path):
        (tmp_path / "cuts.txt").write_text("12.5\nsoon\n")
        with pytest.raises(InvalidInputError, match=r"line 2 of .*cuts.txt must be a time.*'soon'"):
            read_cuts(tmp_path / "cuts.txt")
        with pytest.raises(MediaError, match="cannot read the list"):
            read_cuts(tmp_path / "none.txt")
