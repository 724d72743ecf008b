"""The demo: figures, pictures and the check that all texts are the same, in a very small run."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgespec.cli.demo.command import demo
from edgespec.cli.demo.figures import Pacing, Run, identical, mode_figures
from edgespec.edge.step import Statistics
from edgespec.edge.trace import Event

pytestmark = pytest.mark.needs_torch


def run(
    mode: str, prompt: int, tokens: tuple[int, ...], seconds: float, steps: int = 100, overruns: int = 0
) -> Run:
    statistics = Statistics(
        seconds=seconds, ttft_ms=1.0, committed=len(tokens), target_forwards=1, rounds=1, sent=4
    )
    return Run(mode, prompt, tokens, statistics, steps, overruns, [])


def test_texts_are_compared_prompt_by_prompt_without_the_drafts_own() -> None:
    runs = [run("cloud", 0, (1, 2), 1), run("sync", 0, (1, 2), 1), run("cloud", 1, (3,), 1)]
    assert identical([*runs, run("device", 0, (9,), 1)])
    assert not identical([*runs, run("sync", 1, (4,), 1)])


def test_speed_is_told_against_cloud() -> None:
    cloud = [run("cloud", 0, (1, 2), 2.0)]
    figures = mode_figures([run("sync", 0, (1, 2), 0.5)], cloud)
    assert figures["speed_vs_cloud"] == 4.0 and figures["tokens_per_s"] == 4.0


def test_a_mode_whose_steps_overran_their_pace_is_void() -> None:
    assert not mode_figures([run("sync", 0, (1,), 1, overruns=2)], [])["void"]
    assert mode_figures([run("sync", 0, (1,), 1, overruns=3)], [])["void"]


def test_a_forward_overran_when_it_took_longer_than_its_rows_allow() -> None:
    def forward(milliseconds: float, rows: int) -> Event:
        return Event("cloud", "forward", 0.0, milliseconds / 1e3, {"rows": rows, "tokens": 1})

    trace = [forward(900, 0), forward(100, 3), forward(120, 3), forward(120, 40)]
    assert Pacing(None, 100.0, rows=32).overruns(Statistics(), trace) == (3, 1)


@pytest.mark.usefixtures("quick_start")
@pytest.mark.timeout(300)  # it starts two processes and draws, which takes long on a busy machine
def test_a_small_demo_leaves_its_table_its_figures_and_its_pictures(tmp_path: Path) -> None:
    flags = "--prompts 1 --max-new-tokens 8 --draft-pace-ms 2 --verify-pace-ms 30 --rtt-ms 2 --dtype float64"
    done = CliRunner().invoke(demo, [*flags.split(), "--out", str(tmp_path)], standalone_mode=False)
    assert done.exception is None and done.return_value == 0, done.output
    assert "identical: yes" in done.output and "× cloud" in done.output
    report = json.loads((tmp_path / "demo.json").read_text())
    assert set(report["modes"]) == {"cloud", "sync", "preempt", "auto"} and report["identical"] is True
    assert report["modes"]["cloud"]["speed_vs_cloud"] == 1.0
    assert report["link"]["emulated"] and report["pacing"]["paced"] and report["hardware"]["cores"]
    for picture in ("timeline.png", "speed.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
