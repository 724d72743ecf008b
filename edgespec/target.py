"""The target: any transformers causal LM with rotary positions, verifying a piece of a draft tree in one
forward.

Rows go in, the tokens that the model would say after each of them come out. Exit taps report what an exit
layer's rows seem to say while the deeper layers have yet to run. Nothing is rolled back: see `target_cache`.
Server side; torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from edgespec import target_loading as loading
from edgespec.errors import EdgespecError
from edgespec.noise import NoiseRows
from edgespec.pacing import Pace
from edgespec.params import SamplingParams
from edgespec.sampling import Decisions, coupled_noise, guess, require_supported
from edgespec.sampling import decide as sample_rows
from edgespec.slots import Piece
from edgespec.target_cache import TargetCache
from edgespec.target_masks import Windows
from edgespec.target_support import context_length, self_check


@dataclass(frozen=True)
class ExitRows:
    """What an exit layer's decided rows seem to say: tokens int32 [D], margins float32 [D], and the
    calibrated chances float32 [D] that the last layer will say the same. `layer`: how many layers have run, 1
    to layers - 1."""

    layer: int
    tokens: NDArray[np.int32]
    margins: NDArray[np.float32]
    chances: NDArray[np.float32]


OnExit = Callable[[ExitRows], None]


class Exits(Protocol):
    """Exit heads, as `edgespec.exits.ExitHeads` has them."""

    @property
    def layers(self) -> tuple[int, ...]: ...

    def rows(self, layer: int, hidden: torch.Tensor) -> torch.Tensor: ...

    def chances(
        self, layer: int, margins: NDArray[np.float32], temperature: float
    ) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class _Tap:
    """What the exits of the running forward need: the decided rows, their noise, whom to tell, after which
    layers."""

    decide: torch.Tensor
    temperature: float
    noise: torch.Tensor | None
    on_exit: OnExit
    layers: frozenset[int]


class Target:
    """A loaded target. `Target.load(model)` makes one; `name` is how messages call it."""

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        vocabulary_hash: bytes,
        exits: Exits | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Raises EdgespecError where the model fails its self-check or the exits do not fit it."""
        config = model.config.get_text_config()
        self.model = model
        self.name = self.target_id = name
        self.vocabulary_hash = vocabulary_hash
        self.dtype: torch.dtype = model.dtype
        self.device: torch.device = model.device
        self.context_length = context_length(config, name)
        self.end_tokens = loading.end_tokens(model)
        self._config = config
        self._head = model.get_output_embeddings()
        self.vocabulary_size = int(self._head.weight.shape[0])
        self._decoder_layers = _decoder_layers(model, config.num_hidden_layers)
        self.layers = len(self._decoder_layers)
        self._exits = exits
        self.exit_layers: tuple[int, ...] = ()
        self._pace = pace
        self._noise = NoiseRows(self.vocabulary_size)
        self._tap: _Tap | None = None
        self_check(self)
        if exits is not None:
            self._attach(exits)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        exits: str | Path | None = "auto",
        dtype: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        pace: Pace | None = None,
    ) -> Target:
        """Load a folder or a model id; None: the bundled target.

        exits: a folder of exit heads, "auto" (those bundled with the model, if any) or None. dtype: "auto" is
        float32 on a CPU and bfloat16 on a GPU. threads: of torch, in this process. Raises EdgespecError.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        chosen_device = loading.choose_device(device)
        chosen_dtype = loading.choose_dtype(dtype, chosen_device)
        folder = loading.find_folder(model)
        exits_folder = loading.find_exits(exits, folder)
        name = loading.name_of(model, folder)
        lm = loading.load_model(folder, name, chosen_dtype, chosen_device)
        heads = None if exits_folder is None else loading.load_exits(exits_folder, folder, lm, name)
        return cls(lm, name=name, vocabulary_hash=loading.tokenizer_hash(folder), exits=heads, pace=pace)

    def open_cache(self, capacity: int) -> TargetCache:
        """An empty cache for one session, of at most so many slots; it takes memory as it fills."""
        return TargetCache(self.layers, capacity)

    def forward(
        self,
        cache: TargetCache,
        piece: Piece,
        decide: NDArray[np.integer[Any]],
        sampling: SamplingParams,
        seed: int,
        on_exit: OnExit | None = None,
        exit_layers: Sequence[int] | None = None,
    ) -> Decisions:
        """Run the rows of `piece`, write their keys and values to their slots, and decide rows `decide`
        int [D].

        on_exit: called as soon as an exit layer's rows are decided, in the order of the layers, before deeper
        layers run; an exception it raises ends the forward. exit_layers: which exits (None: all). Raises
        EdgespecError.
        """
        require_supported(sampling)
        if self._pace is not None:
            self._pace.begin(len(piece))
        positions = piece.positions[decide] + 1
        with torch.inference_mode():
            noise = None
            if len(decide) and not sampling.greedy:
                noise = coupled_noise(self._noise, positions, seed, self.device)
            if on_exit is not None and len(decide) and self.exit_layers:
                layers = frozenset(self.exit_layers if exit_layers is None else exit_layers)
                self._tap = _Tap(self._index(decide), sampling.temperature, noise, on_exit, layers)
            try:
                logits = self.logits(cache, piece, decide)
            finally:
                self._tap = None
            decisions = sample_rows(logits, positions, sampling, seed, noise)
        if self._pace is not None:
            self._pace.end()
        return decisions

    def logits(self, cache: TargetCache, piece: Piece, decide: NDArray[np.integer[Any]]) -> torch.Tensor:
        """Run the rows of `piece`; the logits [D, V] of the decided ones alone. In torch.inference_mode."""
        cache.place(self._index(piece.slots), piece.cached.shape[1])
        inputs = {
            "input_ids": self._index(piece.tokens)[None],
            "position_ids": self._index(piece.positions)[None],
            "attention_mask": Windows.of(self._config).masks(piece, self.dtype, self.device),
            "past_key_values": cache,
            "use_cache": True,
        }
        if not len(decide):
            self.model.base_model(**inputs)
            return torch.empty(0, self.vocabulary_size, dtype=self.dtype, device=self.device)
        logits: torch.Tensor = self.model(**inputs, logits_to_keep=self._index(decide)).logits[0]
        return logits

    def _index(self, array: ArrayLike) -> torch.Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.int64)).to(self.device)

    # Exits

    def _attach(self, exits: Exits) -> None:
        """Hook the exit heads onto their layers."""
        if not exits.layers or not all(0 < layer < self.layers for layer in exits.layers):
            raise EdgespecError(
                f"the exit heads sit after layers {list(exits.layers)}, but {self.name} has "
                f"{self.layers} layers: they were trained for another target."
            )
        self.exit_layers = tuple(sorted(exits.layers))
        for layer in self.exit_layers:
            self._decoder_layers[layer - 1].register_forward_hook(partial(self._reach_exit, exits, layer))

    def _reach_exit(
        self, exits: Exits, layer: int, module: torch.nn.Module, args: object, output: Any
    ) -> None:
        """A forward hook: layer `layer` is done; decide its rows and tell, before the next layer starts."""
        tap = self._tap
        if tap is None or layer not in tap.layers:
            return
        hidden = output[0] if isinstance(output, tuple) else output
        rows = exits.rows(layer, hidden[0].index_select(0, tap.decide))
        tokens, margins = guess(self._scaled(self._head(rows)), tap.temperature, tap.noise)
        chances = exits.chances(layer, margins, tap.temperature)
        if self._pace is not None:
            self._pace.reach(layer / self.layers)
        tap.on_exit(ExitRows(layer, tokens, margins, chances))

    def _scaled(self, logits: torch.Tensor) -> torch.Tensor:
        """The LM head's logits as the model's own last step scales them (Cohere, Granite) or caps them (Gemma
        2)."""
        config = self._config
        if (scale := getattr(config, "logit_scale", None)) is not None:
            logits = logits * scale
        if (divisor := getattr(config, "logits_scaling", None)) is not None:
            logits = logits / divisor
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits


def _decoder_layers(model: Any, count: int) -> torch.nn.ModuleList:
    """The decoder's layers, wherever the model keeps them. Raises EdgespecError."""
    for module in model.get_decoder().modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise EdgespecError(
        f"{type(model).__name__} keeps its {count} decoder layers where edgespec cannot find them."
    )
