"""A server of this machine, over TLS with a token, and an edge that another command runs: the same tokens in each mode.

Usage: aarch64_texts.py COMMAND..., the command that runs the edge's Python. Times are of an emulator: not compared.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from edgespec.cli.child import COMMAND, child

PROMPT = "def read_settings(path):\n    "
TOKENS = 24
LEAST_ACCEPTED = 5
"""Draft tokens of the text in mode `sync`, for which the edge's draft must have run soundly."""


def main(edge: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run("tls", "init", str(folder / "tls"), "--host", "localhost")
        token = run("token", "new", "robot", "--tokens", str(folder / "tokens"))
        (folder / "token").write_text(token.strip().splitlines()[-1])
        serve = ["serve", "--port", "0", "--threads", "1", "--tokens", str(folder / "tokens")]
        serve += ["--tls-cert", str(folder / "tls/server.pem"), "--tls-key", str(folder / "tls/server.key")]
        with child(serve, "starting") as (_, port):
            connection = ["--server", f"localhost:{port}", "--tls-ca", str(folder / "tls/ca.pem")]
            connection += ["--token-file", str(folder / "token")]
            for temperature in ("0", "0.8"):
                compare(edge, connection, temperature)


def compare(edge: list[str], connection: list[str], temperature: str) -> None:
    arguments = ["generate", *connection, "--prompt", PROMPT, "--max-new-tokens", str(TOKENS), "--json"]
    arguments += ["--seed", "7", "--ignore-eos", "--temperature", temperature, "--mode"]
    expected = json.loads(run(*arguments, "cloud"))["tokens"]
    assert len(expected) == TOKENS
    for mode in ("cloud", "sync", "auto"):
        found = json.loads(printed([*edge, *COMMAND[1:], *arguments, mode]))
        assert found["tokens"] == expected, (mode, temperature, found["tokens"], expected)
        accepted = found["statistics"]["accepted"]
        assert mode != "sync" or accepted >= LEAST_ACCEPTED, found["statistics"]
        print(f"T = {temperature}, {mode}: the same {TOKENS} tokens, {accepted} of them drafted")


def run(*arguments: str) -> str:
    return printed([*COMMAND, *arguments])


def printed(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
