"""What a peer's runs come to: medians and spread over the passes, and whether its texts are the ones they must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.peers.clients import Played
from benchmarks.peers.roster import Peer

Passes = Sequence[Sequence[Played]]
"""One peer's runs: pass by pass, prompt by prompt."""


def cell_figures(
    peers: Sequence[Peer], runs: Mapping[str, Passes], greedy: bool
) -> dict[str, dict[str, Any]]:
    """The figures of all that ran. Greedy texts must be the first peer's, sampled ones those of edgespec's cloud."""
    figures = {}
    for peer in peers:
        if own := runs.get(peer.name):
            comparable = not peer.rounds and (greedy or not peer.own_noise)
            expected = _texts(_reference(peers, runs, greedy)) if comparable else None
            figures[peer.name] = {**_speed(own), **_text(own, expected)}
    return figures


def _reference(peers: Sequence[Peer], runs: Mapping[str, Passes], greedy: bool) -> Passes:
    """The runs of the first peer that may say what the text is."""
    return next(
        runs[peer.name]
        for peer in peers
        if runs.get(peer.name) and (greedy or not peer.own_noise) and not peer.rounds
    )


def _texts(passes: Passes) -> list[tuple[int, ...]]:
    return [run.tokens for run in passes[0]]


def _speed(passes: Passes) -> dict[str, Any]:
    """tokens_per_s: of each pass over all prompts, the median, least and most; times of all runs together."""
    speeds = [sum(len(run.tokens) for run in one) / sum(run.seconds for run in one) for one in passes]
    runs = [run for one in passes for run in one]
    middle, late, latest = np.percentile(
        [gap for run in runs for gap in _gaps_ms(run)] or [0.0], [50, 90, 99]
    )
    return {
        "tokens": sum(len(run.tokens) for run in runs),
        "tokens_per_s": median(speeds),
        "tokens_per_s_low": min(speeds),
        "tokens_per_s_high": max(speeds),
        "ttft_ms_median": median(run.arrivals[0][0] for run in runs) * 1e3,
        "token_ms_median": float(middle),
        "token_ms_p90": float(late),
        "token_ms_p99": float(latest),
    }


def _gaps_ms(run: Played) -> list[float]:
    """Milliseconds between tokens as a reader sees them; tokens that come together share the wait before them."""
    gaps: list[float] = []
    for (before_s, _), (now_s, tokens) in zip(run.arrivals, run.arrivals[1:], strict=False):
        gaps += [(now_s - before_s) * 1e3 / tokens] * tokens
    return gaps


def _text(passes: Passes, expected: Sequence[tuple[int, ...]] | None) -> dict[str, Any]:
    """text_differs: None where there is nothing to compare with, because the peer samples with its own noise or
    computes in less than float32."""
    if expected is None:
        return {"text_differs": None, "differing_texts": None}
    differing = sum(run.tokens != text for one in passes for run, text in zip(one, expected, strict=False))
    return {"text_differs": differing > 0, "differing_texts": differing}
