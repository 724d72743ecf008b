"""A server of this machine, over TLS with a token, and an edge that another command runs: the same tokens in each mode,
by `edgespec generate` and by the API of `edgespec api`.

Usage: aarch64_texts.py COMMAND..., the command that runs the edge's Python. Times are of an emulator: not compared.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from edgespec.cli.child import COMMAND, child, end

PROMPT = "def read_settings(path):\n    "
TOKENS = 24
RUNS = {"0": ("sync",), "0.8": ("cloud", "sync", "auto")}
"""Modes by temperature. Each run starts an emulated Python: seconds."""

LEAST_ACCEPTED = 5
"""Draft tokens of a text in mode `sync`, for which the edge's draft must have run soundly."""


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
            for temperature, modes in RUNS.items():
                expected = generated([*COMMAND], connection, temperature, "cloud")
                assert len(expected["tokens"]) == TOKENS
                for mode in modes:
                    compare(generated([*edge, *COMMAND[1:]], connection, temperature, mode), expected, mode)
                if temperature == "0":
                    compare_api([*edge, *COMMAND[1:]], connection, expected["text"])


def generated(command: list[str], connection: list[str], temperature: str, mode: str) -> dict:
    arguments = ["generate", *connection, "--prompt", PROMPT, "--max-new-tokens", str(TOKENS), "--json"]
    arguments += ["--seed", "7", "--ignore-eos", "--temperature", temperature, "--mode", mode]
    return json.loads(printed([*command, *arguments]))


def compare(found: dict, expected: dict, mode: str) -> None:
    assert found["tokens"] == expected["tokens"], (mode, found["tokens"], expected["tokens"])
    accepted = found["statistics"]["accepted"]
    assert mode != "sync" or accepted >= LEAST_ACCEPTED, found["statistics"]
    print(f"{mode}: the same {TOKENS} tokens, {accepted} of them drafted")


def compare_api(command: list[str], connection: list[str], expected: str) -> None:
    serving = subprocess.Popen(
        [*command, "api", *connection, "--port", "0", "--end-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(line.split()[-1] for line in serving.stdout if "listening on " in line)
        asked = {
            "prompt": PROMPT,
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "model": "edgespec",
        }
        request = urllib.request.Request(
            f"http://{address}/v1/completions",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            found = json.load(answer)
    finally:
        end(serving)
    assert found["choices"][0]["text"] == expected, (found, expected)
    print(f"the API: the same text, {found['usage']['completion_tokens']} tokens")


def run(*arguments: str) -> str:
    return printed([*COMMAND, *arguments])


def printed(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
