"""Servers with a stub target, each in a process of its own that a test may kill: `python stub_server.py LOG`.

Each line of standard input is a port on which one shall begin; its process is printed once it listens, 0 where it
cannot. They are forked from this process, so that one begins at once. Each execution is written to LOG before it runs:
the process, the session's cache, and the position of the row that is decided first, which is that of the last
committed token.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from scripted_models import HashModel
from stubs import SlotMemory, StubTarget

from edgespec.core.errors import EdgespecError
from edgespec.model.target_engine import ForwardRequest
from edgespec.server.server import Server


class LoggedTarget(StubTarget):
    def __init__(self, scripted: HashModel, log: int) -> None:
        super().__init__(
            scripted, before_forward=lambda: time.sleep(0.002)
        )  # a text takes long enough to be broken
        self._log = log
        self._caches = 0

    def open_cache(self, capacity: int) -> SlotMemory:
        self._caches += 1
        cache = super().open_cache(capacity)
        cache.serial = self._caches  # type: ignore[attr-defined]
        return cache

    def forward_batch(
        self, parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Any]:
        for part in parts:
            if len(part.decide):
                serial = part.cache.serial  # type: ignore[attr-defined]
                os.write(
                    self._log, f"{os.getpid()} {serial} {part.piece.positions[part.decide].min()}\n".encode()
                )
        return super().forward_batch(parts, exit_layers)


def main() -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that were killed
    for line in sys.stdin:
        if os.fork() == 0:
            serve(int(line), log)


def serve(port: int, log: int) -> None:
    target: Any = LoggedTarget(HashModel(draft_right=0.7, exit_right=0.8), log)
    try:
        server = Server(target, port=port)
    except EdgespecError:
        print(0, flush=True)
        os._exit(1)
    print(os.getpid(), flush=True)
    server.run()
    os._exit(0)


if __name__ == "__main__":
    main()
