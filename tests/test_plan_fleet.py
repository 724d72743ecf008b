"""`edgespec plan --fleet`: many sessions on one simulated server, and what follows for servers and prices."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgespec.cli.plan import plan
from edgespec.core.errors import EdgespecError
from edgespec.drafting.policies import Cloud
from edgespec.sim.fleet import BUSY, Demand, plan_fleet, steady, together
from edgespec.sim.plan import Situation, predict

HERE = Situation(rtt_ms=20.0, forward_ms=28.0, draft_ms=6.0)


def test_one_session_is_as_fast_as_the_plan_of_one_text_says() -> None:
    alone_ms = 1e3 / predict(HERE, "cloud", tokens=60, seeds=(1,)).tokens_per_s
    assert together(HERE, Cloud, 1, 60) == [pytest.approx(alone_ms, rel=0.01)]


def test_sessions_share_forwards_until_a_forward_is_full() -> None:
    (one,), many = (together(HERE, Cloud, sessions, 30) for sessions in (1, 16))
    assert max(many) < 1.2 * one
    full = Situation(rtt_ms=20.0, forward_ms=28.0, free_rows=4)
    assert min(together(full, Cloud, 16, 30)) > 3 * one


def test_a_text_costs_its_opening_and_its_prompt_as_well() -> None:
    """Three round trips: the connection, the welcome, the text. Each forward brings a token, the prompt's last one too;
    a row beyond the 64 that are free costs in proportion."""
    here = Situation(rtt_ms=20.0, forward_ms=28.0)
    assert steady(here, Cloud, 1, [(8, 4)]) == pytest.approx((3 * 20.0 + 8 * 28.0) / 8)
    assert steady(here, Cloud, 1, [(8, 600)]) == pytest.approx((3 * 20.0 + (600 / 64 + 7) * 28.0) / 8)


def test_devices_that_begin_wait_for_the_forwards_of_the_others() -> None:
    """A welcome is given between two forwards, and the session that it opens misses the next one."""
    alone, beside = (steady(Situation(rtt_ms=0.0, forward_ms=28.0), Cloud, n, [(8, 4)]) for n in (1, 4))
    assert (alone, beside) == (pytest.approx(28.0), pytest.approx(28.0 * (8 + 2) / 8))


def test_servers_and_prices_follow_from_the_throughput() -> None:
    demand = Demand(devices=1000, tokens_a_minute=120, latency_ms=40, gpu_hour_price=3, api_million_price=2)
    (cloud,) = plan_fleet(HERE, replace(demand, text_tokens=16, prompt_tokens=4), ["cloud"])
    assert cloud.sessions == 64 and cloud.token_ms <= 40
    need = 1000 * 120 / 60 / (BUSY * cloud.server_tokens_per_s)
    assert cloud.replicas - 1 < need <= cloud.replicas
    assert cloud.cost_million == pytest.approx(cloud.replicas * 3 / (2000 * 3600) * 1e6)
    assert cloud.devices == pytest.approx(BUSY * cloud.server_tokens_per_s / 2)


def test_a_latency_that_no_server_keeps_is_said() -> None:
    (cloud,) = plan_fleet(HERE, Demand(latency_ms=5, text_tokens=8), ["cloud"])
    assert (cloud.sessions, cloud.replicas) == (0, 0)


def test_the_command_prints_and_writes_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "fleet.json"
    arguments = [
        "--fleet",
        "--modes",
        "cloud,auto",
        "--devices",
        "50",
        "--latency-ms",
        "36",
        "--text-tokens",
        "40",
        "--forward-ms",
        "28",
    ]
    done = CliRunner().invoke(plan, [*arguments, "--rtt-ms", "20", "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert "servers are planned to be 80% busy" in done.output and "cheapest: " in done.output
    written = json.loads(file.read_text())
    assert [one["mode"] for one in written["plans"]] == ["cloud", "auto"]
    assert written["demand"]["devices"] == 50


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(EdgespecError, match="latency_ms must be above 0"):
        Demand(latency_ms=0)
    done = CliRunner().invoke(plan, ["--fleet", "--sweep", "rtt_ms=1,2"])
    assert isinstance(done.exception, EdgespecError)
