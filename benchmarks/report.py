"""Results files -> tables and pictures, put between the markers of a page: `python -m benchmarks.report`.

    <!-- results -->          everything that has been measured
    <!-- latency -->          modes against `cloud`, at one temperature
    <!-- peers -->            the picture and the greedy table of the peers alone
    <!-- kernels -->          the kernels' tables alone

A file of another version, or one that cannot be read, is left out with a sentence in its place.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.kernels_tables import kernels_sections
from benchmarks.latency_tables import latency_sections, latency_summary
from benchmarks.plots import latency_plot, peers_plot
from benchmarks.results import FOLDER, load
from benchmarks.tables import (
    measured_on,
    other_sections,
    peers_sections,
    peers_table,
    targets_rows,
)
from edgespec.core.errors import EdgespecError

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "kernels.md", ROOT / "README.md")

TITLES = {
    "peers": "Beside other ways to run the same pair",
    "latency": "Modes and links",
    "plan_validation": "What `edgespec plan` foretells, beside the real stack",
    "overhead": "What edgespec itself costs",
    "capacity": "Sessions a server sustains",
    "idle": "Idle sessions",
    "wire": "The wire",
    "link": "A link that loses packets",
    "attack": "An attack",
    "kernels": "Kernels",
    "engines": "Draft engines",
    "soak": "Soak",
}
"""What may have been measured, in the order of the page; the kind is the file's name and its `kind`."""

Sections = Callable[[dict[str, Any]], list[str]]
TABLES: dict[str, Sections] = {
    "peers": peers_sections,
    "latency": latency_sections,
    "kernels": kernels_sections,
}
PLOTS: dict[str, Callable[[dict[str, Any], Path], None]] = {"peers": peers_plot, "latency": latency_plot}


def main() -> int:
    arguments = _arguments()
    refused = 0
    for page in arguments.pages:
        if not page.exists():
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text("# Benchmarks\n\n<!-- results -->\n<!-- /results -->\n", encoding="utf-8")
        refused = write_page(page, arguments.results)
    return 1 if refused else 0


def write_page(page: Path, folder: Path) -> int:
    """Fill the page's markers from the results in `folder`; returns how many files had to be left out."""
    text = page.read_text(encoding="utf-8")
    refusals: list[str] = []
    if _has(text, "results"):
        text = _filled(text, "results", _everything(folder, page, refusals))
    for name, alone in (("peers", _peers_alone), ("latency", _latency_alone), ("kernels", _kernels_alone)):
        if _has(text, name):
            text = _filled(text, name, alone(folder, page, refusals))
    for refusal in refusals:
        print(refusal, file=sys.stderr)
    page.write_text(text, encoding="utf-8")
    return len(refusals)


def _everything(folder: Path, page: Path, refusals: list[str]) -> str:
    parts: list[str] = []
    for kind, title in TITLES.items():
        file = folder / f"{kind}.json"
        if not file.exists():
            continue
        try:
            parts += [f"## {title}", *_sections(kind, file, page)]
        except EdgespecError as error:
            refusals.append(str(error))
            parts += [f"## {title}", f"Left out: {_relative(error, file, page)}"]
    return "\n\n".join(parts or ["Nothing has been measured yet: `python -m benchmarks`."])


def _sections(kind: str, file: Path, page: Path) -> list[str]:
    content = load(file, kind)
    try:
        sections = TABLES.get(kind, other_sections)(content)
        picture = _picture(kind, content, file, page)
        return [*picture, *sections, f"{measured_on(content)} From [{file.name}]({_link(file, page)})."]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise EdgespecError(f"{file} is damaged ({problem}): run the benchmark again.") from None


def _picture(kind: str, content: dict[str, Any], file: Path, page: Path) -> list[str]:
    if kind not in PLOTS:
        return []
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        print("no pictures without matplotlib: pip install 'edgespec[demo]'.", file=sys.stderr)
        return []
    picture = file.with_suffix(".png")
    PLOTS[kind](content, picture)
    return [f"![{TITLES[kind]}]({_link(picture, page)})"] if picture.exists() else []


def _peers_alone(folder: Path, page: Path, refusals: list[str]) -> str:
    file = folder / "peers.json"
    try:
        content = load(file, "peers")
        greedy = [cell for cell in content["cells"] if cell["temperature"] == 0]
        picture = _picture("peers", content, file, page)
        met = ", ".join(f"{row[0]}: {row[3]}" for row in targets_rows(greedy))
        return "\n\n".join([*picture, peers_table(greedy), f"T = 0. {met}.", measured_on(content)])
    except EdgespecError as error:
        refusals.append(str(error))
        return f"Left out: {_relative(error, file, page)}"


def _latency_alone(folder: Path, page: Path, refusals: list[str]) -> str:
    file = folder / "latency.json"
    try:
        content = load(file, "latency")
        return "\n\n".join([*_picture("latency", content, file, page), latency_summary(content)])
    except EdgespecError as error:
        refusals.append(str(error))
        return f"Left out: {_relative(error, file, page)}"


def _kernels_alone(folder: Path, page: Path, refusals: list[str]) -> str:
    file = folder / "kernels.json"
    try:
        return "\n\n".join(_sections("kernels", file, page))
    except EdgespecError as error:
        refusals.append(str(error))
        return f"Left out: {_relative(error, file, page)}"


def _relative(error: EdgespecError, file: Path, page: Path) -> str:
    """A page names files as seen from itself."""
    return str(error).replace(str(file), _link(file, page))


def _link(file: Path, page: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()


def _has(text: str, name: str) -> bool:
    return f"<!-- {name} -->" in text and f"<!-- /{name} -->" in text


def _filled(text: str, name: str, content: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("pages", nargs="*", type=Path, default=list(PAGES))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
