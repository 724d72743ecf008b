"""Watches one file: a thread that says when it was replaced or changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

EVERY_S = 0.25


class FileWatch:
    """A context manager. Calls `changed`, in its own thread, soon after the file at `path` is another one."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._seen = self._state()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="edgespec-file-watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ends.wait(EVERY_S):
            state = self._state()
            if state != self._seen:
                self._seen = state
                self._changed()

    def _state(self) -> tuple[int, int, int] | None:
        """None: there is no such file."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
