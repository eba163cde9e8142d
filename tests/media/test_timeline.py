"""The one function that decides times: hand-computed values, and laws that hold for any source."""

import math
import random
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import pytest

from uprnet.errors import InvalidInputError
from uprnet.media.clock import Clock
from uprnet.media.timeline import MAX_TIME_SCALE, Timing, as_rate, common_tick, plan

NTSC_FILM = Fraction(24000, 1001)


@dataclass(frozen=True)
class Shot:
    pts: Fraction
    duration: Fraction | None = None


def steady(count, rate, start=Fraction(0)):
    return [Shot(start + i / Fraction(rate), 1 / Fraction(rate)) for i in range(count)]


def outputs(shots, **options):
    return list(plan(shots, Timing.choose(**options)))


def check_laws(shots, timing, made):
    """Whatever was asked for: no gap, no overlap, the right moments, the right length."""
    start, slow = shots[0].pts, timing.slow
    end = start + (shots[-1].pts + shots[-1].duration - start) * slow
    assert made[0].pts == start
    assert all(a.pts + a.duration == b.pts for a, b in pairwise(made))
    assert all(out.duration > 0 for out in made)
    for out in made:
        assert out.left is shots[out.index]
        assert 0 <= out.t < 1
        if out.right is None:
            assert out.t == 0
            assert out.index == len(shots) - 1
        else:
            assert out.right is shots[out.index + 1]
            source_time = start + (out.pts - start) / slow
            assert source_time == out.left.pts + out.t * (out.right.pts - out.left.pts)
    made_end = made[-1].pts + made[-1].duration
    if timing.fps is None:
        assert made_end == end
    else:
        assert end <= made_end < end + 1 / timing.fps
    assert len(made) == timing.count(len(shots), shots[-1].pts + shots[-1].duration - start)


@pytest.mark.parametrize("seed", range(60))
def test_laws_hold_for_any_source_and_request(seed):
    dice = random.Random(seed)

    def amount(low, high):
        return Fraction(dice.randint(low * 12 + 1, high * 12), 12)

    start, shots = Fraction(dice.randint(-180, 180), 90), []
    for _ in range(dice.randint(1, 12)):
        span = Fraction(dice.randint(5, 1001), dice.choice([1001, 600, 90]))
        shots.append(Shot(start, span))
        start += span
    many = {"fps": amount(2, 60)} if dice.random() < 0.5 else {"factor": amount(0, 6)}
    timing = Timing.choose(**many, slow=amount(0, 4))
    check_laws(shots, timing, list(plan(shots, timing)))


def test_factor_two_puts_one_new_frame_in_every_pair_and_holds_the_last():
    made = outputs(steady(3, 30), factor=2)
    assert [(out.index, out.t) for out in made] == [
        (0, 0), (0, Fraction(1, 2)), (1, 0), (1, Fraction(1, 2)), (2, 0), (2, 0),
    ]  # fmt: skip
    assert [out.pts for out in made] == [Fraction(k, 60) for k in range(6)]


@pytest.mark.parametrize(
    ("factor", "count", "moments"),
    [
        (1, 4, ["0", "0", "0", "0"]),
        ("3/2", 6, ["0", "2/3", "1/3", "0", "2/3", "0"]),
        ("1/2", 2, ["0", "0"]),
        ("0.75", 3, ["0", "1/3", "2/3"]),
    ],
)
def test_any_rational_factor(factor, count, moments):
    made = outputs(steady(4, 10), factor=factor)
    assert len(made) == count
    assert [str(out.t) for out in made] == moments
    assert made[-1].pts + made[-1].duration == Fraction(4, 10)


def test_24_to_60_repeats_a_cycle_of_five():
    made = outputs(steady(24, 24), fps=60)
    assert len(made) == 60
    assert [(out.index, str(out.t)) for out in made[:6]] == [
        (0, "0"), (0, "2/5"), (0, "4/5"), (1, "1/5"), (1, "3/5"), (2, "0"),
    ]  # fmt: skip


def test_film_to_ntsc_is_exact_three_hours_into_the_film():
    count, start = 24 * 60, Fraction(3 * 3600)
    last, number = None, 0
    for out in plan(iter(steady(count, NTSC_FILM, start)), Timing.choose(fps="60000/1001")):
        last, number = out, number + 1
        assert out.t.denominator in (1, 5)
    assert number == count * 5 // 2
    assert last.pts + last.duration == start + count / NTSC_FILM


def test_30_to_29_97_keeps_the_length_within_one_frame():
    made = outputs(steady(300, 30), fps="29.97")
    assert made[1].pts == Fraction(1001, 30000)
    assert made[1].index == 1
    assert made[1].t == Fraction(1, 1000)
    assert len(made) == 300
    assert made[-1].pts + made[-1].duration == Fraction(10010, 1000)


def test_fps_below_the_source_takes_every_second_frame_untouched():
    made = outputs(steady(8, 30), fps=15)
    assert [(out.index, out.t) for out in made] == [(0, 0), (2, 0), (4, 0), (6, 0)]


def test_variable_rate_keeps_every_source_time_with_a_whole_factor():
    times = [Fraction(v, 1000) for v in (0, 33, 40, 500, 533)]
    shots = [Shot(pts) for pts in times]
    made = outputs(shots, factor=3)
    assert [out.pts for out in made if out.t == 0 and out.right is not None] == times[:-1]
    assert made[3 * 2 + 1].pts == Fraction(40, 1000) + Fraction(460, 3000)
    assert made[-1].pts + made[-1].duration == Fraction(566, 1000)  # held as long as the gap before it


def test_slow_keeps_the_rate_and_stretches_time():
    made = outputs(steady(10, 25, start=Fraction(7, 5)), slow=4)
    assert len(made) == 40
    assert [out.pts for out in made[:3]] == [Fraction(7, 5), Fraction(36, 25), Fraction(37, 25)]
    assert {out.duration for out in made} == {Fraction(1, 25)}


def test_slow_with_fps():
    made = outputs(steady(10, 25), slow=2, fps=50)
    assert len(made) == 40
    assert made[1].t == Fraction(1, 4)


def test_single_frame_is_held():
    made = outputs([Shot(Fraction(0), Fraction(1, 5))], factor=3)
    assert [(out.index, out.t, out.duration) for out in made] == [(0, 0, Fraction(1, 15))] * 3
    unknown = list(plan([Shot(Fraction(0))], Timing.choose(factor=2), nominal=Fraction(1, 30)))
    assert [out.duration for out in unknown] == [Fraction(1, 60)] * 2


def test_empty_source_gives_nothing():
    assert outputs([]) == []


def test_reads_one_frame_ahead_only():
    read = []

    def source():
        for shot in steady(100, 30):
            read.append(shot)
            yield shot

    for out in plan(source(), Timing.choose(factor=2)):
        assert len(read) <= out.index + 3  # the frame itself, its right neighbour, and one output of look-ahead


@pytest.mark.parametrize(
    "options",
    [
        {"factor": 0},
        {"factor": -1},
        {"factor": "two"},
        {"factor": float("nan")},
        {"fps": "0/1"},
        {"fps": "1/0"},
        {"slow": 0},
        {"factor": 2, "fps": 60},
    ],
)
def test_bad_requests_are_refused_in_one_line(options):
    with pytest.raises(InvalidInputError) as error:
        Timing.choose(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("23.976", NTSC_FILM),
        (23.98, NTSC_FILM),
        ("29.97", Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        ("25", Fraction(25)),
        (12.5, Fraction(25, 2)),
        ("24.5", Fraction(49, 2)),
        ("2997/100", Fraction(2997, 100)),
    ],
)
def test_broadcast_rates_are_exact(written, meant):
    assert as_rate(written) == meant


def test_time_base_represents_every_time():
    for timing in (Timing.choose(factor="5/2"), Timing.choose(fps="60000/1001"), Timing.choose(slow="7/3")):
        shots = [Shot(Fraction(v, 90000)) for v in (180, 3183, 6200, 9190)]
        tick = timing.time_base(shots[0].pts, Fraction(1, 90000))
        assert all((out.pts / tick).denominator == 1 for out in plan(shots, timing))
        assert tick.denominator <= MAX_TIME_SCALE
    assert Timing.choose(fps=30).time_base(Fraction(0), Fraction(1, 90000)) == Fraction(1, 30)


def test_time_base_beyond_the_limit_is_a_microsecond():
    assert Timing.choose(factor="1009/3").time_base(Fraction(0), Fraction(1, 90_000_000)) == Fraction(1, 10**6)


def test_common_tick():
    assert common_tick(Fraction(0), Fraction(1, 30)) == Fraction(1, 30)
    assert common_tick(Fraction(1, 1000), Fraction(1001, 24000)) == Fraction(1, 24000)


class TestClock:
    def test_milliseconds_of_a_steady_rate_become_exact(self):
        clock = Clock(NTSC_FILM, Fraction(1, 1000))
        times = [clock.time(round(i / NTSC_FILM * 1000)) for i in range(5000)]
        assert times == [i / NTSC_FILM for i in range(5000)]
        assert all((time / clock.tick).denominator == 1 for time in times)

    def test_variable_stamps_stay(self):
        stamps = [0, 33, 40, 500, 533, 1200]
        clock = Clock(Fraction(30000, 1001), Fraction(1, 1000))
        times = [clock.time(stamp) for stamp in stamps]
        assert all(
            abs(time - Fraction(stamp, 1000)) < Fraction(1, 1000) for time, stamp in zip(times, stamps, strict=True)
        )
        assert times[2] == Fraction(40, 1000)

    @pytest.mark.parametrize("rate", [NTSC_FILM, Fraction(30), Fraction(19001, 634)])
    def test_times_strictly_increase_and_stay_within_a_tick(self, rate):
        dice = random.Random(1)
        clock, stamp, times = Clock(rate, Fraction(1, 1000)), 0, []
        for _ in range(2000):
            stamp += dice.choice([1, 33, 33, 34, 41, 42, 42, 200])
            times.append(clock.time(stamp))
            assert abs(times[-1] - Fraction(stamp, 1000)) < Fraction(1, 1000)
        assert all(a < b for a, b in pairwise(times))

    def test_exact_ticks_are_untouched(self):
        clock = Clock(Fraction(25), Fraction(1, 25))
        assert [clock.time(stamp) for stamp in (0, 1, 3)] == [0, Fraction(1, 25), Fraction(3, 25)]

    def test_missing_stamps_are_filled(self):
        clock = Clock(Fraction(50), Fraction(1, 1000))
        assert [clock.time(stamp) for stamp in (None, None, 40, None)] == [Fraction(k, 50) for k in range(4)]
        assert clock.missing == 3

    def test_repeated_and_backward_stamps_are_left_out_and_the_rest_stays(self):
        clock = Clock(Fraction(30), Fraction(1, 30))
        times = [clock.time(stamp) for stamp in (0, 1, 1, 0, 2, 3)]
        assert times == [0, Fraction(1, 30), None, None, Fraction(2, 30), Fraction(3, 30)]
        assert clock.repeated == 2

    def test_joined_recordings_go_on_where_the_clock_jumps_back(self):
        clock = Clock(Fraction(25), Fraction(1, 1000))
        stamps = [3000, 3040, 3080, 0, 40, 60, 120, 5000, 200]
        times = [clock.time(stamp) for stamp in stamps]
        assert [round(time * 1000) for time in times] == [3000, 3040, 3080, 3120, 3160, 3180, 3240, 8120, 8160]
        assert clock.splices == [Fraction(3120, 1000), Fraction(8160 - 3320, 1000)]
        assert clock.repeated == 0
        assert all((time / clock.tick).denominator == 1 for time in times)

    def test_tick_fits_times_after_a_jump_of_an_uneven_rate(self):
        clock = Clock(Fraction(37, 3), Fraction(1, 1000))
        first = clock.time(9000)
        tick = clock.tick
        after = clock.time(0)
        assert first < after < first + Fraction(1, 10)
        assert (after / tick).denominator == 1

    def test_a_small_jump_back_is_no_splice(self):
        clock = Clock(Fraction(25), Fraction(1, 25))
        assert [clock.time(stamp) for stamp in (0, 20, 2, 21)] == [0, Fraction(20, 25), None, Fraction(21, 25)]
        assert clock.splices == []

    def test_stamps_can_be_kept_as_they_stand(self):
        clock = Clock(NTSC_FILM, Fraction(1, 1000), keeps_stamps=True)
        stamps = [round(i / NTSC_FILM * 1000) for i in range(50)]
        assert [clock.time(stamp) for stamp in stamps] == [Fraction(stamp, 1000) for stamp in stamps]


class TestKeepingTimeStamps:
    def test_needs_a_whole_factor(self):
        assert Timing.choose(keep_timestamps=True).factor == 2
        assert Timing.choose(factor=5, keep_timestamps=True).keep_timestamps
        for options in ({"factor": "5/2"}, {"fps": 60}, {"slow": 2}, {"factor": 2, "slow": 2}):
            with pytest.raises(InvalidInputError, match="whole factor and no slower time, got") as error:
                Timing.choose(**options, keep_timestamps=True)
            assert "\n" not in str(error.value)


def test_counts_match_for_a_huge_source_without_walking_it():
    assert Timing.choose(factor="5/2").count(10**9, Fraction(1)) == math.ceil(Fraction(5, 2) * 10**9)
