"""What the documents name exists: files, commands, flags, benchmarks, make targets and the links between pages."""

import importlib
import re
from pathlib import Path

import click
import pytest

from edgespec.cli.main import COMMANDS, edgespec

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
ROOTS = (
    "edgespec/",
    "kernels/",
    "tensorrt_engines/",
    "csrc/",
    "tests/",
    "benchmarks/",
    "docs/",
    "examples/",
    "packaging/",
)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code(page: Path) -> str:
    """What stands in backticks and code blocks, the tables made of results left out: they name what was run once."""
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", page.read_text(encoding="utf-8"), flags=re.S)
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))


def subcommands(command: click.Command, name: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    if not isinstance(command, click.Group):
        return {name: command}
    context = click.Context(command)
    found: dict[tuple[str, ...], click.Command] = {name: command}
    for child in command.list_commands(context):
        inner = command.get_command(context, child)
        assert inner is not None
        found |= subcommands(inner, (*name, child))
    return found


@pytest.fixture(scope="module")
def flags() -> set[str]:
    every = subcommands(edgespec).values()
    return {
        flag
        for command in every
        for option in command.params
        for flag in (*option.opts, *option.secondary_opts)
    }


@pages
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(ROOTS)})[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pages
def test_every_link_within_the_documents_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pages
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?:^|[`\s/])edgespec ([a-z][a-z-]*)", code(page), re.M))
    assert named - set(COMMANDS) == set()


@pages
def test_every_flag_of_a_command_that_a_page_names_exists(page: Path, flags: set[str]) -> None:
    ours = [
        line
        for line in code(page).splitlines()
        if re.search(r"\bedgespec [a-z]|\bserve --|\bgenerate --", line)
    ]
    named = {flag for line in ours for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line)}
    of_others = {
        "--no-build-isolation",
        "--nproc-per-node",
        "--no-python",
        "--system-site-packages",
        "--ros-args",
    }
    assert named - flags - of_others == set()


@pages
def test_every_benchmark_and_make_target_that_a_page_names_exists(page: Path) -> None:
    modules = set(re.findall(r"python -m (benchmarks(?:\.\w+)?|edgespec\.\w+\.\w+)", code(page)))
    assert [module for module in modules if not _is_there(module)] == []
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = {
        word
        for line in re.findall(r"\bmake ([a-z0-9-]+(?: [a-z0-9-]+)*)", code(page))
        for word in line.split()
    }
    assert named - set(targets) == set()


def _is_there(module: str) -> bool:
    if not module.startswith("benchmarks"):  # the package is installed, the benchmarks are not
        return importlib.util.find_spec(module) is not None
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def test_the_glossary_is_in_order_and_says_each_term_once() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M)[
        1:
    ]
    terms = [row.lower().replace(",", "") for row in rows]
    assert terms == sorted(set(terms))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
