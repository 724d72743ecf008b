"""The target: any transformers causal LM with rotary positions, which verifies draft trees in batched forwards.

It is edgespec's own `TargetEngine`. Rows go in, the tokens that the model says after each of them come out; meanwhile
exits report what an earlier layer would say. Nothing is rolled back (kv_cache.py). Server side; torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import ForwardPacing
from edgespec.core.target_identity import target_id
from edgespec.engines.model_folder import find_folder, name_of
from edgespec.model import loading
from edgespec.model.backends import compile_kernels, working_on
from edgespec.model.cuda_graphs import Capture, CudaCapture
from edgespec.model.exit_reader import ExitReader
from edgespec.model.exits import weights_sha256
from edgespec.model.kv_cache import KvPool, TargetCache
from edgespec.model.kv_pages import Pages
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.mailbox_exits import MailboxExits
from edgespec.model.memory import kv_pages
from edgespec.model.model_runner import ModelRunner
from edgespec.model.picture_check import check_picture
from edgespec.model.sampling import Rows, decide_together
from edgespec.model.self_check import check_forward_size, check_independence, check_tree, warm_up
from edgespec.model.support import UnsupportedModel
from edgespec.model.taps import Exits
from edgespec.model.target_engine import Decisions, ForwardRequest
from edgespec.model.tensor_parallel import Leader
from edgespec.model.vision import Features
from edgespec.model.vision_families import find_encoder

log = logging.getLogger("edgespec.model")


class Target:
    """A checked model with its key-value pool and its exits. `Target.load` makes one from a folder or a model id."""

    trees = True

    def __init__(
        self,
        model: LoadedModel,
        exits: Exits | None = None,
        *,
        pace: ForwardPacing | None = None,
        kv_memory: int | str | None = None,
        deterministic: bool = False,
        native: bool = True,
        leader: Leader | None = None,
        exit_bits: int = 8,
    ) -> None:
        """native: run the layers by the native decoder, where that supports the model; see `load` for the others.

        Raises EdgespecError where the model fails its self-check or the exits do not fit it.
        """
        self.model = model
        self.name = model.name
        self.target_id = target_id(model.name, model.weights_sha256, model.arithmetic)
        self.vocabulary_hash = model.vocabulary_hash
        self.vocabulary_size = model.vocabulary_size
        self.tokenizer_path = model.tokenizer_path
        self.context_length = model.context_length
        self.end_tokens = model.end_tokens
        self.layers = len(model.decoder_layers)
        self.picture_format = None if model.vision is None else model.vision.format
        self.whole_pictures = model.vision is not None and model.vision.mutual
        self._pace = pace
        self.runner = _checked_runner(model, native, deterministic, leader)
        if exits is not None:
            reached = None if pace is None else pace.reach
            self.runner.exits = ExitReader(model, exits, self.runner.decoder, reached, narrow=exit_bits == 8)
        graphed = model.device.type == "cuda" and not deterministic and pace is None and leader is None
        held_back = self.runner.graph_bytes(exits is not None) if graphed else 0
        pages = kv_pages(kv_memory, self.pool.page_bytes, model.device, model.name, held_back)
        self.runner.resize_pool(pages)
        if kv_memory is not None:
            self.pool.claim()
        self.exit_layers = () if self.exits is None else self.exits.layers
        if graphed:
            self.use_graphs(CudaCapture())

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        exits: str | Path | None = "auto",
        dtype: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        pace: ForwardPacing | None = None,
        kv_memory: int | str | None = None,
        deterministic: bool = False,
        leader: Leader | None = None,
        trust_remote_code: bool = False,
        quantize: str | None = None,
        exit_bits: int = 8,
        kv_dtype: str = "auto",
    ) -> Target:
        """Load a folder or a model id; None: the bundled target.

        exits: a folder of exit heads, "auto" (those bundled with the model, if any) or None. dtype: "auto" is float32
        on a CPU and bfloat16 on a GPU. threads: of torch, in this process. kv_memory: of all sessions' keys and
        values, as bytes, "2GiB" or "40%". deterministic: a token's logits do not depend on what runs beside it.
        leader: this process has joined others, each with a shard (tensor_parallel.py); such a target has no exits.
        trust_remote_code: Python code in the folder may run. quantize: the weights, while they are loaded, to one of
        `quantised.METHODS`. exit_bits: of the LM head that exits read on a GPU, 8 or 16. kv_dtype: of keys and values,
        "auto" is `dtype`, or "fp8". Raises EdgespecError."""
        if threads is not None:
            torch.set_num_threads(threads)
        chosen_device = loading.choose_device(device)
        chosen_dtype = loading.choose_dtype(dtype, chosen_device)
        float8_pool = loading.choose_float8_pool(kv_dtype)
        folder = find_folder(model)
        exits_folder = None if leader else loading.find_exits(exits, folder)
        name = name_of(model, folder)
        lm = loading.load_model(
            folder, name, chosen_dtype, chosen_device, leader is not None, trust_remote_code, quantize, float8_pool
        )  # fmt: skip
        heads = None if exits_folder is None else loading.load_exits(exits_folder, folder, lm, name)
        tokenizer, encoder = folder / "tokenizer.json", find_encoder(lm, folder)
        hashes = loading.tokenizer_hash(folder), weights_sha256(folder)
        loaded = LoadedModel(lm, name, *hashes, tokenizer, encoder, quantize, float8_pool)
        with working_on(loaded.device):
            compile_kernels(loaded, narrow=exit_bits == 8)
            return cls(
                loaded, heads, pace=pace, kv_memory=kv_memory, deterministic=deterministic, leader=leader,
                exit_bits=exit_bits,
            )  # fmt: skip

    @property
    def exits(self) -> ExitReader | None:
        return self.runner.exits

    @property
    def pool(self) -> KvPool:
        return self.runner.pool

    @property
    def pages(self) -> Pages:
        return self.pool.pages

    @property
    def hint_cells(self) -> MailboxExits | None:
        return None if self.exits is None else self.exits.mailbox_exits

    @property
    def forward_cost(self) -> Callable[[int], float] | None:
        """Milliseconds of a forward of n rows, as `pace` sets them; None: measure them."""
        return None if self._pace is None else self._pace.length_ms

    def open_cache(self, capacity: int) -> TargetCache:
        return self.runner.open_cache(capacity)

    def encode_picture(self, pixels: NDArray[np.uint8]) -> Features:
        """What the language model reads in place of a picture (`TargetEngine.encode_picture`)."""
        assert self.model.vision is not None
        with working_on(self.model.device):
            return self.model.vision.encode(pixels)

    def use_graphs(self, capture: Capture) -> None:
        """From now on, run forwards that fit a bucket as graphs that `capture` makes."""
        self.runner.use_graphs(capture)
        if self.exits is not None:
            self.exits.use_mailbox()

    def forward_batch(
        self, requests: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Decisions]:
        """Run all requests' rows in one forward and decide each request's rows (`TargetEngine.forward_batch`)."""
        layers = frozenset(self.exit_layers if exit_layers is None else exit_layers)
        if self._pace is not None:
            self._pace.begin(sum(len(request.piece) for request in requests))
        with torch.inference_mode(), working_on(self.model.device):
            decisions = self._decide(requests, layers & set(self.exit_layers))
        if self._pace is not None:
            self._pace.end()
        return decisions

    def _decide(self, requests: Sequence[ForwardRequest], layers: frozenset[int]) -> list[Decisions]:
        rows = [Rows.of(request) for request in requests]
        graphs, cells = self.runner.graphs, self.hint_cells
        if (
            layers
            and graphs is not None
            and cells is not None
            and cells.wants(requests)
            and graphs.fits(requests)
        ):
            with cells.armed(requests) as columns:
                graphed = self.runner.graphed_forward(requests, layers, columns)
                # Waits for the GPU; hints leave meanwhile.
                return decide_together(graphed.logits, rows, graphed.trees)
        if self.exits is None:
            ran = self.runner.forward(requests)
        else:
            with self.exits.listening(requests, layers):
                ran = self.runner.forward(requests)
        return decide_together(ran.logits, rows, ran.trees)


def _checked_runner(
    model: LoadedModel,
    native: bool,
    deterministic: bool,
    leader: Leader | None,
    paged: bool = True,
    lean: bool = True,
) -> ModelRunner:
    """A runner that passes the self-check: on the native decoder, lean layers or over pages if that passes, else on the
    model's own modules. Raises EdgespecError."""
    if deterministic and not model.reads_slots:
        raise EdgespecError(
            f"{model.name} computes its attention in its own way, so --deterministic cannot order it: leave it off, or "
            "take a model that supports SDPA."
        )
    if deterministic and model.vision is not None and model.vision.mutual:
        raise EdgespecError(
            f"{model.name} lets a picture's rows see one another, so --deterministic cannot order them: leave it off."
        )
    runner = ModelRunner(
        model, native=native, paged=paged, lean=lean, deterministic=deterministic, leader=leader
    )
    try:
        check_tree(runner)
        if model.vision is not None:
            check_picture(runner, model.vision)
    except UnsupportedModel as error:
        if runner.lean is not None:
            log.warning("%s runs on transformers' modules, not on lean layers: %s", model.name, error)
            return _checked_runner(model, native, deterministic, leader, paged, lean=False)
        if runner.paged is not None:
            log.warning("%s attends by torch, not over pages: %s", model.name, error)
            model.use_attention(runner.paged.before)
            return _checked_runner(model, native, deterministic, leader, paged=False)
        if runner.decoder is None:
            raise
        log.warning("%s runs on transformers' modules, not on the native decoder: %s", model.name, error)
        return _checked_runner(model, False, deterministic, leader, paged)
    if leader is None:
        check_forward_size(runner)
    if runner.paged is not None and model.device.type == "cuda":
        warm_up(runner)
    if deterministic:
        check_independence(runner)
    return runner
