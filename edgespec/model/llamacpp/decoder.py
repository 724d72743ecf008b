"""llama.cpp through llama-cpp-python's low-level functions: a model, its context, and batches of rows.

llama.cpp multiplies one row by other kernels than several, with other roundings: logits of a quantised model differ by
more than half a point. Several rows give the same bits whatever their number (measured on SmolLM2 in Q4_1). So no row
ever runs or is decided alone: another one is put behind it, and its results are dropped. Texts are then the same
whatever was drafted.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SLOT_BUCKET
from edgespec.core.target_identity import target_id
from edgespec.core.whole_files import sha256_of
from edgespec.model.llamacpp.gguf_files import gguf_file, tokenizer_folder
from edgespec.model.llamacpp.sequences import MOST_SEQUENCES, Row
from edgespec.model.loading import tokenizer_hash
from edgespec.model.memory import kv_pages

MOST_ROWS = 512
"""Of one forward."""

SPARE_CELLS = 66
"""Of a sequence, behind a text of full length: 64 drafts, the token before them, and a lone row's companion."""

CELLS_BUCKET = 256
"""A sequence's cells are a multiple of it."""

OURS = {"n_batch", "n_ubatch", "n_seq_max", "kv_unified", "n_threads", "n_threads_batch", "swa_full"}
"""Arguments that follow from edgespec's own options."""

_silent = llama_cpp.llama_log_callback(lambda level, text, data: None)


class LlamaDecoder:
    """The model in a GGUF file. See `LlamaCppEngine.load`."""

    def __init__(
        self,
        target: str | Path | None,
        threads: int | None,
        kv_memory: int | str | None,
        arguments: Mapping[str, Any],
    ) -> None:
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        self._file = gguf_file(target)
        model_params = llama_cpp.llama_model_default_params()
        context_params = llama_cpp.llama_context_default_params()
        _set_arguments(arguments, model_params, context_params)
        self._model = llama_cpp.llama_model_load_from_file(str(self._file).encode(), model_params)
        if not self._model:
            raise EdgespecError(
                f"llama.cpp cannot read {self._file}: is it a GGUF file of a causal language model?"
            )
        if llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model):
            raise EdgespecError(
                f"{self._file.name} keeps a recurrent state, which edgespec cannot verify trees with: use a rotary "
                "causal model, such as Llama, Qwen, Mistral or Gemma."
            )
        self.sequences, self.cells = self._shares(kv_memory, int(arguments.get("n_ctx", 0)))
        context_params.n_ctx = self.sequences * self.cells
        context_params.n_batch = context_params.n_ubatch = MOST_ROWS
        context_params.n_seq_max = self.sequences
        context_params.kv_unified, context_params.swa_full = False, True
        context_params.n_threads = context_params.n_threads_batch = threads or os.cpu_count() or 1
        if "flash_attn_type" not in arguments:
            context_params.flash_attn_type = (
                llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
            )  # rows stay alike in any company
        self._context = llama_cpp.llama_init_from_model(self._model, context_params)
        if not self._context:
            raise EdgespecError(
                f"llama.cpp cannot make a context for {self._file.name}: give less --kv-memory."
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._vocabulary_size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self._batch = llama_cpp.llama_batch_init(MOST_ROWS, 0, 1)

    def facts(self) -> dict[str, Any]:
        """What `TargetEngine` says of its target."""
        model, vocabulary = self._model, self._vocabulary
        description = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(model, description, len(description))
        weights = sha256_of(self._file)
        kind = description.value.decode(errors="replace").split()[-1]
        folder = tokenizer_folder(self._file)
        ends = range(self._vocabulary_size)
        return {
            "target_id": target_id(self._file.stem, weights, kind, f"llamacpp-{version('llama-cpp-python')}"),
            "vocabulary_hash": tokenizer_hash(folder),
            "vocabulary_size": self._vocabulary_size,
            "context_length": min(int(llama_cpp.llama_model_n_ctx_train(model)), self.cells - SPARE_CELLS),
            "end_tokens": tuple(token for token in ends if llama_cpp.llama_vocab_is_eog(vocabulary, token)),
            "tokenizer_path": folder / "tokenizer.json",
            "layers": int(llama_cpp.llama_model_n_layer(model)),
        }

    def remove(self, sequence: int, start: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def decode(self, sequence: int, rows: Sequence[Row]) -> NDArray[np.float32]:
        """See `Decoder.decode`. Raises EdgespecError."""
        decided = [i for i, row in enumerate(rows) if row.decide]
        self._run(sequence, _in_company(rows))
        logits = np.empty((len(decided), self._vocabulary_size), dtype=np.float32)
        for place, i in enumerate(decided):
            pointer = llama_cpp.llama_get_logits_ith(self._context, i)
            logits[place] = np.ctypeslib.as_array(pointer, (self._vocabulary_size,))
        self.remove(sequence, rows[-1].position + 1)
        return logits

    def _run(self, sequence: int, rows: Sequence[Row]) -> None:
        batch = self._batch
        if len(rows) > MOST_ROWS:
            raise EdgespecError(
                f"a forward of {len(rows)} rows is more than llama.cpp is given here ({MOST_ROWS})."
            )
        batch.n_tokens = len(rows)
        for i, row in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = row.token, row.position, row.decide
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            raise EdgespecError(f"llama.cpp's forward failed (status {status}).")

    def _shares(self, kv_memory: int | str | None, context: int) -> tuple[int, int]:
        """How many sequences, and of how many cells each: a session's whole context, or what there is for one. context:
        tokens that a session may have; 0: the model's. Raises EdgespecError."""
        pages = kv_pages(kv_memory, self._page_bytes(), torch.device("cpu"), self._file.name)
        there = pages * SLOT_BUCKET // CELLS_BUCKET
        trained = int(llama_cpp.llama_model_n_ctx_train(self._model))
        asked = min(context or trained, trained) + SPARE_CELLS
        if not there:
            raise EdgespecError(
                f"the key-value memory has room for {pages * SLOT_BUCKET} tokens, and a session takes "
                f"{CELLS_BUCKET} at the least: raise --kv-memory."
            )
        each = min(there, -(-asked // CELLS_BUCKET))
        return min(MOST_SEQUENCES, there // each), each * CELLS_BUCKET

    def _page_bytes(self) -> int:
        """Of keys and values of SLOT_BUCKET tokens, in 16 bits."""
        model = self._model
        heads, all_heads = llama_cpp.llama_model_n_head_kv(model), llama_cpp.llama_model_n_head(model)
        width = int(llama_cpp.llama_model_n_embd(model)) // int(all_heads)
        return 2 * 2 * int(llama_cpp.llama_model_n_layer(model)) * int(heads) * width * SLOT_BUCKET


def _in_company(rows: Sequence[Row]) -> list[Row]:
    """The rows, and what keeps the only row, or the only one that is decided, company."""
    together = list(rows)
    if len(rows) == 1:
        together.append(replace(rows[0], position=rows[0].position + 1))
    elif sum(row.decide for row in rows) == 1:
        other = next(i for i, row in enumerate(rows) if not row.decide)
        together[other] = replace(rows[other], decide=True)
    return together


def _set_arguments(arguments: Mapping[str, Any], *params: Any) -> None:
    """Raises EdgespecError for names that llama.cpp does not have, or that are edgespec's."""
    for name, value in arguments.items():
        if name in OURS:
            raise EdgespecError(
                f"--engine-args {name} follows from --kv-memory, n_ctx and --threads: leave it out."
            )
        place = next((one for one in params if any(name == field for field, _ in one._fields_)), None)
        if place is None or isinstance(value, str):
            raise EdgespecError(f"llama.cpp has no argument {name}={value}: see its llama_context_params.")
        try:
            setattr(place, name, value)
        except TypeError as error:
            raise EdgespecError(f"--engine-args {name}={value} cannot be used ({error}).") from None
