"""How many of the tokens that several drafts draft for one target it accepts, one with another tokenizer among them.

    python -m benchmarks.acceptance --engines DIR,DIR --json docs/results/acceptance.json

Each engine, the pair's own first, drafts chains for the pair's held-out prompts, in mode `sync`. shared_tokens: of the
target's vocabulary, those that may be drafted. Exit status 1 if a text differs from the first engine's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.pairs import HELP, Pair
from benchmarks.results import Results, Row, options
from edgespec.cli.child import child
from edgespec.core.address import Address
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.vocabulary_map import vocabulary_map
from edgespec.edge.session import Session
from edgespec.engines.draft_engine import DraftEngine, load_draft

NOTES = "Counts only: nothing here depends on speed."


def main() -> int:
    quick = {"prompts": 1, "max_new_tokens": 16}
    arguments = options(
        "acceptance", __doc__, quick, prompts=12, max_new_tokens=64, draft_tokens=4, temperatures=[0.0, 0.8],
        pair=(None, HELP), engines=([""], "further folders that `edgespec compile` wrote"),
    )  # fmt: skip
    pair = Pair.of(arguments.pair)
    prompts = pair.prompts(arguments.prompts)
    engines = {"the pair's own": pair.engine}
    engines |= {Path(folder).name: load_draft(folder) for folder in filter(None, arguments.engines)}
    shared = {name: _shared_tokens(pair, engine) for name, engine in engines.items()}
    results = Results("acceptance", NOTES, arguments.json)
    differing = 0
    with child(["serve", "--port", "0", *pair.server_options], "starting the server ...") as (host, port):
        for temperature in arguments.temperatures:
            params = SamplingParams(
                temperature=temperature, seed=7, max_new_tokens=arguments.max_new_tokens, ignore_eos=True
            )
            expected: list[list[int]] = []
            for name, engine in engines.items():
                row, texts = _played(Address(host, port), engine, params, prompts, arguments.draft_tokens)
                expected = expected or texts
                differ = sum(text != other for text, other in zip(texts, expected, strict=True))
                differing += differ
                about = {"draft": name, "shared_tokens": shared[name], "temperature": temperature}
                results.add({**about, **row, "texts_that_differ": differ})
    return 1 if differing else 0


def _shared_tokens(pair: Pair, engine: DraftEngine) -> int:
    target, own = Tokenizer.load(pair.target), Tokenizer.load(engine.tokenizer_path)
    return vocabulary_map(target, own, target.vocabulary_size, engine.vocabulary_size).shared


def _played(
    server: Address, engine: DraftEngine, params: SamplingParams, prompts: list[list[int]], draft_tokens: int
) -> tuple[Row, list[list[int]]]:
    texts: list[list[int]] = []
    drafted = accepted = forwards = 0
    for prompt in prompts:
        with Session(server, engine, params, mode="sync", draft_tokens=draft_tokens) as session:
            session.prompt(prompt)
            texts.append([token for step in session for token in step.tokens])
            counts = session.statistics
        drafted += counts.sent
        accepted += counts.accepted
        forwards += counts.target_forwards
    tokens = sum(len(text) for text in texts)
    return {
        "prompts": len(prompts),
        "tokens": tokens,
        "drafted": drafted,
        "accepted": accepted,
        "accepted_share": accepted / drafted,
        "tokens_a_forward": tokens / forwards,
    }, texts


if __name__ == "__main__":
    sys.exit(main())
