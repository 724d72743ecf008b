"""Modes: the names that users give, and the policies that they stand for."""

from collections.abc import Callable
from typing import Any

from edgespec.core.errors import EdgespecError
from edgespec.drafting.auto import Auto
from edgespec.drafting.policies import (
    AcceptAll,
    Cloud,
    Colocated,
    DeviceOnly,
    Lookup,
    Predicted,
    Preempt,
    Stream,
    Sync,
)
from edgespec.drafting.policy import Policy

POLICIES: dict[str, Callable[..., Policy]] = {
    policy.name: policy
    for policy in (Cloud, Lookup, Colocated, Sync, Preempt, AcceptAll, Predicted, Stream, Auto)
}

DEVICE = DeviceOnly.name
"""The mode that needs no server: the draft alone (edgespec/edge/device_session.py)."""

WAITING_MODES = ("sync", "preempt", "accept-all", "predicted")
"""Modes that draft in blocks, whose best length depends on link and engines."""


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
    options: dict[str, Any] = {} if draft_tokens is None else {"draft_tokens": draft_tokens}
    if mode == Auto.name:
        options |= {"objective": objective, "budget": budget}
    elif objective != "latency" or budget is not None:
        raise EdgespecError(f"only mode 'auto' takes an objective or a budget, not {mode!r}.")
    return POLICIES[mode](**options)
