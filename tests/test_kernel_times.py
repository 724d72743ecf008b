"""`edgespec bench kernels`: its rows, and options that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgespec.cli.bench import bench
from edgespec.core.errors import EdgespecError

FIELDS = [
    "kernel",
    "form",
    "dtype",
    "rows",
    "dim",
    "vocab",
    "threads",
    "ms",
    "eager_ms",
    "compiled_ms",
    "floor_ms",
]


def test_a_row_for_each_case_with_all_its_figures(tmp_path: Path) -> None:
    file = tmp_path / "kernels.json"
    options = ["--shapes", "300x32", "--rows", "1,3", "--repeats", "1", "--no-compiled", "--json", str(file)]
    done = CliRunner().invoke(bench, ["kernels", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = json.loads(file.read_text())["rows"]
    assert [(row["kernel"], row["dtype"], row["rows"]) for row in rows] == [
        (kernel, dtype, count)
        for dtype in ("float32", "bfloat16")
        for kernels in (["exit_head"], ["verify", "verify_greedy", "verify_open"])
        for count in (1, 3)
        for kernel in kernels
    ]
    for row in rows:
        assert list(row) == FIELDS
        assert min(row["ms"], row["eager_ms"], row["floor_ms"]) > 0 and row["compiled_ms"] is None
        assert (row["form"], row["vocab"], row["threads"]) == ("cpu", 300, 1)


@pytest.mark.parametrize(
    ("option", "value"), [("--shapes", "300"), ("--rows", "a"), ("--rows", "65"), ("--dtypes", "int8")]
)
def test_options_that_cannot_be_read_are_named(option: str, value: str) -> None:
    with pytest.raises(EdgespecError, match=option):
        CliRunner().invoke(bench, ["kernels", option, value], catch_exceptions=False)
