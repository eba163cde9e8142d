"""Let Ctrl-C and SIGTERM end a run in good order."""

import signal
import threading
from collections.abc import Callable
from typing import Any


class StopSignals:
    """While it is entered, Ctrl-C and SIGTERM call a function, instead of breaking off; a second one breaks off.

    Args:
        stop: What to call.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        def handle(number: int, _: object) -> None:
            self._stop()
            signal.signal(number, self._previous[number])

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
