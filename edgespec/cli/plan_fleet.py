"""`edgespec plan --fleet`: how many servers a fleet of devices needs, and what its tokens cost."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from edgespec.cli.flags import NUMBER, POSITIVE, about, group
from edgespec.cli.table import table
from edgespec.core.whole_files import save_json
from edgespec.sim.fleet import BUSY, Demand, FleetPlan, plan_fleet
from edgespec.sim.plan import Situation

MODES = ("cloud", "colocated", "auto")
COLUMNS = (
    "mode", "sessions a server", "ms/token", "tokens/s a server", "devices a server", "servers", "price of 1M tokens",
)  # fmt: skip

demand_options = group(
    "demand",
    Demand,
    devices=about("With --fleet: number of devices.", type=click.IntRange(1)),
    tokens_a_minute=about("With --fleet: tokens that a device needs per minute, on average.", type=POSITIVE),
    latency_ms=about("With --fleet: the most that a token may take, on average.", type=POSITIVE),
    gpu_hour_price=about("With --fleet: price of one server's GPU for an hour.", type=NUMBER),
    api_million_price=about(
        "With --fleet: price of a million tokens of an API, to compare with.", type=NUMBER
    ),
    server_draft_ms=about(
        "With --fleet: time of a draft run on the server, for co-located speculation.", type=POSITIVE
    ),
    text_tokens=about("With --fleet: tokens of a text that a device asks for.", type=click.IntRange(1, 2048)),
    prompt_tokens=about("With --fleet: tokens of the prompt before it.", type=click.IntRange(1, 2048)),
)


def show_fleet(situation: Situation, demand: Demand, modes: Sequence[str], file: Path | None) -> None:
    """Print the plan of each mode, and write all of it to `file`."""
    plans = plan_fleet(situation, demand, modes)
    caption = json.dumps(asdict(situation))
    Console(width=130).print(table(COLUMNS, map(_cells, plans), title="simulated", caption=caption))
    click.echo(
        f"{demand.devices} devices at {demand.tokens_a_minute:g} tokens a minute need {demand.tokens_per_s:.1f} "
        f"tokens/s; servers are planned to be {BUSY:.0%} busy."
    )
    possible = [plan for plan in plans if plan.sessions]
    if not possible:
        click.echo(
            f"no mode keeps {demand.latency_ms:g} ms a token: allow more, or take a faster target or link."
        )
    else:
        best = min(possible, key=lambda plan: plan.cost_million)
        share = best.cost_million / demand.api_million_price
        click.echo(
            f"cheapest: {best.mode}, {best.replicas} servers, {best.cost_million:.2f} per million tokens, {share:.2f} "
            f"times the API's {demand.api_million_price:g}"
        )
    if file is not None:
        rows = [
            {**asdict(plan), "cost_million": plan.cost_million if plan.sessions else None} for plan in plans
        ]
        save_json(
            {"simulated": True, "situation": asdict(situation), "demand": asdict(demand), "plans": rows}, file
        )


def _cells(plan: FleetPlan) -> list[str]:
    if not plan.sessions:
        return [plan.mode, "none", f"{plan.token_ms:.1f}", *["–"] * 4]
    return [
        plan.mode,
        str(plan.sessions),
        f"{plan.token_ms:.1f}",
        f"{plan.server_tokens_per_s:.0f}",
        f"{plan.devices:.0f}",
        str(plan.replicas),
        f"{plan.cost_million:.2f}",
    ]
