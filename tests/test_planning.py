"""`edgespec plan` as a command: sweeps of one number and of two, named settings, the best of all in words."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgespec.cli.plan import plan
from edgespec.core.errors import EdgespecError


def planned(*arguments: str) -> Result:
    done = CliRunner().invoke(plan, ["--tokens", "40", "--modes", "cloud,auto", *arguments])
    if isinstance(done.exception, EdgespecError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_two_sweeps_give_every_pair_and_a_heat_map(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture, results = tmp_path / "map.png", tmp_path / "map.json"
    sweeps = ("--sweep", "rtt_ms=0,80", "--sweep", "acceptance=0.2,0.9")
    planned(*sweeps, "--picture", str(picture), "--json", str(results))
    assert picture.read_bytes().startswith(b"\x89PNG")
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


def test_a_sweep_of_one_number_is_a_picture_of_lines(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "lines.png"
    done = planned("--acceptance", "0.9", "--sweep", "rtt_ms=0", "--picture", str(picture))
    assert "best at rtt_ms 0: auto, " in done.output
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--picture", "x.png"], "give --sweep as well"),
        (["--sweep", "rtt_ms=a"], "NAME=V,V"),
        (["--sweep", "weather=1", "--sweep", "rtt_ms=1"], "no 'weather' to sweep"),
        (["--sweep", "rtt_ms=1", "--sweep", "draft_ms=1", "--sweep", "acceptance=1"], "twice at most"),
        (["--draft", "x"], "that --record FILE records"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: list[str], says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        planned(*arguments)
