"""Modes: the names that users give, and the policies that they stand for."""

from collections.abc import Callable

from edgespec.core.errors import EdgespecError
from edgespec.drafting.auto import Auto, AutoWithoutHints
from edgespec.drafting.policies import (
    AcceptAll,
    Cloud,
    Colocated,
    DeviceOnly,
    Predicted,
    Preempt,
    Stream,
    Sync,
)
from edgespec.drafting.policy import Policy

POLICIES: dict[str, Callable[[int], Policy]] = {
    policy.name: policy
    for policy in (Cloud, Colocated, Sync, Preempt, AcceptAll, Predicted, Stream, Auto, AutoWithoutHints)
}

DEVICE = DeviceOnly.name
"""The mode that needs no server: the draft alone (edgespec/edge/device_session.py)."""

WAITING_MODES = ("sync", "preempt", "accept-all", "predicted")
"""Modes that draft in blocks, whose best length depends on link and engines."""

DRAFT_TOKENS = {"stream": 12, "auto": 12, "auto-no-hints": 12}
"""A policy's own length of draft, where it is not a block of four."""


def policy(
    mode: str, draft_tokens: int | None = None, objective: str = "latency", budget: float | None = None
) -> Policy:
    """The policy that a mode's name stands for; draft_tokens: the length of a block, or the depth of a tree.

    objective, budget: what `auto` is after (see `Auto`); other modes take none. Raises EdgespecError.
    """
    if mode not in POLICIES:
        raise EdgespecError(f"there is no mode {mode!r}: choose one of {', '.join(POLICIES)}.")
    if draft_tokens is not None and draft_tokens < 1:
        raise EdgespecError(f"draft_tokens must be at least 1, not {draft_tokens}.")
    length = draft_tokens or DRAFT_TOKENS.get(mode, 4)
    for tuned in (Auto, AutoWithoutHints):
        if mode == tuned.name:
            return tuned(length, objective, budget)
    if objective != "latency" or budget is not None:
        raise EdgespecError(f"only mode 'auto' takes an objective or a budget, not {mode!r}.")
    return POLICIES[mode](length)
