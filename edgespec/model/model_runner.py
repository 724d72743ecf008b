"""Runs a batch of sessions' rows through a model, and returns the logits of those that are decided.

There are five ways, all with the same result up to floating point: the native decoder on a CPU, CUDA graphs, lean
layers on a GPU, the model's own torch modules, and deterministic forwards of one shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgespec.kernels.narrow_pool import FLOAT8
from edgespec.model.attention import attending
from edgespec.model.batch import FlatRows, ModuleInputs, module_inputs
from edgespec.model.cache_argument import cache_argument
from edgespec.model.cuda_graphs import Capture, Forwarded, GraphedForwards, graph_bytes
from edgespec.model.decoder import NativeDecoder
from edgespec.model.deterministic import chunks
from edgespec.model.exit_reader import ExitReader
from edgespec.model.guesses import scaled
from edgespec.model.kv_cache import KvPool, TargetCache
from edgespec.model.lean_layers import LeanLayers
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.paged_attention import PAGED_ATTENTION, PagedAttention
from edgespec.model.static_attention import StaticMasks, StaticPlans
from edgespec.model.static_inputs import ExitColumns, StaticInputs
from edgespec.model.target_engine import SessionRows
from edgespec.model.tensor_parallel import Leader

CHECK_PAGES = 4
"""Pages of the pool until `resize_pool`: enough for the self-check, whose first forward shows a page's size."""


class ModelRunner:
    """A model and its key-value pool. native: run the layers by the native decoder where that supports the model.
    paged: attend over pages where the device has a kernel for it. lean: run the layers by few kernels there, if they
    are known. leader: the model is one shard, and the leader tells the other processes what runs."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        native: bool = True,
        paged: bool = True,
        lean: bool = True,
        deterministic: bool = False,
        leader: Leader | None = None,
    ) -> None:
        self.model = model
        self.deterministic = deterministic
        self._pool_changed = None if leader is None else leader.pool_changed
        self.pool = KvPool(
            len(model.decoder_layers),
            CHECK_PAGES,
            changed=self._pool_changed,
            dtype=FLOAT8 if model.float8_pool else None,
        )
        if leader is not None:
            leader.lead(model.module)
        plain = not deterministic and leader is None
        self.paged = PagedAttention.wanted(model) if paged and plain else None
        if self.paged is not None:
            model.use_attention(PAGED_ATTENTION)
        self.lean = LeanLayers.wanted(model, self.paged) if lean else None
        self.decoder = NativeDecoder.wanted(model) if native and plain and not self.paged else None
        self.graphs: GraphedForwards | None = None
        self.exits: ExitReader | None = None

    def resize_pool(self, pages: int) -> None:
        """Replace the pool, which no session may use yet."""
        self.pool = KvPool(len(self.model.decoder_layers), pages, self.pool, self._pool_changed)

    def open_cache(self, capacity: int) -> TargetCache:
        return TargetCache(self.pool, capacity)

    def graph_bytes(self, exits: bool) -> int:
        """About the memory that graphs take; exits: the model has some."""
        if self.paged is None:
            return graph_bytes(self.model, StaticMasks.widths, None, exits)
        return graph_bytes(self.model, StaticPlans.widths, self.paged.groups, exits)

    def use_graphs(self, capture: Capture) -> None:
        """From now on, run batches that fit a bucket as graphs that `capture` makes."""
        exits = 0 if self.exits is None else len(self.exits.layers)
        attention = StaticPlans(self.model, self.paged) if self.paged else StaticMasks(self.model)
        self.graphs = GraphedForwards(self._run_static, self.model, attention, capture, exits)

    def logits(self, batch: Sequence[SessionRows]) -> torch.Tensor:
        """Of `forward`."""
        return self.forward(batch).logits

    def forward(self, batch: Sequence[SessionRows]) -> Forwarded:
        """Logits [D, V] of the decided rows, session by session. Exits read the rows that the reader listens to. In
        torch.inference_mode. Raises KvFull."""
        if self.deterministic:
            return Forwarded(self._deterministic_logits(batch))
        listening = self.exits is not None and self.exits.listens
        if self.graphs is not None and not listening and (graphed := self.graphs(batch)) is not None:
            return graphed
        if self.decoder is not None:
            return Forwarded(self._native_logits(self.decoder, batch))
        return Forwarded(self._run(module_inputs(batch, self.model, self.paged)))

    def graphed_forward(
        self, batch: Sequence[SessionRows], layers: frozenset[int], columns: ExitColumns
    ) -> Forwarded:
        """`forward` by a graph, which `graphs` must fit; the exits after `layers` leave their hints in cells."""
        assert self.graphs is not None
        graphed = self.graphs(batch, layers, columns)
        assert graphed is not None
        return graphed

    def _native_logits(self, decoder: NativeDecoder, batch: Sequence[SessionRows]) -> torch.Tensor:
        flat = FlatRows.of(batch, self.model.rotary_cell)
        stops = self.exits.stops if self.exits is not None else ()
        for layer, rows in decoder.hidden(batch, flat, self.pool, stops):
            if self.exits is not None and layer in stops:
                self.exits.reach(layer, rows)
        return decoder.logits(rows.numpy()[flat.decided])

    def _deterministic_logits(self, batch: Sequence[SessionRows]) -> torch.Tensor:
        model = self.model
        decided = sum(len(one.decide) for one in batch)
        logits = torch.empty(decided, model.vocabulary_size, dtype=model.dtype, device=model.device)
        for chunk in chunks(batch, model.windows, model.dtype, model.device, model.rotary_cell):
            if self.exits is not None:
                self.exits.narrow(chunk.first, chunk.last)
            logits[chunk.places] = self._run(chunk.inputs)[chunk.decided]
        return logits

    def _run_static(self, inputs: StaticInputs, layers: frozenset[int]) -> torch.Tensor:
        """The forward that a graph captures."""
        modules = ModuleInputs(
            inputs.tokens, inputs.positions, inputs.slots, inputs.selected, inputs.attention
        )
        if self.exits is None or not layers:
            return self._run(modules)
        with self.exits.publishing(inputs, layers):
            return self._run(modules)

    def _run(self, inputs: ModuleInputs) -> torch.Tensor:
        """The model's own forward, or that of its lean layers: logits of the rows to keep."""
        if self.lean is not None:
            return self._lean_logits(self.lean, inputs)
        attention = inputs.attention
        self.pool.place(inputs.slots, attention.seen)
        model, keep = self.model, inputs.keep
        arguments = {
            **self._read(inputs),
            "position_ids": inputs.positions,
            "attention_mask": attention.masks,
            "use_cache": True,
        }
        with attending(attention.layout):
            if isinstance(keep, torch.Tensor) and not len(keep):
                self._with_pool(model.decoder, arguments)
                return torch.empty(0, model.vocabulary_size, dtype=model.dtype, device=model.device)
            if model.vision is None:
                arguments["logits_to_keep"] = keep
                logits: torch.Tensor = self._with_pool(model.module, arguments).logits[0]
                return logits
            rows: torch.Tensor = self._with_pool(model.decoder, arguments).last_hidden_state[0]
        decided: torch.Tensor = model.head(rows[keep] if isinstance(keep, torch.Tensor) else rows)
        return decided

    def _with_pool(self, module: Any, arguments: Mapping[str, Any]) -> Any:
        return module(**arguments, **{cache_argument(module): self.pool})

    def _lean_logits(self, lean: LeanLayers, inputs: ModuleInputs) -> torch.Tensor:
        stops = self.exits.stops if self.exits is not None else ()
        for layer, rows in lean.hidden(inputs, self.pool, stops):
            if self.exits is not None and layer in stops:
                self.exits.reach(layer, rows)
        assert isinstance(inputs.keep, torch.Tensor)
        return scaled(self.model.head(rows.index_select(0, inputs.keep)), self.model.config)

    def _read(self, inputs: ModuleInputs) -> dict[str, Any]:
        """What the rows hold: tokens, or embeddings where some are pictures'."""
        pictures = inputs.pictures
        if pictures is None:
            return {"input_ids": inputs.tokens}
        embeddings = self.model.decoder.get_input_embeddings()(inputs.tokens)
        pictures.put(embeddings[0])
        further = pictures.arguments(embeddings.shape[1], embeddings.device)
        return {"inputs_embeds": embeddings, **further}
