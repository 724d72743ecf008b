"""Records a trace of a pair, for `edgespec plan --trace`: the target continues prompts alone, and at every position
the guesses of draft and exits are kept.

The noise is that of a session with the same seed, so a session writes the text of the trace.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.drafter import Drafter
from edgespec.engines.draft_engine import DraftEngine
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, ForwardRequest
from edgespec.sim.trace import RecordedText, Trace
from edgespec.verifying.verifier import Verifier, VerifierLimits


def record(
    target: Target,
    engine: DraftEngine,
    prompts: Sequence[Sequence[int]],
    *,
    temperature: float = 0.0,
    max_new_tokens: int = 64,
    seed: int = 0,
) -> Trace:
    """Record a text of max_new_tokens tokens for each prompt; prompt n is sampled with the seed `seed + n`.

    Raises EdgespecError if a prompt does not fit the target's context.
    """
    texts = [
        _recorded(target, engine, prompt, SamplingParams(temperature=temperature, seed=seed + number,
                                                         max_new_tokens=max_new_tokens))
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip
    exits = tuple((layer, layer / target.layers) for layer in target.exit_layers)
    return Trace(target.name, temperature, exits, tuple(texts))


def _recorded(
    target: Target, engine: DraftEngine, prompt: Sequence[int], params: SamplingParams
) -> RecordedText:
    assert params.seed is not None
    verifier = Verifier(
        prompt, params.max_new_tokens, ServerOptions(fill=True), VerifierLimits(target.context_length)
    )
    cache = target.open_cache(len(prompt) + params.max_new_tokens + 1)
    drafter = Drafter(engine, params.temperature, params.seed, engine.vocabulary_size)
    drafts, guesses = [], []
    while verifier.finish is None:
        forward = verifier.plan()
        exits: list[ExitRows] = []
        listen = exits.append if forward.nodes else None
        request = ForwardRequest(cache, forward.piece, forward.decide, params, params.seed, listen)
        (decisions,) = target.forward_batch([request])
        if forward.nodes:
            tree = DraftTree(len(verifier.text))
            while drafter.prefill(verifier.text, tree):
                pass
            drafts.append(drafter.expand(verifier.text, tree, [ROOT])[0])
            guesses.append([(one.guess.token, one.guess.confidence) for one in exits])
        verifier.conclude(forward, decisions.tokens.tolist(), decisions.path.tolist())
    return RecordedText(
        list(prompt),
        verifier.text[len(prompt) :],
        np.array([one.tokens for one in drafts], np.int32),
        np.clip([one.probabilities for one in drafts], 0, 1),
        np.array([[token for token, _ in one] for one in guesses], np.int32).reshape(len(guesses), -1),
        np.clip([[probability for _, probability in one] for one in guesses], 0, 1).reshape(len(guesses), -1),
    )
