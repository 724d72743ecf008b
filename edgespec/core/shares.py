"""Fair shares: how much of what all have together one device, or one tenant, may hold. Pure.

Nothing is set aside for anybody: a holder may have up to three times what it leaves free. Alone that is three quarters,
beside a second greedy one three sevenths each; whoever comes next always finds something free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

TIMES_THE_FREE = 3

TENANT = "tenant "
"""Before a tenant's name, among names of devices, which have no space."""


def holder_of(holders: Iterable[str]) -> str:
    """Of a device's name and its tenant's, in whose name they hold things: the tenant's; nothing: of neither."""
    return max(holders, key=lambda name: name.startswith(TENANT), default="")


def may_take(held: int, in_all: int, most: int, more: int = 1) -> bool:
    """Whether a holder of `held`, of the `in_all` of `most` that are taken, may have `more`. The first one is free to
    all while there is one."""
    free = most - in_all - more
    return free >= 0 and (held == 0 or held + more <= TIMES_THE_FREE * free)


def must_give(held: Mapping[str, int], can_give: Collection[str], asker: str, more: int) -> str | None:
    """Which of those who can gives something back so that `asker` gets `more`: the holder of most, if it has more than
    an equal share of all that is held, and more than the asker would have. None: nobody does."""
    after = {**held, asker: held.get(asker, 0) + more}
    largest = max(can_give, key=lambda holder: held[holder], default=None)
    if largest is None or largest == asker:
        return None
    equal = sum(after.values()) / len(after)
    return largest if held[largest] > max(equal, after[asker]) else None
