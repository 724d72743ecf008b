"""One schema for what every benchmark measures, a JSON file: what ran, on what, when, and rows of figures.

{"format_version", "kind", "command", "date", "code", "hardware", "versions", "notes", "rows"}. A row is a flat object:
what was set, then what was measured, with units in the names. `code` is a hash of the sources that were measured. The
file is written again after every row, so that an interrupted benchmark keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measured_code import ROOT, code_hash
from edgespec.cli.demo.report import hardware, versions
from edgespec.core.errors import EdgespecError

FORMAT_VERSION = 2
FOLDER = ROOT / "docs" / "results"

Row = dict[str, Any]
Content = dict[str, Any]


class Results:
    """The rows of one run; `file` None: they are only printed. notes: what was emulated or paced, in a sentence."""

    def __init__(self, kind: str, notes: str, file: Path | None = None) -> None:
        command = f"python -m benchmarks.{kind} {shlex.join(sys.argv[1:])}".strip()
        date = datetime.now(timezone.utc).date().isoformat()
        self.content: Content = {
            "format_version": FORMAT_VERSION, "kind": kind, "command": command, "date": date, "code": code_hash(kind),
            "hardware": hardware(), "versions": versions(), "notes": notes, "rows": [],
        }  # fmt: skip
        self._file = file

    @property
    def rows(self) -> list[Row]:
        rows: list[Row] = self.content["rows"]
        return rows

    def add(self, row: Row) -> None:
        """Keep a row, print it and save all."""
        self.rows.append(row)
        print(
            "  ".join(f"{key} {short(value)}" for key, value in row.items() if value is not None), flush=True
        )
        if self._file is not None:
            save(self.content, self._file)


def options(
    kind: str, description: str | None, quick: Mapping[str, Any], **defaults: Any
) -> argparse.Namespace:
    """The command line of a benchmark: an option for each default, or pair of default and help; lists are separated by
    commas. Besides --json FILE, and --quick, which sets what `quick` says."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{kind}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write a results file, as in docs/results")
    made.add_argument("--quick", action="store_true", help="as little as shows that it runs")
    for name, given in defaults.items():
        default, text = given if isinstance(given, tuple) else (given, None)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            made.add_argument(flag, action="store_true", help=text)
        elif isinstance(default, list):
            made.add_argument(flag, type=partial(_list, type(default[0])), default=default, help=text)
        else:
            made.add_argument(
                flag, type=str if default is None else type(default), default=default, help=text
            )
    arguments = made.parse_args()
    for name, value in quick.items() if arguments.quick else ():
        setattr(arguments, name, value)
    return arguments


def _list(kind: Callable[[str], Any], text: str) -> list[Any]:
    return [kind(one) for one in text.split(",")]


def save(content: Content, file: Path) -> None:
    """Write a results file, a row a line; whole or not at all."""
    head = json.dumps({**content, "rows": None}, indent=2, ensure_ascii=False).removesuffix("null\n}")
    rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in content["rows"])
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(f"{head}[\n{rows}\n  ]\n}}\n", encoding="utf-8")
    unfinished.replace(file)


def load(file: Path) -> Content:
    """A results file. Raises EdgespecError if it is none, or of another version of the schema."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EdgespecError(f"{file} cannot be read as results ({error}): run the benchmark again.") from None
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise EdgespecError(f"{file} has another version of the results' schema: run the benchmark again.")
    return content


def short(value: object) -> str:
    """A value as tables and terminals show it."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
