"""Stages that run at the same time: order, bounds, errors and breaking off."""

import os
import sys
import threading
import time

import pytest

from uprnet.pipeline.overlap import NICENESS, Stopped, ahead, behind


def count_to(number, seen, error_at=None):
    for item in range(number):
        if item == error_at:
            raise ValueError("bad item")
        seen.append(item)
        yield item


@pytest.fixture(autouse=True)
def all_threads_end():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def wait_until(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert condition()


class TestAhead:
    def test_everything_comes_in_order(self):
        with ahead(count_to(100, []), 3) as items:
            assert list(items) == list(range(100))

    def test_only_so_far_ahead(self):
        made = []
        with ahead(count_to(100, made), 3) as items:
            wait_until(lambda: len(made) == 4)  # three wait, one is in the hand
            next(items)
            wait_until(lambda: len(made) == 5)
            time.sleep(0.02)
            assert len(made) == 5

    def test_error_comes_where_its_item_was_to_come(self):
        got = []
        with ahead(count_to(9, [], error_at=5), 2) as items, pytest.raises(ValueError, match="bad item"):
            got.extend(items)
        assert got == list(range(5))

    def test_leaving_early_ends_the_thread_and_closes_the_source(self):
        closed = []

        def source():
            try:
                while True:
                    yield 1
            finally:
                closed.append(threading.current_thread().name)

        with ahead(source(), 2) as items:
            next(items)
        assert closed == ["uprnet-ahead"]


class TestBehind:
    def test_everything_arrives_in_order_before_leaving(self):
        got = []

        def slow(items):
            for item in items:
                time.sleep(0.001)
                got.append(item)

        with behind(slow, 2) as put:
            for item in range(30):
                put(item)
        assert got == list(range(30))

    def test_putting_waits_for_the_slower_side(self):
        gate, got = threading.Semaphore(0), []

        def gated(items):
            for item in items:
                gate.acquire()
                got.append(item)

        put_so_far = []

        def feed():
            with behind(gated, 2) as put:
                for item in range(10):
                    put(item)
                    put_so_far.append(item)

        feeder = threading.Thread(target=feed)
        feeder.start()
        wait_until(lambda: len(put_so_far) == 3)  # two wait, one is in the hand
        time.sleep(0.02)
        assert len(put_so_far) == 3
        for _ in range(10):
            gate.release()
        feeder.join()
        assert got == list(range(10))

    @pytest.mark.parametrize("bad", [0, 9])
    def test_its_error_is_raised_here(self, bad):
        def consume(items):
            for item in items:
                if item == bad:
                    raise ValueError("disk full")

        def feed():
            with behind(consume, 2) as put:
                for item in range(10):
                    put(item)

        with pytest.raises(ValueError, match="disk full"):
            feed()

    def test_error_here_breaks_it_off(self):
        seen = []

        def consume(items):
            try:
                seen.extend(items)
            except Stopped:
                seen.append("stopped")
                raise

        def feed():
            with behind(consume, 2) as put:
                put(1)
                wait_until(lambda: seen == [1])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            feed()
        assert seen == [1, "stopped"]


def test_three_stages_work_at_the_same_time():
    """They meet: each is at an item of its own at one moment."""
    number, got, meeting = 6, [], threading.Barrier(3, timeout=30)

    def source():
        for item in range(number):
            if item >= 2:
                meeting.wait()
            yield item

    def sink(items):
        for item in items:
            if item < number - 2:
                meeting.wait()
            got.append(item)

    with ahead(source(), 2) as items, behind(sink, 2) as put:
        for item in items:
            if 1 <= item < number - 1:
                meeting.wait()
            put(item)
    assert got == list(range(number))


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux only")
def test_stages_give_way_to_the_caller_with_all_threads_they_start():
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def of_new_thread():
        found = []
        thread = threading.Thread(target=lambda: found.append(niceness()))
        thread.start()
        thread.join()
        return found[0]

    def source():
        yield niceness(), of_new_thread()

    seen = []

    def sink(items):
        seen.extend((item, niceness(), of_new_thread()) for item in items)

    own = niceness()
    with ahead(source(), 1) as items, behind(sink, 1) as put:
        for item in items:
            put(item)
        assert niceness() == own
    lower = min(own + NICENESS, 19)
    assert seen == [((lower, lower), lower, lower)]
