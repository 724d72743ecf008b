"""`edgespec reproduce paper`, very small."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgespec.cli.reproduce import paper
from edgespec.core.errors import EdgespecError


@pytest.mark.needs_torch
@pytest.mark.usefixtures("quick_start")
@pytest.mark.timeout(300)
def test_every_scheme_and_block_length_has_a_row_and_the_same_text(tmp_path: Path) -> None:
    flags = "--blocks 2,3 --prompts 1 --max-new-tokens 6 --divide 50"
    done = CliRunner().invoke(paper, [*flags.split(), "--json", str(tmp_path / "paper.json")])
    assert done.exit_code == 0 and "identical: yes" in done.output, done.output
    rows = json.loads((tmp_path / "paper.json").read_text())["rows"]
    named = [(row["scheme"], row["block"]) for row in rows]
    assert named == [
        ("cloud", None),
        ("sync", 2),
        ("sync", 3),
        ("preempt", 2),
        ("preempt", 3),
        ("auto", None),
    ]
    assert rows[0]["speed_vs_cloud"] == 1.0


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--blocks", "two"], "--blocks takes lengths"), (["--target", "org/name"], "--target needs its draft")],
)
def test_a_mistake_is_one_sentence(flags: list[str], said: str) -> None:
    error = CliRunner().invoke(paper, flags).exception
    assert isinstance(error, EdgespecError) and said in str(error)
