"""The prompts of the benchmarks: the same held-out ones that traces are recorded on."""

from edgespec.bench.prompts import held_out_prompts

__all__ = ["held_out_prompts"]
