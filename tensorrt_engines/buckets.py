"""The widths at which attention runs: a run reads the smallest bucket of the cache that covers the slots in use."""

from __future__ import annotations

from edgespec.core.slots import SLOT_BUCKET


def buckets(capacity: int) -> list[int]:
    """Powers of two and half-way between, up to the capacity."""
    widths = [SLOT_BUCKET << i for i in range(capacity.bit_length())]
    widths += [width // 2 * 3 for width in widths[1:]]
    return [*sorted(width for width in widths if width < capacity), capacity]
