"""The measures of the house: how much there is to read, now and at most. `--check`: exit status 1 above a limit.

Lines are those of `wc -l`, of .py, .cpp and .hpp files. Parameters that are keyword-only options of the public sessions
are counted apart. A token's path is what `Session.prompt` and the steps after it enter in one short generation with
the bundled pair in mode `auto`, on the edge.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.results import ROOT

PRODUCT = ("edgespec", "kernels", "tensorrt_engines", "csrc")
PUBLIC = ("Session", "AsyncSession", "DeviceSession")


@dataclass(frozen=True)
class Measure:
    """One line of the table. where: what has the most."""

    name: str
    now: int
    limit: int | None
    where: str = ""

    @property
    def broken(self) -> bool:
        return self.limit is not None and self.now > self.limit


def main() -> int:
    rows = [*lines_measures(), *python_measures(), path_measure()]
    for row in rows:
        limit = "–" if row.limit is None else f"{row.limit}"
        print(f"{'>' if row.broken else ' '} {row.name:44} {row.now:6} {limit:>6}  {row.where}")
    return 1 if "--check" in sys.argv and any(row.broken for row in rows) else 0


def files(*folders: str, ends: tuple[str, ...] = (".py", ".cpp", ".hpp")) -> list[Path]:
    """Files of these folders of the repository; links, which name a folder twice, are not followed."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in ends]
    linked = {path for folder in folders for path in (ROOT / folder).iterdir() if path.is_symlink()}
    return sorted(path for path in found if not linked & {*path.parents})


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def lines_measures() -> Iterator[Measure]:
    for name, folders, limit in (
        ("lines of the product", PRODUCT, 25000),
        ("lines of benchmarks", ("benchmarks",), 3000),
        ("lines of tests", ("tests",), 15000),
    ):
        yield Measure(name, sum(map(lines_of, files(*folders))), limit)
    longest = max(files(*PRODUCT, "benchmarks", "tests"), key=lines_of)
    yield Measure("longest file", lines_of(longest), 300, str(longest.relative_to(ROOT)))


def python_measures() -> Iterator[Measure]:
    """Of functions and classes of the product, by their syntax trees."""
    constructors, options, classes, functions = [(0, "")], [(0, "")], [(0, "")], [(0, "")]
    for path in files(*PRODUCT, ends=(".py",)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{getattr(node, 'name', '')} ({path.relative_to(ROOT)})"
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                functions.append(((node.end_lineno or 0) - node.lineno + 1, where))
            elif isinstance(node, ast.ClassDef):
                methods = [
                    one for one in node.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))
                ]
                classes.append((len(methods), where))
                for init in (one.args for one in methods if one.name == "__init__"):
                    given = len(init.posonlyargs) + len(init.args) - 1
                    public = node.name in PUBLIC
                    constructors.append((given if public else given + len(init.kwonlyargs), where))
                    options.append((len(init.kwonlyargs) if public else 0, where))
    yield Measure("most parameters of a constructor", max(constructors)[0], 8, max(constructors)[1])
    yield Measure("keyword options of a public session", max(options)[0], None, max(options)[1])
    yield Measure("most methods of a class", max(classes)[0], 15, max(classes)[1])
    yield Measure("longest function", max(functions)[0], 50, max(functions)[1])


def path_measure() -> Measure:
    from edgespec.cli.child import child
    from edgespec.core.params import SamplingParams
    from edgespec.edge.session import Session
    from edgespec.engines.bundled import bundled_engine

    entered: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            entered.add(frame.f_code.co_filename)

    params = SamplingParams(max_new_tokens=24, ignore_eos=True)
    with (
        child(["serve", "--port", "0", "--threads", "1"], "starting the server ...") as address,
        Session(address, bundled_engine(), params) as session,
    ):
        sys.setprofile(note)
        session.prompt([5, 80, 17, 300, 44, 80, 17, 300, 9])
        while not session.finished:
            session.step()
        sys.setprofile(None)
    ours = sorted(name.rpartition("edgespec/")[2] for name in entered if "/edgespec/" in name)
    if "--files" in sys.argv:
        print(*ours, sep="\n")
    return Measure("files that a token meets, prompt() to step()", len(ours), 20, "--files lists them")


if __name__ == "__main__":
    sys.exit(main())
