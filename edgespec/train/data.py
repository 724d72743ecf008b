"""Rows to train on: text, JSONL and parquet, in files or folders, read one row at a time.

A table's row holds `text`, `prompt` (with or without `completion`), or `messages`, which go through the target's chat
template. Answers that `--self-generated` kept are rows too. A text file is one row, or several where it is long.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer

Record = tuple[str, Mapping[str, Any]]
"""A row as it is read: the name of its file and place, and its fields."""

COLUMNS = ("text", "prompt", "completion", "messages", "prompt_tokens", "answer_tokens")
HELD_OUT_SHARE = 20
"""One row in this many is held out."""

PIECE_CHARACTERS = 1 << 18
_LINE_BYTES = 1 << 24


@dataclass(frozen=True)
class Row:
    """Token ids of a prompt, which may be empty, and of what follows it, which is learnt. text: what people wrote
    of it."""

    prompt: list[int]
    answer: list[int]
    text: str = ""


def visible(name: str) -> bool:
    """Whether no part of a file's relative path is hidden."""
    return not any(part.startswith(".") for part in Path(name).parts)


def records(paths: Iterable[Path], wanted: Callable[[str], bool] = visible) -> Iterator[Record]:
    """Every row of these files, and of the files in these folders, in an order that depends on their names only.
    wanted: which relative paths to read. Raises EdgespecError where there is no such path, or a library is missing."""
    for path in paths:
        if not path.exists():
            raise EdgespecError(f"there is no data in {path}: give a file or a folder that exists.")
        found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        root = path.parent if path.is_file() else path
        names = {file.relative_to(root).as_posix(): file for file in found}
        for name in sorted(names, key=_hash):
            if wanted(name):
                yield from _file_records(name, names[name])


def row(record: Mapping[str, Any], tokenizer: Tokenizer) -> Row | None:
    """The row in the target's tokens; None where it has no field that can be used."""
    if isinstance(tokens := record.get("answer_tokens"), list):
        return Row([int(token) for token in record["prompt_tokens"]], [int(token) for token in tokens])
    end = list(tokenizer.end_tokens[:1])
    if isinstance(text := record.get("text"), str) and text.strip():
        return Row([], tokenizer.encode(text) + end, text)
    messages, completion = record.get("messages"), record.get("completion")
    if isinstance(prompt := record.get("prompt"), list):
        messages = [*prompt, *(completion or [])]
    if isinstance(messages, list) and messages:
        return _conversation(messages, tokenizer)
    if isinstance(prompt, str) and prompt:
        answer = completion if isinstance(completion, str) else ""
        tokens = tokenizer.encode(answer, add_special_tokens=False) + end if answer else []
        return Row(tokenizer.encode(prompt), tokens, prompt + answer)
    return None


def is_held_out(name: str) -> bool:
    """Whether the row of this name is kept from training."""
    return int(_hash(name)[:8], 16) % HELD_OUT_SHARE == 0


def _conversation(messages: list[Any], tokenizer: Tokenizer) -> Row | None:
    """The assistant's last message is the answer; a conversation that ends otherwise is a prompt."""
    if not all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in messages):
        return None
    answered = messages[-1].get("role") == "assistant"
    prompt = tokenizer.chat(messages[:-1] if answered else messages)
    whole = tokenizer.chat(messages, add_generation_prompt=False) if answered else prompt
    if not whole.startswith(prompt):
        whole = prompt + messages[-1]["content"]
    answer = tokenizer.encode(whole[len(prompt) :], add_special_tokens=False)
    said = "\n".join(one["content"] for one in messages)
    return Row(tokenizer.encode(prompt, add_special_tokens=False), answer, said)


def _file_records(name: str, file: Path) -> Iterator[Record]:
    if file.suffix in (".jsonl", ".ndjson"):
        yield from _lines(name, file)
    elif file.suffix == ".parquet":
        yield from _table(name, file)
    else:
        yield from _text(name, file)


def _lines(name: str, file: Path) -> Iterator[Record]:
    """A line that is no JSON object is a row without fields."""
    with file.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(_LINE_BYTES), b""), 1):
            try:
                fields = json.loads(line)
            except ValueError:
                fields = None
            yield f"{name}:{number}", fields if isinstance(fields, dict) else {}


def _table(name: str, file: Path) -> Iterator[Record]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise EdgespecError("reading parquet needs pyarrow: pip install 'edgespec[train]'.") from None
    try:
        table = parquet.ParquetFile(file)
        columns = [one for one in table.schema_arrow.names if one in COLUMNS]
        fields = (one for batch in table.iter_batches(256, columns=columns) for one in batch.to_pylist())
        for number, record in enumerate(fields, 1):
            yield f"{name}:{number}", record
    except pyarrow.ArrowInvalid as error:
        raise EdgespecError(f"{file} is no parquet file that can be read ({error}): copy it again.") from None


def _text(name: str, file: Path) -> Iterator[Record]:
    """Pieces of a text file; nothing of a file that is not UTF-8."""
    try:
        with file.open(encoding="utf-8", newline="") as text:
            number = 0
            while piece := text.read(PIECE_CHARACTERS):
                if "\0" in piece:
                    return
                yield name if not number else f"{name}#{number}", {"text": piece}
                number += 1
    except UnicodeDecodeError:
        return


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", errors="surrogateescape")).hexdigest()
