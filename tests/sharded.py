"""Run by torchrun in tests/test_tensor_parallel.py: FOLDER, then where rank 0 writes what a sharded target decides."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from edgespec.core.params import SamplingParams
from edgespec.core.slots import SlotMap
from edgespec.core.tree import DraftTree
from edgespec.model.loading import load_model
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest
from edgespec.model.tensor_parallel import Leader, follow, join


def decided(target: Target) -> list[list[int]]:
    """Two sessions with trees, by turns alone and together: the tokens behind every decided row."""
    caches = [target.open_cache(200) for _ in range(2)]
    slots = [SlotMap(200) for _ in range(2)]
    texts = [[5 + i % 40 for i in range(70)], [7, 8, 9]]
    out = []
    for _ in range(4):
        parts = []
        for number, (cache, own, text) in enumerate(zip(caches, slots, texts, strict=True)):
            tree = DraftTree(len(text))
            tree.add(1, 0, 11, 0.5)
            tree.add(2, 1, 12, 0.5)
            tree.add(3, 0, 13, 0.5)
            piece = own.plan(text, len(text), tree, [1, 2, 3])
            decide = np.arange(len(piece) - 4, len(piece))
            parts.append(
                ForwardRequest(cache, piece, decide, SamplingParams(temperature=0.8 * number), number)
            )
        decisions = target.forward_batch(parts)
        for text, own, decision in zip(texts, slots, decisions, strict=True):
            out.append(decision.tokens.tolist())
            text.append(int(decision.tokens[0]))
            own.truncate(len(text) - 1)
    return out


def main() -> None:
    folder, file = Path(sys.argv[1]), Path(sys.argv[2])
    cpu = torch.device("cpu")
    torch.set_num_threads(1)
    if join(cpu):
        follow(load_model(folder, "tiny", torch.float64, cpu, sharded=True))
        return
    leader = Leader()
    target = Target.load(folder, dtype="float64", device="cpu", kv_memory="8MiB", leader=leader)
    shape = target.pool.pool_layers[0].keys.shape
    file.write_text(json.dumps({"tokens": decided(target), "key_heads": shape[1]}))
    leader.end()


if __name__ == "__main__":
    main()
