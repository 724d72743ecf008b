"""Commands that another command starts as processes beside it: a local server, an emulated link.

Such a process runs in a session of its own, because Ctrl-C is meant for its parent. It ends with its parent, however
the parent ends: its standard input closes then.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgespec.core.address import parse_address
from edgespec.core.errors import EdgespecError

COMMAND = (
    sys.executable,
    "-c",
    "import sys; sys.path[:1] = [path for path in sys.path[:1] if path]; from edgespec.cli.main import main; main()",
)
"""The command line. `python -m edgespec` would prefer an `edgespec` folder in the current directory."""

END_TIMEOUT_S = 10.0
"""A process that has not ended this long after it was asked to is killed."""


@dataclass(frozen=True)
class Child:
    """A process of ours and the address that it listens on."""

    process: subprocess.Popen[str]
    address: tuple[str, int]


@contextlib.contextmanager
def child(arguments: Sequence[str], waiting: str) -> Iterator[tuple[str, int]]:
    """Run `edgespec ARGUMENTS` as `started` does; yields the address alone."""
    with started(arguments, waiting) as one:
        yield one.address


@contextlib.contextmanager
def started(arguments: Sequence[str], waiting: str) -> Iterator[Child]:
    """Run `edgespec ARGUMENTS` as a process for as long as this lasts, once it listens.

    waiting: what a terminal shows until it is ready. Raises EdgespecError with the process's own message if it fails.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--end-with-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            with spinner(waiting):
                address = _listening_address(process)
            if address is None:
                process.wait()
                errors.seek(0)
                raise EdgespecError(_error_message(errors.read(), process.returncode))
            yield Child(process, address)
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, wait for it, and kill it if it does not."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
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
    """Show `text` with a spinner on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def _listening_address(process: subprocess.Popen[str]) -> tuple[str, int] | None:
    """The address in the first line that names one; None if the output ends without."""
    assert process.stdout is not None
    for line in process.stdout:
        if "listening on " in line:
            return parse_address(line.split()[-1])
    return None


def _error_message(errors: str, status: int) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    if not lines:
        return f"the process ended with status {status} before it listened: run `edgespec serve` to see why."
    return lines[-1].removeprefix("edgespec: error: ")
