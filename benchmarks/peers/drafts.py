"""A draft run by llama.cpp, in a process under llama.cpp's own Python (draft_chain.py): for draft_engines.py."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.peers import environments

HERE = Path(__file__).parent

Ask = Callable[[list[int], int], tuple[list[int], float]]
"""A text and a number of tokens -> so many tokens behind it, and the seconds that they took."""


@contextlib.contextmanager
def llama_cpp_draft(model: Path, file: Path, kind: str) -> Iterator[Ask]:
    """Convert the model's folder into `file` (kind: gguf_pair.py's TYPE) and keep it open; one thread."""
    python = environments.python("llama-cpp")
    subprocess.run([python, HERE / "gguf_pair.py", model, file, kind], check=True)
    with subprocess.Popen(
        [python, HERE / "draft_chain.py", file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        asks, answers = process.stdin, process.stdout

        def ask(text: list[int], count: int) -> tuple[list[int], float]:
            print(json.dumps({"text": text, "count": count}), file=asks, flush=True)
            answer = json.loads(answers.readline())
            return answer["tokens"], answer["seconds"]

        yield ask
