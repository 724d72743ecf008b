"""`edgespec doctor`: measures link, draft and target, and says in words whether speculation pays here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgespec.cli.options import FOLDER, PACE, Servers, link_options, safety

if TYPE_CHECKING:
    from edgespec.edge.session import Session
    from edgespec.sim.plan import Prediction, Situation

PROMPT = "def read_settings(path):\n    "
TOKENS = 64


@click.command()
@click.option(
    "--server", type=Servers(), help="A running `edgespec serve`; without it, one on the bundled pair."
)
@click.option(
    "--draft", type=FOLDER, metavar="ENGINE_DIR", help="What `edgespec compile` wrote; else the bundled one."
)
@click.option("--prompt", default=PROMPT, help="What to measure on: text like your own.")
@click.option("--temperature", type=float, default=0.0, show_default=True)
@click.option("--draft-pace-ms", type=PACE, help="Hold every run of the draft to at least this long.")
@safety
def doctor(
    server: tuple[tuple[str, int], ...] | None,
    draft: Path | None,
    prompt: str,
    temperature: float,
    draft_pace_ms: float | None,
    **flags: Any,
) -> None:
    """Measure link, draft and target, and say what speculation gains here and what would make it gain more."""
    from edgespec.cli.streaming import SessionMaker, reachable_server
    from edgespec.core.params import SamplingParams
    from edgespec.edge.session import Session

    link = link_options(flags, server)
    params = SamplingParams(temperature=temperature, seed=0, max_new_tokens=TOKENS, ignore_eos=True)
    with reachable_server(server) as servers:
        measured: dict[str, Session] = {}
        for mode in ("cloud", "auto"):
            maker = SessionMaker(
                params, draft=draft, mode=mode, draft_tokens=None, draft_pace_ms=draft_pace_ms, link=link
            )
            with maker.open(servers) as session:
                session.prompt(prompt)
                for _ in session:
                    pass
                assert isinstance(session, Session)  # not one of mode `device`
                measured[mode] = session
    _say(measured["cloud"], measured["auto"])


def _say(cloud: Session, auto: Session) -> None:
    from edgespec.sim.plan import predict

    situation = _situation(auto)
    speed = {one.policy.name: one.statistics.tokens_per_s or 0.0 for one in (cloud, auto)}
    gain = speed["auto"] / speed["cloud"] if speed["cloud"] else 0.0
    click.echo(f"link     {situation.rtt_ms:.1f} ms round trip")
    click.echo(
        f"target   {situation.forward_ms:.1f} ms a forward, {situation.forward_row_share:.1%} more for each row"
    )
    click.echo(
        f"draft    {situation.draft_ms:.2f} ms a run; its first choice is right {situation.acceptance:.0%} of times"
    )
    click.echo(
        f"measured {speed['cloud']:.1f} tokens/s streamed, {speed['auto']:.1f} with auto: {gain:.2f} times"
    )
    click.echo(
        f"\n{'Speculation pays here.' if gain > 1.02 else 'Speculation does not pay here: use --mode cloud.'}"
    )
    here = predict(situation, "auto", tokens=200)
    for change, better in _changes(situation):
        _say_change(change, predict(better, "auto", tokens=200), here)
    reasons: dict[str, str] = getattr(auto.policy, "reasons", {})
    for name, reason in reasons.items():
        click.echo(f"auto chose {name}: {reason}")


def _say_change(change: str, there: Prediction, here: Prediction) -> None:
    more = there.tokens_per_s / here.tokens_per_s - 1
    if more > 0.03:
        click.echo(f"{change}: about {more:.0%} more tokens a second (simulated).")


def _changes(situation: Situation) -> list[tuple[str, Situation]]:
    from dataclasses import replace

    better = min(0.95, situation.acceptance + 0.1)
    return [
        ("Half the round trip", replace(situation, rtt_ms=situation.rtt_ms / 2)),
        ("A draft twice as fast", replace(situation, draft_ms=situation.draft_ms / 2)),
        (f"A draft that is right {better:.0%} of the time", replace(situation, acceptance=better)),
    ]


def _situation(auto: Session) -> Situation:
    """What the session measured, as a situation that can be played again."""
    from edgespec.sim.plan import Situation

    measurements, statistics = auto.measurements, auto.statistics
    forward_ms = measurements.forward_ms(1) or statistics.forward_ms / max(1, statistics.target_forwards)
    draft_ms = measurements.draft_ms(1) or 0.1
    numbers: dict[str, Any] = {
        "rtt_ms": measurements.rtt_ms or 0.0,
        "forward_ms": max(0.01, forward_ms),
        "draft_ms": max(0.01, draft_ms),
        "acceptance": measurements.acceptance,
        "forward_row_share": measurements.forward_ms.per_row_ms / forward_ms if forward_ms else 0.0,
        "draft_row_share": measurements.draft_ms.per_row_ms / draft_ms if draft_ms else 0.0,
    }
    return Situation(**numbers)
