"""The audit log: who came in, opened sessions, was refused or was cut off. One JSON object a line.

It has no prompts, no texts and no tokens. What strangers cause is left out beyond a rate, so that they fill no disk.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import IO

from edgespec.core.errors import EdgespecError

STRANGERS_A_MINUTE = 60


class AuditLog:
    """Appends to `path`, which only its owner may read; None: records nothing. Raises EdgespecError."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._minute, self._strangers = 0, 0
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
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)

    def record(self, event: str, who: str, **facts: str | int | float) -> None:
        """event: welcomed, opened, refused, ended or reloaded. who: the device; nothing: a stranger."""
        if self._file is None or (not who and self._too_many_strangers()):
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._file.write(json.dumps({"at": at, "event": event, "device": who, **facts}) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _too_many_strangers(self) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            left_out, self._minute, self._strangers = self._strangers - STRANGERS_A_MINUTE, minute, 0
            if left_out > 0 and self._file is not None:
                self._file.write(json.dumps({"event": "left out", "records": left_out}) + "\n")
        self._strangers += 1
        return self._strangers > STRANGERS_A_MINUTE
