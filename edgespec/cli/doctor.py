"""`edgespec doctor`: measure link, draft and target, and say whether speculation makes this setup faster."""

from dataclasses import replace

import click

from edgespec.cli.flags import group
from edgespec.cli.options import Connection, Speculation, connection_options
from edgespec.cli.streaming import SessionMaker, reachable_server
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.sim.plan import Situation, predict

PROMPT = "def read_settings(path):\n    "
TOKENS = 64
PAYS = 1.02
"""Speculation must be faster than plain cloud decoding by this factor."""
WORTH_SAYING = 0.03
"""A change must promise this gain to be suggested."""


@click.command()
@click.option("--prompt", default=PROMPT, help="Text to measure with; use one like your own.")
@click.option("--temperature", default=0.0, show_default=True, help="Sampling temperature; 0 is greedy.")
@group("speculation", Speculation, only=("draft", "draft_pace_ms"))
@group(
    "connection",
    Connection,
    only=(
        "server",
        "directory",
        "directory_ca",
        "directory_token_file",
        "tls_ca",
        "tls_name",
        "tls_cert",
        "tls_key",
        "token_file",
        "insecure",
    ),
    **connection_options,
)
def doctor(prompt: str, temperature: float, speculation: Speculation, connection: Connection) -> None:
    """Measure link, draft and target. Say what speculation gains here, and which changes would help most."""
    params = SamplingParams(temperature=temperature, seed=0, max_new_tokens=TOKENS, ignore_eos=True)
    with reachable_server(connection) as servers:
        measured = []
        for mode in ("cloud", "auto"):
            maker = SessionMaker(replace(speculation, mode=mode), params, connection)
            with maker.open(servers) as session:
                session.prompt(prompt)
                list(session)
                assert isinstance(session, Session)
                measured.append(session)
    _print_findings(*measured)


def _print_findings(cloud: Session, auto: Session) -> None:
    here = _situation(auto)
    cloud_speed, auto_speed = (one.statistics.tokens_per_s or 0.0 for one in (cloud, auto))
    gain = auto_speed / cloud_speed if cloud_speed else 0.0
    click.echo(f"link      {here.rtt_ms:.1f} ms round trip")
    click.echo(
        f"target    {here.forward_ms:.1f} ms per forward, {here.forward_row_share:.1%} more for each extra row"
    )
    click.echo(
        f"draft     {here.draft_ms:.2f} ms per run; its first choice is right in {here.acceptance:.0%} of cases"
    )
    click.echo(
        f"measured  cloud {cloud_speed:.1f} tokens/s, auto {auto_speed:.1f} tokens/s: {gain:.2f} times as fast"
    )
    click.echo(
        "\nSpeculation makes this setup faster."
        if gain > PAYS
        else "\nSpeculation does not make this setup faster: use --mode cloud."
    )
    speed = predict(here, "auto", tokens=200).tokens_per_s
    for change, changed in _changes(here).items():
        more = predict(changed, "auto", tokens=200).tokens_per_s / speed - 1
        if more > WORTH_SAYING:
            click.echo(f"{change}: about {more:.0%} more tokens/s (simulated).")
    for name, reason in auto.policy.reasons.items():
        click.echo(f"auto chose {name}: {reason}")


def _changes(here: Situation) -> dict[str, Situation]:
    acceptance = min(0.95, here.acceptance + 0.1)
    return {
        "Half the round-trip time": replace(here, rtt_ms=here.rtt_ms / 2),
        "A draft that is twice as fast": replace(here, draft_ms=here.draft_ms / 2),
        f"A draft that is right in {acceptance:.0%} of cases": replace(here, acceptance=acceptance),
    }


def _situation(auto: Session) -> Situation:
    """What the session measured, for the simulator."""
    measurements, statistics = auto.measurements, auto.statistics
    forward_ms = measurements.forward_ms(1) or statistics.forward_ms / max(1, statistics.target_forwards)
    draft_ms = measurements.draft_ms(1) or 0.1
    return Situation(
        rtt_ms=measurements.rtt_ms or 0.0,
        forward_ms=max(0.01, forward_ms),
        draft_ms=max(0.01, draft_ms),
        acceptance=measurements.calibration_ratios.best.share,
        forward_row_share=measurements.forward_ms.per_row_ms / forward_ms if forward_ms else 0.0,
        draft_row_share=measurements.draft_ms.per_row_ms / draft_ms if draft_ms else 0.0,
    )
