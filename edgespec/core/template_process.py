"""Chat templates are rendered in processes of their own (template_sandbox.py), with bounds on memory, time and text.

One call of a filter or method may take all memory, or compute for hours without Python looking up from it. So the
kernel holds the bounds: whatever a template does, its process gets no more memory, and ends when its time is over. A
process is kept for the next rendering, and renders one template only: nothing that it leaves behind meets another.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from edgespec.core.errors import EdgespecError

MOST_MEMORY_BYTES = 256 << 20
"""Of address space. The process itself takes 30 MiB."""

MOST_CHARACTERS = 16 << 20
"""Of a rendered text."""

MOST_CPU_S = 5.0
"""Of one rendering. A busy machine makes a rendering slower, and no refusal of it."""

KEPT_PROCESSES = 4

SANDBOX = Path(__file__).with_name("template_sandbox.py")
PROGRAM = "import runpy, sys; sys.path += sys.argv[2:]; runpy.run_path(sys.argv[1], run_name='__main__')"
"""It finds jinja2 where this process does, and starts without what `site` and the environment would have it import."""


class TemplateRefusal(Exception):
    """The template raised something, or went beyond what it may."""


class TemplateProcess:
    """Renders one template, one rendering after another. Starts its process when it needs one."""

    def __init__(self, template: str) -> None:
        self._job = {
            "template": template,
            "memory_bytes": MOST_MEMORY_BYTES,
            "characters": MOST_CHARACTERS,
            "cpu_s": MOST_CPU_S,
        }
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[Any, Any] | None = None

    def render(self, values: Mapping[str, Any]) -> str:
        """Raises TemplateRefusal, and EdgespecError where no process can be started. values: as JSON has them."""
        request = json.dumps(values).encode()
        with self._lock:
            try:
                answer = _asked(self._running(), request)
            except BaseException:  # an answer that nobody takes now would be taken for the next one
                self._stop()
                raise
        if "refusal" in answer:
            raise TemplateRefusal(answer["refusal"])
        return answer["text"]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._process = _started()
            self._end = weakref.finalize(self, _end, self._process, os.getpid())
            with contextlib.suppress(OSError):  # one that has ended already says so when it is asked
                _send(self._process, json.dumps(self._job).encode())
        return self._process

    def _stop(self) -> None:
        if self._end is not None:
            self._end()
        self._process = None


@lru_cache(KEPT_PROCESSES)
def process_of(template: str) -> TemplateProcess:
    """The one that is kept for this template. One that nobody holds any more ends."""
    return TemplateProcess(template)


os.register_at_fork(
    after_in_child=process_of.cache_clear
)  # a fork takes no answers that its parent waits for


def _started() -> subprocess.Popen[bytes]:
    folders = [folder for folder in sys.path if folder]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, str(SANDBOX), *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is meant for its parent
        )
    except OSError as error:
        raise EdgespecError(
            f"the process that renders chat templates does not start ({error}): make room for it."
        ) from None


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """owner: the process that started it. A fork of that one has no say in it."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not sent any more
                cast("Any", stream).close()


def _asked(process: subprocess.Popen[bytes], request: bytes) -> dict[str, str]:
    with contextlib.suppress(OSError):  # where it ended, there is no answer either
        _send(process, request)
    assert process.stdout is not None
    line = process.stdout.readline()
    if line.endswith(b"\n"):
        return cast("dict[str, str]", json.loads(line))
    if process.wait() == -signal.SIGPROF:
        raise TemplateRefusal("it runs for too long")
    raise TemplateRefusal(f"its process ended with status {process.returncode}")


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line + b"\n")
    process.stdin.flush()
