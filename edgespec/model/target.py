"""The target: any transformers causal LM with rotary positions, verifying a piece of a draft tree in one
forward.

Rows go in, the tokens that the model would say after each of them come out. Exit taps report what an exit
layer's rows seem to say while the deeper layers have yet to run. Nothing is rolled back: see `target_cache`.
Server side; torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.noise import NoiseRows
from edgespec.core.pacing import Pace
from edgespec.core.params import SamplingParams
from edgespec.core.slots import Piece
from edgespec.kernels.exit_verdict import Curves
from edgespec.model import loading
from edgespec.model.attention import SLOT_ATTENTION, attending
from edgespec.model.batch import Layout, Pieces, Place, Rows, batch_of
from edgespec.model.cuda_graphs import Capture, CudaCapture, GraphedForwards
from edgespec.model.decoder import NativeDecoder
from edgespec.model.guesses import KernelGuesses, scaled
from edgespec.model.kv_cache import KvPool, TargetCache, untold
from edgespec.model.kv_pages import Pages
from edgespec.model.masks import Windows
from edgespec.model.ordered import chunks_of
from edgespec.model.sampling import decide_together, guess
from edgespec.model.static_inputs import StaticInputs
from edgespec.model.support import (
    UnsupportedModel,
    check_independence,
    context_length,
    decoder_layers,
    self_check,
)
from edgespec.model.taps import Exits, Tap, noise_of, rows_of
from edgespec.model.target_engine import Decisions, ExitRows, ForwardRequest, OnExit
from edgespec.model.tensor_parallel import Leader
from edgespec.model.watching import WatchedExits

log = logging.getLogger("edgespec.model")

CHECK_PAGES = 4
"""Pages of the pool that the self-check runs on."""

NOISE_BYTES = 32 << 20
"""Noise that is kept at hand, at least 64 rows of it."""

__all__ = ["Decisions", "ExitRows", "Exits", "OnExit", "ForwardRequest", "Target"]


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
        kv_memory: int | str | None = None,
        deterministic: bool = False,
        native: bool = True,
        leader: Leader | None = None,
    ) -> None:
        """native: run the layers by the native decoder, where that knows the model. leader: the model is one shard, and
        tells the others what runs.

        Raises EdgespecError where the model fails its self-check or the exits do not fit it.
        """
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
        self._decoder_layers = decoder_layers(model, config.num_hidden_layers)
        self.layers = len(self._decoder_layers)
        self._exits = exits
        self.exit_layers: tuple[int, ...] = ()
        self._curves: dict[int, Curves] = {}
        self._pace = pace
        self._noise = NoiseRows(self.vocabulary_size, max(64, NOISE_BYTES // (4 * self.vocabulary_size)))
        self._tap: Tap | None = None
        self.deterministic = deterministic
        self.pool = KvPool(self.layers, CHECK_PAGES, changed=leader.pool_changed if leader else untold)
        if leader is not None:
            leader.lead(model)
        self.graphs: GraphedForwards | None = None
        self.hint_cells: WatchedExits | None = None
        """Exits that leave hints for a watcher; None: every part's on_exit is called."""
        self._publish: Callable[[int, torch.Tensor], None] | None = None
        if deterministic and self._config._attn_implementation != SLOT_ATTENTION:
            raise EdgespecError(
                f"{name} computes its attention in its own way, so --deterministic cannot order it: leave it off, or "
                "take a model that supports SDPA."
            )
        self._decoder = self._checked_decoder(native and not deterministic and leader is None)
        self._guesses = KernelGuesses.wanted(exits, self._head, config, self._decoder)
        if deterministic:
            check_independence(self)
        page_bytes = self.pool.page_bytes
        pages = loading.kv_pages(kv_memory, page_bytes, self.device, name)
        self.pool = KvPool(self.layers, pages, self.pool, leader.pool_changed if leader else untold)
        if kv_memory is not None:
            self.pool.claim()
        if exits is not None:
            self._attach(exits)
        if self.device.type == "cuda" and not deterministic and pace is None and leader is None:
            self.use_graphs(CudaCapture())

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        exits: str | Path | None = "auto",
        dtype: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        pace: Pace | None = None,
        kv_memory: int | str | None = None,
        deterministic: bool = False,
        leader: Leader | None = None,
    ) -> Target:
        """Load a folder or a model id; None: the bundled target.

        exits: a folder of exit heads, "auto" (those bundled with the model, if any) or None. dtype: "auto" is
        float32 on a CPU and bfloat16 on a GPU. threads: of torch, in this process. kv_memory: of all
        sessions' keys and values, as bytes, "2GiB" or "40%". deterministic: a token's logits do not depend on
        what runs beside it. leader: this process has joined others, each with a shard
        (tensor_parallel.py); such a target has no exits. Raises EdgespecError.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        chosen_device = loading.choose_device(device)
        chosen_dtype = loading.choose_dtype(dtype, chosen_device)
        folder = loading.find_folder(model)
        exits_folder = None if leader else loading.find_exits(exits, folder)
        name = loading.name_of(model, folder)
        lm = loading.load_model(folder, name, chosen_dtype, chosen_device, sharded=leader is not None)
        heads = None if exits_folder is None else loading.load_exits(exits_folder, folder, lm, name)
        return cls(
            lm,
            name=name,
            vocabulary_hash=loading.tokenizer_hash(folder),
            exits=heads,
            pace=pace,
            kv_memory=kv_memory,
            deterministic=deterministic,
            leader=leader,
        )

    @property
    def pages(self) -> Pages:
        return self.pool.pages

    @property
    def forward_cost(self) -> Callable[[int], float] | None:
        """Milliseconds of a forward of so many rows where a pace says so; None: measure."""
        return None if self._pace is None else self._pace.length_ms

    def _checked_decoder(self, native: bool) -> NativeDecoder | None:
        """The native decoder if it is wanted, knows the model and passes the self-check; else the model itself must.
        Raises UnsupportedModel."""
        self._decoder = NativeDecoder.wanted(self.model) if native else None
        try:
            self_check(self)
        except UnsupportedModel as error:
            if self._decoder is None:
                raise
            log.warning("%s runs on transformers' modules, not on the native decoder: %s", self.name, error)
            self.pool = KvPool(self.layers, CHECK_PAGES)
            return self._checked_decoder(native=False)
        return self._decoder

    def open_cache(self, capacity: int) -> TargetCache:
        """An empty cache for one session, of at most so many slots; it takes pages of the pool as it
        fills."""
        return TargetCache(self.pool, capacity)

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
        """`forward_batch` of one part."""
        return self.forward_batch(
            [ForwardRequest(cache, piece, decide, sampling, seed, on_exit)], exit_layers
        )[0]

    def forward_batch(
        self, parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Decisions]:
        """Run the rows of all parts in one forward, write their keys and values to their slots, and decide
        each part's rows `decide`.

        A part's on_exit is called as soon as an exit layer's rows are decided, in the order of the layers,
        before deeper layers run; an exception it raises ends the forward. exit_layers: which exits (None:
        all). Raises EdgespecError, KvFull.
        """
        if self._pace is not None:
            self._pace.begin(sum(len(part.piece) for part in parts))
        with torch.inference_mode():
            asked = frozenset(self.exit_layers if exit_layers is None else exit_layers)
            decisions = self._decide(parts, asked & set(self.exit_layers))
        if self._pace is not None:
            self._pace.end()
        return decisions

    def _decide(self, parts: Sequence[ForwardRequest], layers: frozenset[int]) -> list[Decisions]:
        pieces = [(part.cache, part.piece, part.decide) for part in parts]
        rows = [rows_of(part) for part in parts]
        graphs, watched = self.graphs, self.hint_cells
        if (
            graphs is not None
            and watched is not None
            and layers
            and watched.wants(parts)
            and graphs.fits(pieces)
        ):
            with watched.armed(parts) as columns:
                logits = graphs(pieces, layers, columns)
                assert logits is not None
                return decide_together(logits, rows)  # waits for the GPU; hints leave meanwhile
        self._tap = Tap.of(parts, layers, self.device, self._exit_noise)
        try:
            logits = self.logits_batch(pieces)
        finally:
            self._tap = None
        return decide_together(logits, rows)

    def logits(self, cache: TargetCache, piece: Piece, decide: NDArray[np.integer[Any]]) -> torch.Tensor:
        """`logits_batch` of one part."""
        return self.logits_batch([(cache, piece, decide)])

    def logits_batch(
        self, pieces: Sequence[tuple[TargetCache, Piece, NDArray[np.integer[Any]]]]
    ) -> torch.Tensor:
        """Run the rows of pieces (cache, piece, rows to decide); the logits [D, V] of the decided ones alone,
        piece by piece. In torch.inference_mode."""
        if self.deterministic:
            return self._ordered_logits(pieces)
        if self.graphs is not None and self._tap is None and (logits := self.graphs(pieces)) is not None:
            return logits
        if self._decoder is not None:
            return self._native_logits(self._decoder, pieces)
        apart = self._config._attn_implementation == SLOT_ATTENTION
        batch = batch_of(pieces, Windows.of(self._config), self.dtype, self.device, apart)
        self.pool.place(batch.slots, batch.seen)
        return self._run(batch.tokens, batch.positions, batch.masks, batch.layout, batch.decided)

    def _native_logits(self, decoder: NativeDecoder, pieces: Pieces) -> torch.Tensor:
        """`logits_batch` by the native decoder."""
        batch = Rows.of(pieces)
        stops = () if self._tap is None else sorted(self._tap.layers)
        for layer, rows in decoder.hidden(pieces, batch, self.pool, stops):
            if layer < self.layers:
                self._reach_exit(layer, rows)
        return decoder.logits(rows.numpy()[batch.decided])

    def _ordered_logits(
        self, pieces: Sequence[tuple[TargetCache, Piece, NDArray[np.integer[Any]]]]
    ) -> torch.Tensor:
        """`logits_batch` in forwards of one shape, each row's numbers independent of all others."""
        starts = np.cumsum([0, *(len(piece) for _, piece, _ in pieces)])
        decided = np.concatenate(
            [decide + start for (_, _, decide), start in zip(pieces, starts, strict=False)]
        )
        logits = torch.empty(len(decided), self.vocabulary_size, dtype=self.dtype, device=self.device)
        tap, first = self._tap, 0
        chunks = chunks_of(
            [(cache, piece) for cache, piece, _ in pieces], Windows.of(self._config), self.dtype, self.device
        )
        for chunk in chunks:
            self.pool.place(chunk.slots, None)
            self._tap = None if tap is None else tap.within(first, first + chunk.rows)
            here = np.flatnonzero((first <= decided) & (decided < first + chunk.rows))
            every_row = 0 if len(here) else None  # transformers' 0 keeps the logits of all rows
            rows = self._run(
                chunk.tokens[None],
                chunk.positions[None],
                chunk.windows,
                Layout(groups=chunk.groups),
                every_row,
            )
            logits[self._index(here)] = rows[self._index(decided[here] - first)]
            first += chunk.rows
        return logits

    def _run(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        masks: torch.Tensor | dict[str, torch.Tensor],
        layout: Layout,
        keep: torch.Tensor | int | None,
    ) -> torch.Tensor:
        """The model itself on rows [1, R]: logits of the rows to `keep`, as transformers takes them; None:
        none."""
        inputs = {
            "input_ids": tokens,
            "position_ids": positions,
            "attention_mask": masks,
            "past_key_values": self.pool,
            "use_cache": True,
        }
        with attending(layout):
            if keep is None or (isinstance(keep, torch.Tensor) and not len(keep)):
                self.model.base_model(**inputs)
                return torch.empty(0, self.vocabulary_size, dtype=self.dtype, device=self.device)
            logits: torch.Tensor = self.model(**inputs, logits_to_keep=keep).logits[0]
        return logits

    def _exit_noise(self, parts: Sequence[ForwardRequest]) -> torch.Tensor | None:
        """None where exits draw it themselves."""
        by_kernel = self._by_kernel(sum(len(part.decide) for part in parts))
        return None if by_kernel else noise_of(parts, self._noise, self.device)

    def _index(self, array: ArrayLike) -> torch.Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.int64)).to(self.device)

    # CUDA graphs

    def use_graphs(self, capture: Capture) -> None:
        """Run forwards that fit a bucket as graphs that `capture` makes, from the next one on; their exits tell a
        watcher, once there is one."""
        windows, exits = Windows.of(self._config), len(self.exit_layers)
        self.graphs = GraphedForwards(self._run_static, windows, self.dtype, self.device, capture, exits)
        if self._guesses is not None:
            self.hint_cells = WatchedExits(self._guesses, self._curves, self.device)

    def _run_static(self, inputs: StaticInputs, layers: frozenset[int]) -> torch.Tensor:
        self.pool.place(inputs.slots, inputs.seen)
        whole = Place(0, inputs.bucket.rows, inputs.bucket.width, 0, inputs.seen)
        if layers and self.hint_cells is not None:
            self._publish = partial(self.hint_cells.publish, inputs, layers)
        try:
            return self._run(inputs.tokens, inputs.positions, inputs.masks, Layout([whole]), inputs.selected)
        finally:
            self._publish = None

    # Exits

    def _attach(self, exits: Exits) -> None:
        """Hook the exit heads onto their layers."""
        if not exits.layers or not all(0 < layer < self.layers for layer in exits.layers):
            raise EdgespecError(
                f"the exit heads sit after layers {list(exits.layers)}, but {self.name} has "
                f"{self.layers} layers: they were trained for another target."
            )
        self.exit_layers = tuple(sorted(exits.layers))
        self._curves = {layer: Curves.of(exits.calibration(layer)) for layer in self.exit_layers}
        for layer in self.exit_layers:
            self._decoder_layers[layer - 1].register_forward_hook(partial(self._hook, layer))

    def _by_kernel(self, rows: int) -> bool:
        return self._guesses is not None and self._guesses.pay(rows)

    def _hook(self, layer: int, module: torch.nn.Module, args: object, output: Any) -> None:
        """A forward hook: layer `layer` is done."""
        self._reach_exit(layer, (output[0] if isinstance(output, tuple) else output)[0])

    def _reach_exit(self, layer: int, rows: torch.Tensor) -> None:
        """Decide the rows [R, D] after `layer` that are listened to and tell, before the next layer starts."""
        if self._publish is not None:
            self._publish(layer, rows)
        tap, exits = self._tap, self._exits
        if tap is None or exits is None or layer not in tap.layers:
            return
        hidden = rows.index_select(0, tap.selected)
        if self._guesses is not None and tap.noise is None and self._by_kernel(len(hidden)):
            tokens, margins = self._guesses(layer, hidden, [rows_of(part) for part, _ in tap.parts])
        else:
            logits = scaled(self._head(exits.rows(layer, hidden)), self._config)
            tokens, margins = guess(logits, tap.temperatures, tap.noise)
        hints = tap.trees.hints(tokens, margins, self._curves[layer])
        if self._pace is not None:
            self._pace.reach(layer / self.layers)
        for (part, own), hint in zip(tap.parts, hints, strict=True):
            assert part.on_exit is not None
            part.on_exit(ExitRows(layer, tokens[own], margins[own], hint))
