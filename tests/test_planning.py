"""`edgespec plan` as a command: sweeps, named settings, the best of all in words."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgespec.cli.plan import plan
from edgespec.core.errors import EdgespecError

TRACE = Path(__file__).parent / "data" / "bundled.trace.npz"


def planned(*arguments: str) -> Result:
    done = CliRunner().invoke(plan, ["--tokens", "40", "--modes", "cloud,auto", *arguments])
    if isinstance(done.exception, EdgespecError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_two_sweeps_give_every_pair(tmp_path: Path) -> None:
    results = tmp_path / "map.json"
    sweeps = ("--sweep", "rtt-ms=0,80", "--sweep", "acceptance=0.2,0.9")
    done = planned(*sweeps, "--json", str(results))
    assert "best at rtt_ms 80, acceptance 0.9: auto, " in done.output
    predictions = json.loads(results.read_text())["predictions"]
    assert list(predictions) == ["0,0.2", "0,0.9", "80,0.2", "80,0.9"]
    auto = {pair: rows[1]["tokens_per_s"] for pair, rows in predictions.items()}
    assert max(auto, key=lambda pair: auto[pair]) == "0,0.9"


def test_a_named_setting_and_a_flag_that_overrides_it(tmp_path: Path) -> None:
    planned("--setting", "paper-jetson", "--rtt-ms", "10", "--json", str(tmp_path / "one.json"))
    situation = json.loads((tmp_path / "one.json").read_text())["situation"]
    assert (situation["forward_ms"], situation["draft_ms"], situation["rtt_ms"]) == (522, 75.25, 10)


def test_the_best_mode_is_named() -> None:
    assert "best: auto, " in planned("--acceptance", "0.9").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sweep", "rtt_ms=a"], "NAME=V,V"),
        (["--sweep", "weather=1", "--sweep", "rtt_ms=1"], "no 'weather' to sweep"),
        (["--trace", str(TRACE), "--sweep", "acceptance=0.5"], "a trace has its own acceptance"),
        (["--draft", "x"], "that --record FILE records"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: list[str], says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        planned(*arguments)
