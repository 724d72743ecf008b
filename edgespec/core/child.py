"""Processes that the command line starts beside itself: a server on the bundled pair, an emulated link.

A child is this Python running the command line in a session of its own (Ctrl-C is for its parent). It says where it
listens, and it ends with its parent however that one ends: its standard input closes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence

from edgespec.core.errors import EdgespecError

COMMAND = (
    sys.executable,
    "-c",
    "import sys; sys.path[:1] = [path for path in sys.path[:1] if path]; from edgespec.cli.main import main; main()",
)
"""`edgespec`, whatever the current directory holds: `python -m edgespec` would run the sources in a source tree."""

ENDING_S = 10.0
"""A child that has not ended this long after it was told to is killed."""


@contextlib.contextmanager
def child(arguments: Sequence[str], waiting: str) -> Iterator[tuple[str, int]]:
    """Start `edgespec ARGUMENTS`; yields the address that its `listening on HOST:PORT` line names, and ends it.

    waiting: what a terminal's spinner says meanwhile. Raises EdgespecError with the child's own words if it fails.
    """
    command = [*COMMAND, *arguments, "--end-with-stdin"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            with spinner(waiting):
                address = _listening_address(process)
            if address is None:
                process.wait()
                errors.seek(0)
                raise EdgespecError(_last_words(errors.read(), process.returncode))
            yield address
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Tell a child to end, and make sure that it does."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def when_stdin_ends(then: Callable[[], object]) -> None:
    """Call `then` from another thread once standard input is closed."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        then()

    threading.Thread(target=wait, name="edgespec-parent", daemon=True).start()


def spinner(text: str) -> contextlib.AbstractContextManager[object]:
    """Something that moves on standard error while there is a wait, if that is a terminal."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def _listening_address(process: subprocess.Popen[str]) -> tuple[str, int] | None:
    """The address in the first line that has one; None when the child's output ends first."""
    assert process.stdout is not None
    for line in process.stdout:
        _, found, address = line.rstrip().partition("listening on ")
        host, _, port = address.rpartition(":")
        if found and port.isdecimal():
            return host, int(port)
    return None


def _last_words(errors: str, status: int) -> str:
    """The sentence that a child left on its standard error."""
    lines = [line for line in errors.splitlines() if line.strip()]
    if not lines:
        return f"the server could not be started (exit status {status}): run `edgespec serve` to see why."
    return lines[-1].removeprefix("edgespec: error: ")
