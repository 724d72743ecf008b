"""Commands without their start-up: a process that has imported torch and transformers forks each one.

`COMMAND` stands for `edgespec.cli.child.COMMAND`. It starts a small process that asks the nursery for a fork, gives it
its own standard streams, folder and environment, passes signals on, and ends with the fork's status. The first test
that asks starts the nursery; it ends when the last process that holds it does.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

COMMAND = (sys.executable, os.path.abspath(__file__), "run")
FOLDER = "EDGESPEC_TINY_DRAFTS"
"""The variable that names the folder of the run (tiny_drafts.py), in which the nursery's socket lies."""

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(arguments: list[str]) -> int:
    """Ask for a fork that runs `edgespec ARGUMENTS`; its exit status."""
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    with _nursery() as connection, connection.makefile("rb") as answers:
        socket.send_fds(connection, [b"r"], [0, 1, 2])
        connection.sendall(json.dumps(asked).encode() + b"\n")
        child = int(answers.readline())
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(child, number))
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for stream in (0, 1, 2):
            os.close(stream)  # the fork has them: who reads them sees their end when it ends
        status = int(answers.readline() or -signal.SIGKILL)
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Start the nursery if it does not run yet; it lives while somebody holds it."""
    from edgespec.core.whole_files import locked

    place, nursery = Path(_place()), None
    with locked(place.with_suffix(".lock")):
        try:
            holding = _nursery()
        except OSError:
            place.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(place))
                listening.listen(64)
                command = [sys.executable, os.path.abspath(__file__), "serve", str(listening.fileno())]
                nursery = subprocess.Popen(command, pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL)
            holding = _nursery()
        holding.sendall(b"h")
    with holding:
        yield
    if nursery is not None:
        nursery.wait()


def _nursery() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_place())
    return connection


def _place() -> str:
    return os.path.join(os.environ[FOLDER], "nursery")


def serve(number: int) -> None:
    """The nursery: fork for whoever asks on this socket, until nobody holds it."""
    sys.path[0] = ""  # the folder of the tests is not for commands
    from transformers import LlamaForCausalLM, LogitsProcessorList  # noqa: F401

    import edgespec.cli.serve
    import edgespec.model.target
    import edgespec.server.server

    with contextlib.suppress(ImportError):
        import edgespec.api.app
        import edgespec.cli.api  # noqa: F401

    gc.freeze()  # a collection in a fork would copy the memory of all that is imported
    holders: list[socket.socket] = []
    with socket.socket(fileno=number) as listening:
        while True:
            ready, _, _ = select.select([listening, *holders], [], [])
            if listening in ready:
                connection, _ = listening.accept()
                kind, streams, _, _ = socket.recv_fds(connection, 1, 3)
                if kind == b"h":
                    holders.append(connection)
                    continue
                if os.fork() == 0:
                    return _watch(connection, streams)
                connection.close()
                for stream in streams:
                    os.close(stream)
            holders = [one for one in holders if one not in ready]
            if not holders:
                return
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _watch(connection: socket.socket, streams: list[int]) -> None:
    """Fork once more: the command, and who tells how it ended, and ends it when the one who asked is gone."""
    os.setsid()
    with connection, connection.makefile("rb") as questions:
        asked = json.loads(questions.readline())
        child = os.fork()
        if child == 0:
            for place, stream in enumerate(streams):
                os.dup2(stream, place)
            connection.close()
            return _command(**asked)
        for stream in (*streams, 0, 1, 2):
            os.close(stream)
        connection.sendall(b"%d\n" % child)
        ended = os.pidfd_open(child)
        if ended not in select.select([ended, connection], [], [])[0]:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _command(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["edgespec", *arguments]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    from edgespec.cli.main import main

    try:
        main()
    except SystemExit as end:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))  # what is imported need not be torn down


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(run(sys.argv[2:]))
    serve(int(sys.argv[2]))
    os._exit(0)
