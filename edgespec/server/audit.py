"""The audit log: who came in, opened sessions, was refused or was cut off. One JSON object a line.

It has no prompts, no texts and no tokens. What a device causes is left out beyond a rate, and likewise what all
strangers cause together, so that nobody fills the disk; records that cannot be written are left out too. The next one
that is written says how many are missing.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from pathlib import Path

from edgespec.core.errors import EdgespecError

log = logging.getLogger("edgespec.server")

DEVICE_A_MINUTE, STRANGERS_A_MINUTE = 600, 60


class AuditLog:
    """Appends to `path`, which only its owner may read; None: records nothing. Raises EdgespecError."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._minute = 0
        self._recorded = Counter[str]()
        self._left_out = 0
        self._fails = False
        self.reopen()

    def reopen(self) -> None:
        """Go on in a new file where the old one was moved away."""
        if self._path is None:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EdgespecError(f"cannot write the audit log {self._path} ({error.strerror}).") from None
        self.close()
        self._descriptor = descriptor

    def record(self, event: str, who: str, **facts: str | int | float) -> None:
        """event: welcomed, opened, refused or ended. who: the device; nothing: a stranger. Raises nothing: a server
        with a full disk goes on."""
        if self._descriptor is None:
            return
        if self._too_many(who):
            self._left_out += 1
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = json.dumps({"at": at, "event": event, "device": who, **facts}) + "\n"
        if self._left_out:
            entry = json.dumps({"at": at, "event": "left out", "records": self._left_out}) + "\n" + entry
        try:
            os.write(self._descriptor, entry.encode())
        except OSError as error:
            self._left_out += 1
            if not self._fails:
                log.error("the audit log %s cannot be written (%s): records are left out", self._path, error)
            self._fails = True
        else:
            self._left_out, self._fails = 0, False

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _too_many(self, who: str) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute = minute
            self._recorded.clear()
        self._recorded[who] += 1
        return self._recorded[who] > (DEVICE_A_MINUTE if who else STRANGERS_A_MINUTE)
