"""How long edgespec's own CPU decoder and llama.cpp take for a forward of the same model, by its rows.

    python -m benchmarks.decoders --models DIR,FILE.gguf --json docs/results/decoders.json

A folder runs on edgespec's own engine, a GGUF file on llama.cpp (tests/llamacpp.sh installs it); without --models, the
bundled target on edgespec's own. Each forward decides 1 to 16 drafted rows behind the same committed text, through the
interface that the server uses. All engines take turns; a row has the median.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from benchmarks.engine_text import EngineText
from benchmarks.results import Results, options
from edgespec.model.target import Target
from edgespec.model.target_engine import TargetEngine

NOTES = (
    "Forwards of one session, sampling included, at full speed. A folder of bfloat16 weights is read as bfloat16 and "
    "computed in float32; llama.cpp rounds activations to what its block format multiplies."
)


def main() -> int:
    quick = {"rows": [1, 4], "repeats": 2, "text_tokens": 32}
    arguments = options(
        "decoders", __doc__, quick, rows=[1, 2, 4, 8, 16], repeats=15, text_tokens=256, threads=[1, 2],
        models=([""], "folders and GGUF files"),
    )  # fmt: skip
    results = Results("decoders", NOTES, arguments.json)
    for threads in arguments.threads:
        loaded = {model: _load(model, threads) for model in arguments.models}
        texts = {model: EngineText(engine, arguments.text_tokens) for model, engine in loaded.items()}
        for rows in arguments.rows:
            times: dict[str, list[float]] = {model: [] for model in loaded}
            for _ in range(arguments.repeats):
                for model, text in texts.items():
                    text.draft(rows)
                    start_s = time.perf_counter()
                    text.run()
                    times[model].append((time.perf_counter() - start_s) * 1e3)
            for model, engine in loaded.items():
                kind = "edgespec" if isinstance(engine, Target) else "llama.cpp"
                median_ms = statistics.median(times[model])
                results.add({"engine": kind, "model": Path(model).name or "bundled", "threads": threads,
                             "rows": rows, "forward_ms": median_ms, "ms_a_row": median_ms / rows})  # fmt: skip
        for text in texts.values():
            text.cache.release()
    return 0


def _load(model: str, threads: int) -> TargetEngine:
    if not model.endswith(".gguf"):
        return Target.load(model or None, exits=None, threads=threads, kv_memory="256MiB")
    from edgespec.model.llamacpp.engine import LlamaCppEngine

    return LlamaCppEngine.load(model, threads, "512MiB", arguments={"n_ctx": 1024})


if __name__ == "__main__":
    sys.exit(main())
