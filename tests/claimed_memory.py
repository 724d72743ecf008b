"""Prints what part of a pool's memory the system has given before `KvPool.claim` and after: `claimed_memory.py MODEL`.

A program of its own: in a process that has freed memory before, new memory may be given already.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import torch


def in_memory(tensor: torch.Tensor) -> float:
    """The part of it that the system has given memory to, or swap (pagemap(5), bits 63 and 62)."""
    page_bytes = resource.getpagesize()
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(tensor.data_ptr() // page_bytes * 8)
        entries = np.frombuffer(pagemap.read(tensor.nbytes // page_bytes * 8), np.uint64)
    return float((entries >> np.uint64(62) > 0).mean())


def main() -> None:
    from edgespec.model.kv_cache import KvPool
    from edgespec.model.target import Target

    target = Target.load(sys.argv[1], exits=None)
    pages = 2**26 * 2 * target.layers // target.pool.page_bytes
    pool = KvPool(target.layers, pages, target.pool)
    memories = [memory for layer in pool.pool_layers for memory in (layer.keys, layer.values)]
    before = max(map(in_memory, memories))
    pool.claim()
    print(before, min(map(in_memory, memories)))


if __name__ == "__main__":
    main()
