"""llama.cpp drafts a greedy chain: `python draft_chain.py FILE.gguf`, under llama.cpp's own Python; no edgespec in it.

A line on standard input, {"text": [ids], "count": n}, is answered by a line {"tokens": [ids], "seconds": s}: n tokens
behind the text, on one thread, the text's own run left out of the time. It ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np


def main() -> None:
    model = llama_cpp.Llama(
        sys.argv[1], n_ctx=512, n_batch=512, n_threads=1, n_threads_batch=1, verbose=False
    )
    for line in sys.stdin:
        request = json.loads(line)
        model.reset()
        *known, token = request["text"]
        model.eval(known)
        tokens: list[int] = []
        start_s = time.perf_counter()
        for _ in range(request["count"]):
            model.eval([token])
            token = _best(model)
            tokens.append(token)
        print(json.dumps({"tokens": tokens, "seconds": time.perf_counter() - start_s}), flush=True)


def _best(model: llama_cpp.Llama) -> int:
    """The likeliest next token, read where llama.cpp has its scores, uncopied."""
    scores = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    size = ctypes.c_float * model.n_vocab()
    return int(np.frombuffer(size.from_address(ctypes.addressof(scores.contents)), dtype=np.float32).argmax())


if __name__ == "__main__":
    main()
