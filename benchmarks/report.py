"""Results files -> tables and pictures between the markers of the documents: `python -m benchmarks.report`.

`<!-- results -->` ... `<!-- /results -->` holds everything in docs/results; a marker with the name of one kind, such as
`<!-- latency -->`, that kind's tables alone; `<!-- gains -->` is README's table. A file that cannot be read is
left out, with a sentence in its place.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.measured_code import code_hash
from benchmarks.results import FOLDER, ROOT, Content, Row, load
from edgespec.core.errors import EdgespecError

TITLES = {
    "peers": "Beside other ways to run the same pair",
    "latency": "Modes and links",
    "plan_validation": "What `edgespec plan` predicts, beside the real stack",
    "overhead": "What edgespec itself costs",
    "wire": "The wire",
    "link": "A link that loses packets",
    "attack": "An attack",
    "load": "Many devices on one server",
    "clients": "Clients of a server, beside co-located speculation",
    "fleet": "Servers under Ray",
    "kernels": "Kernels",
    "hints": "What hints cost",
    "memory": "A device's memory",
    "criterion": "How far `auto` is from the best fixed settings",
    "neighbours": "`auto` beside neighbours on one server",
    "hint_worth": "What hints gain `auto`",
    "edge": "An edge on a small device",
    "robot": "A simulated robot",
    "decoders": "edgespec's own CPU decoder beside llama.cpp",
    "acceptance": "A draft with another tokenizer",
    "agreement_smollm2": "SmolLM2: how often the draft and the exits are right",
    "hint_worth_smollm2": "SmolLM2: what hints gain `auto`",
    "latency_smollm2": "SmolLM2: modes and links",
    "peers_smollm2": "SmolLM2: beside other ways to run the same pair",
}
"""The files of results in the order of the page; a file's name is also that of its marker, and of its kind where that
kind has one file."""

FULL = {
    "peers": tables.peers_sections,
    "latency": tables.latency_sections,
    "kernels": tables.kernels_sections,
    "robot": tables.robot_sections,
}
SUMMARIES = {"peers": tables.peers_summary, "latency": tables.latency_summary, "gains": tables.gains}
"""What stands between the markers of one kind; without one, the same as among everything."""

OLDER = "*Older than the code that it measures.*"

PICTURES = {
    "peers": ("peer", "tokens_per_s", "tokens a second"),
    "latency": ("mode", "speed_vs_cloud", "times as fast as streamed cloud decoding"),
}
"""A kind's picture: whose lines it has, and of what."""


def plot(content: Content, file: Path, line: str, figure: str, label: str) -> bool:
    """A picture: `figure` over the round trip, a panel for each setting and temperature, a line for each value of
    `line`. Rows whose speed does not count are left out, and panels of one round trip. False if nothing is left."""
    from matplotlib import pyplot

    panels: dict[str, list[Row]] = {}
    for row in filter(tables.counts, content["rows"]):
        title = f"{row.get('setting', 'full speed')}, T = {row['temperature']:g}"
        panels.setdefault(title, []).append(row)
    drawn = {title: rows for title, rows in panels.items() if len({row["rtt_ms"] for row in rows}) > 1}
    if not drawn:
        return False
    picture, axes = pyplot.subplots(1, len(drawn), figsize=(6.5 * len(drawn), 5), squeeze=False)
    names = list(dict.fromkeys(row[line] for rows in drawn.values() for row in rows))
    lines = {}
    for (title, rows), axis in zip(drawn.items(), axes[0], strict=True):
        for name in dict.fromkeys(row[line] for row in rows):
            points = [(row["rtt_ms"], row[figure]) for row in rows if row[line] == name]
            style = "--" if name.startswith(("transformers", "vllm", "llama")) else "-"
            width = 2.8 if name.endswith("auto") else 1.3
            colour = f"C{names.index(name)}"
            (lines[name],) = axis.plot(
                *zip(*points, strict=True), style, color=colour, marker="o", linewidth=width, label=name
            )
        axis.set(title=title, xlabel="round trip, ms", ylabel=label)
        axis.set_ylim(bottom=0)
    axes[0][-1].legend(
        handles=[lines[name] for name in names],
        fontsize=8,
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    picture.suptitle(
        f"{content['hardware']['cores']} cores of {content['hardware']['processor']}", fontsize=10
    )
    picture.tight_layout()
    picture.savefig(file, dpi=110)
    pyplot.close(picture)
    return True


def write_page(page: Path, folder: Path, draw: bool = True) -> list[str]:
    """Fill the page's markers from the results in `folder`; returns what was wrong with files that are left out."""
    problems: list[str] = []

    def section(name: str, in_full: bool) -> list[str]:
        file = folder / f"{'latency' if name == 'gains' else name}.json"
        try:
            return _section(name, file, page, in_full, draw)
        except EdgespecError as error:
            problems.append(str(error))
            return [f"Left out: {str(error).replace(str(file), _link(file, page))}"]

    def filled(marker: re.Match[str]) -> str:
        name = marker[1]
        if name == "results":
            there = [kind for kind in TITLES if (folder / f"{kind}.json").exists()]
            parts = [part for kind in there for part in (f"## {TITLES[kind]}", *section(kind, True))]
        elif name in TITLES or name in SUMMARIES:
            parts = section(name, False)
        else:
            return marker[0]
        return "\n\n".join([f"<!-- {name} -->\n" + (parts or [""])[0], *parts[1:]]) + f"\n<!-- /{name} -->"

    text = page.read_text(encoding="utf-8")
    written = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", filled, text, flags=re.DOTALL)
    if written != text:
        page.write_text(written, encoding="utf-8")
    return problems


def _section(name: str, file: Path, page: Path, in_full: bool, draw: bool) -> list[str]:
    content, in_short = load(file), not in_full and name in SUMMARIES
    try:
        parts = (SUMMARIES[name] if in_short else FULL.get(content["kind"], tables.plain_sections))(content)
        picture = file.with_suffix(".png")
        if name in PICTURES and draw and plot(content, picture, *PICTURES[name]):
            parts.insert(0, f"![{TITLES[name]}]({_link(picture, page)})")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise EdgespecError(f"{file} is damaged ({problem}): run the benchmark again.") from None
    return [*parts, f"{measured_on(content, in_full)} From [{file.name}]({_link(file, page)})."]


def measured_on(content: Content, in_full: bool = True) -> str:
    """Command, date and hardware; in full also versions, and what was emulated."""
    hardware, (first, *others) = content["hardware"], content["command"].split("; ")
    command = f"`{content['command']}`" if in_full or not others else f"`{first}` and further runs"
    text = f"{command}, {content['date']}, {hardware['cores']} cores of {hardware['processor']}"
    versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    text = f"{text}; {versions}. {content['notes']}" if in_full else f"{text}."
    return text if content.get("code") == code_hash(content["kind"]) else f"{text} {OLDER}"


def _link(file: Path, page: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()


def main(arguments: Sequence[str] | None = None) -> int:
    made: Any = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--results", type=Path, default=FOLDER, help="the folder that they are read from")
    made.add_argument(
        "pages", nargs="*", type=Path, help="all Markdown files of docs/ and README.md unless named"
    )
    given = made.parse_args(arguments)
    pages = given.pages or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    problems = dict.fromkeys(problem for page in pages for problem in write_page(page, given.results))
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
