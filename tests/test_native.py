"""The stub of edgespec._native says what the module has: every name, every argument."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgespec
from edgespec import _native

STUB = ast.parse((Path(edgespec.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))
TYPES_ONLY = {"Message"}  # a name for type checkers; at run time there is none


def defined(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name, statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement


def arguments_of(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]]


def arguments_at_run_time(function: Any) -> list[str]:
    """From the signature that pybind11 writes into the documentation."""
    signature = re.match(r"\w+\((.*)\) -> ", function.__doc__)
    assert signature is not None, function.__doc__
    return re.findall(r"(?:^|, )(\w+): ", signature[1])


FUNCTIONS = [
    (name, statement) for name, statement in defined(STUB.body) if isinstance(statement, ast.FunctionDef)
]
CLASSES = [(name, statement) for name, statement in defined(STUB.body) if isinstance(statement, ast.ClassDef)]


def test_stub_and_module_have_the_same_names() -> None:
    stubbed = {name for name, _ in defined(STUB.body) if not name.startswith("_")} - TYPES_ONLY
    assert stubbed == {name for name in dir(_native) if not name.startswith("_")}


ENCODERS = {
    "hello": _native.Hello, "welcome": _native.Welcome, "open": _native.Open, "append": _native.Append,
    "tune": _native.Tune, "block": _native.Block, "hint": _native.Hint, "verdict": _native.Verdict,
    "resume": _native.Resume, "close": _native.Close, "error": _native.Error, "goaway": _native.Goaway,
    "fetch": _native.Fetch, "file": _native.File,
}  # fmt: skip


@pytest.mark.parametrize(("name", "function"), FUNCTIONS)
def test_functions_have_the_stubs_arguments(name: str, function: ast.FunctionDef) -> None:
    if name.startswith("encode_"):  # it takes the fields of its message, whichever they are
        fields = {one for one in dir(ENCODERS[name.removeprefix("encode_")]) if not one.startswith("_")}
        assert set(arguments_of(function)) | {"channel"} == fields - {"version_min", "version_max"}
    else:
        assert arguments_at_run_time(getattr(_native, name)) == arguments_of(function)


@pytest.mark.parametrize(("name", "stubbed"), CLASSES)
def test_classes_have_the_stubs_members(name: str, stubbed: ast.ClassDef) -> None:
    members = dict(defined(stubbed.body))
    inherited = {member for base in getattr(_native, name).__mro__[1:] for member in dir(base)}
    public = {member for member in dir(getattr(_native, name)) if not member.startswith("_")}
    assert {member for member in members if not member.startswith("_")} == public - inherited
    for member, statement in members.items():
        if isinstance(statement, ast.FunctionDef) and not statement.decorator_list:
            method = getattr(getattr(_native, name), member)
            if member == "__init__" or not member.startswith("_"):
                assert [*arguments_at_run_time(method)] == arguments_of(statement), member
