"""Let stages of work run at the same time: each in a thread of its own, with bounded queues between them.

Decoders, encoders, numpy, OpenCV and torch let other threads run while they compute, so three stages overlap well in
one process. A queue holds a few items only: memory does not grow with the length of the work, and the slowest stage
sets the pace. Where cores are short, the stages beside the caller's give way to it: they use what it leaves.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

T = TypeVar("T")

POLL = 0.2
"""Seconds after which a waiting thread looks up, so that Ctrl-C gets through where a lock cannot be interrupted."""


NICENESS = 10
"""By how much the threads of stages are nicer than the caller, on the scale of Linux, which ends at 19."""


class Stopped(BaseException):
    """Work was broken off by another stage; raised within a stage so that its clean-up runs, and never seen outside."""


class Channel(Generic[T]):
    """A bounded queue between two threads that either side can end.

    Args:
        size: Items that may wait in it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_finished = self._is_stopped = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item; wait while the queue is full.

        Raises:
            Stopped: If the other side broke off.
        """
        with self._changed:
            while len(self._items) >= self._size and not self._is_stopped:
                self._changed.wait(POLL)
            if self._is_stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no item follows, because of ``error`` if there is one: the reader gets it after the last item."""
        with self._changed:
            self._is_finished, self._error = True, error
            self._changed.notify_all()

    def stop(self) -> None:
        """Break off: both sides get `Stopped`, and what waits is thrown away."""
        with self._changed:
            self._is_stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not self._items and not self._is_finished and not self._is_stopped:
                    self._changed.wait(POLL)
                if self._is_stopped:
                    raise Stopped
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # the next one may be long in coming, and this one may be large


@contextmanager
def ahead(items: Iterable[T], size: int) -> Iterator[Iterator[T]]:
    """Compute ``items`` in a thread, up to ``size`` of them ahead of who uses them.

    An error in the thread is raised where the item was to come. On leaving, the thread is broken off if it still
    runs, and waited for.
    """
    channel: Channel[T] = Channel(size)

    def run() -> None:
        _give_way()
        source = iter(items)
        try:
            for item in source:
                channel.put(item)
        except Stopped:
            pass
        except BaseException as error:
            channel.finish(error)
        else:
            channel.finish()
        finally:
            if isinstance(source, Generator):
                source.close()  # here, and not in whichever thread happens to find it unused

    thread = threading.Thread(target=run, name="uprnet-ahead", daemon=True)
    thread.start()
    try:
        yield iter(channel)
    finally:
        channel.stop()
        thread.join()


@contextmanager
def behind(consume: Callable[[Iterator[T]], None], size: int) -> Iterator[Callable[[T], None]]:
    """Run ``consume`` in a thread on the items that are handed to the function that this gives.

    Up to ``size`` items wait. An error in the thread is raised by the next call, or on leaving, which waits until
    all is consumed. Leaving with an error breaks the thread off: after the items that wait, ``consume`` gets `Stopped`
    from its iterator.
    """
    channel: Channel[T] = Channel(size)
    failed: list[BaseException] = []

    def run() -> None:
        _give_way()
        try:
            consume(iter(channel))
        except Stopped:
            pass
        except BaseException as error:
            failed.append(error)
        finally:
            channel.stop()

    def put(item: T) -> None:
        try:
            channel.put(item)
        except Stopped:
            thread.join()
            raise (failed[0] if failed else Stopped()) from None

    thread = threading.Thread(target=run, name="uprnet-behind", daemon=True)
    thread.start()
    try:
        yield put
        channel.finish()
        while thread.is_alive():
            thread.join(POLL)
    except BaseException:
        channel.finish(Stopped())
        thread.join()
        raise
    if failed:
        raise failed[0]


def _give_way() -> None:
    """Lower the priority of this thread and of those that it starts, such as an encoder's, where a thread has its own.

    The convolutions of a frame are shared out among the cores: if another thread holds up one, all others wait.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # some containers forbid it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
