"""Plays texts on vLLM with some shards, each a process: `vllm_sharded.py FOLDER SHARDS`. Right texts to draft from come
in as JSON, or null; texts go out. A program of its own, as one process holds one vLLM."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from other_engines import jobs, play, texts_to_play

    from edgespec.model.vllm.engine import VllmEngine

    folder, shards = sys.argv[1], int(sys.argv[2])
    arguments = {"max_model_len": 256, "max_num_seqs": 32, "tensor_parallel_size": shards}
    engine = VllmEngine.load(folder, threads=1, kv_memory="1GiB", arguments=arguments)
    asked = jobs([[1 + (7 * i + j) % 90 for j in range(20)] for i in range(texts_to_play(40))])
    print(json.dumps(play(engine, asked, 24, json.load(sys.stdin))), flush=True)


if __name__ == "__main__":
    main()
