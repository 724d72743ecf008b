"""One thread for what would hold up the server's loop: reading pictures, compiling guides. Holders take turns at it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Work = Callable[[], Callable[[], object]]
"""Runs in the thread and never raises; what it returns is called in the server's loop."""


class WorkInTurns:
    """call: runs a function in the server's loop, from any thread."""

    def __init__(self, name: str, call: Callable[[Callable[[], object]], object]) -> None:
        self._name = name
        self._call = call
        self._waiting: OrderedDict[str, deque[tuple[Work, Callable[[], bool]]]] = OrderedDict()
        self._working = False
        self._thread: ThreadPoolExecutor | None = None

    def add(self, holder: str, work: Work, wanted: Callable[[], bool] = lambda: True) -> None:
        """wanted: asked in the server's loop when its turn has come; False: it is left out."""
        self._waiting.setdefault(holder, deque()).append((work, wanted))
        self._next()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        """That of the holder whose turn it is."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, self._name)
        while self._waiting and not self._working:
            holder, works = self._waiting.popitem(last=False)
            work, wanted = works.popleft()
            if works:
                self._waiting[holder] = works
            if wanted():
                self._working = True
                self._thread.submit(self._run, work)

    def _run(self, work: Work) -> None:
        end = work()
        self._call(lambda: self._ended(end))

    def _ended(self, end: Callable[[], object]) -> None:
        self._working = False
        try:
            end()
        finally:
            self._next()
