"""The sampling parameters of an OPEN, checked."""

from __future__ import annotations

from edgespec import _native
from edgespec.core import sampling_section
from edgespec.core.errors import EdgespecError
from edgespec.core.params import MOST_BIASES, SamplingParams
from edgespec.server.refusal import Refused

Code = _native.ErrorCode

SAMPLING_FIELDS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "max_new_tokens", "ignore_eos", "logprobs",
)  # fmt: skip


def sampling_params(opened: _native.Open) -> tuple[SamplingParams, int]:
    """The parameters, and how many of the prompt's last tokens this turn has generated already."""
    fields = {name: getattr(opened, name) for name in SAMPLING_FIELDS}
    if len(opened.logit_bias) > MOST_BIASES:
        raise Refused(
            Code.PARAMETER, f"logit_bias has {len(opened.logit_bias)} tokens, and {MOST_BIASES} at most"
        )
    try:
        further, generated = sampling_section.decode(opened.sampling)
        fields["max_new_tokens"] += generated
        return SamplingParams(logit_bias=dict(opened.logit_bias), **fields, **further), generated
    except (EdgespecError, TypeError, ValueError, OverflowError) as error:  # a section may hold anything
        raise Refused(Code.PARAMETER, str(error)) from None
