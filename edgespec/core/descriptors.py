"""File descriptors that this process may have."""

from __future__ import annotations

import resource

LEAST = 16


def descriptors_for(most: int, others: int) -> int:
    """How many of `most` descriptors there are beside `others`; at least 16. Raises this process's limit of them to
    what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + others
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return most
    return max(LEAST, min(most, soft - others))
