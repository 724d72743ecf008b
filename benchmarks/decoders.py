"""How long edgespec's own CPU decoder and llama.cpp take for a forward of the same model, by its rows.

    python -m benchmarks.decoders --models =,NAME=DIR,NAME=FILE.gguf --json docs/results/decoders.json

A folder runs on edgespec's own engine, in each of --dtypes, and on llama.cpp from GGUF files that are made of it, of
each type in --gguf. A GGUF file runs on llama.cpp as it is. `=` alone is the bundled target. Each forward decides 1 to
16 drafted rows behind the same committed text, through the interface that the server uses. All engines of a model take
turns; a row has the median. Install llama-cpp-python as it compiles itself for this processor: the wheel that
tests/llamacpp.sh makes is for none in particular, and slower.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.engine_text import EngineText
from benchmarks.results import Results, options
from edgespec.core.errors import EdgespecError
from edgespec.engines.model_folder import find_folder
from edgespec.model.target import Target
from edgespec.model.target_engine import TargetEngine

NOTES = (
    "Forwards of one session, sampling included, at full speed. Weights that are bfloat16 in their file stay so in "
    "memory where edgespec computes in float32; llama.cpp rounds activations to what its block format multiplies."
)


def main() -> int:
    quick = {"rows": [1, 4], "repeats": 2, "text_tokens": 32, "gguf": []}
    arguments = options(
        "decoders", __doc__, quick, rows=[1, 2, 4, 8, 16], repeats=15, text_tokens=256, threads=[1, 2],
        models=(["="], "NAME=PATH of folders and GGUF files"), dtypes=(["float32"], "in which edgespec computes"),
        gguf=(["f32", "bf16", "q8_0"], "types of GGUF files that are made of a folder"),
    )  # fmt: skip
    results = Results("decoders", NOTES, arguments.json)
    for model in arguments.models:
        name, named, path = model.partition("=")
        if not named:
            raise EdgespecError(f"--models takes NAME=PATH, not {model}.")
        for threads in arguments.threads:
            with tempfile.TemporaryDirectory() as scratch:
                engines = dict(_engines(path, arguments.dtypes, arguments.gguf, threads, Path(scratch)))
                for rows, times in _forwards(
                    engines, arguments.rows, arguments.repeats, arguments.text_tokens
                ):
                    for (engine, weights), median_ms in times.items():
                        results.add({"model": name or "bundled", "engine": engine, "weights": weights,
                                     "threads": threads, "rows": rows, "forward_ms": median_ms,
                                     "ms_a_row": median_ms / rows})  # fmt: skip
    return 0


def _engines(
    path: str, dtypes: Sequence[str], kinds: Sequence[str], threads: int, scratch: Path
) -> Iterator[tuple[tuple[str, str], TargetEngine]]:
    """Those that run a model, by their names and what they compute in."""
    if path.endswith(".gguf"):
        yield ("llama.cpp", "as in the file"), _llamacpp(Path(path), threads)
        return
    folder = find_folder(path or None)
    for dtype in dtypes:
        own = Target.load(folder, exits=None, dtype=dtype, threads=threads, kv_memory="256MiB")
        yield ("edgespec", dtype), own
    for kind in kinds:
        from benchmarks.peers.gguf_pair import convert

        file = scratch / f"{kind}.gguf"
        convert(folder, file, kind)
        yield ("llama.cpp", kind), _llamacpp(file, threads)


def _llamacpp(file: Path, threads: int) -> TargetEngine:
    from edgespec.model.llamacpp.engine import LlamaCppEngine

    return LlamaCppEngine.load(file, threads, "512MiB", arguments={"n_ctx": 1024})


def _forwards(
    engines: dict[tuple[str, str], TargetEngine], rows: Sequence[int], repeats: int, tokens: int
) -> Iterator[tuple[int, dict[tuple[str, str], float]]]:
    """For each number of rows, each engine's median."""
    texts = {name: EngineText(engine, tokens) for name, engine in engines.items()}
    for count in rows:
        times: dict[tuple[str, str], list[float]] = {name: [] for name in texts}
        for _ in range(repeats):
            for name, text in texts.items():
                text.draft(count)
                start_s = time.perf_counter()
                text.run()
                times[name].append((time.perf_counter() - start_s) * 1e3)
        yield count, {name: statistics.median(taken) for name, taken in times.items()}
    for text in texts.values():
        text.cache.release()


if __name__ == "__main__":
    sys.exit(main())
