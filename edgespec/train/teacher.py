"""What is distilled: the target's distributions, and the hidden rows that they come from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from edgespec.core.errors import EdgespecError
from edgespec.engines.model_folder import find_folder, name_of
from edgespec.model import loading
from edgespec.model.guesses import scaled
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.quantised import is_whole


class Teacher:
    """A frozen target. `folder`: its files."""

    def __init__(self, target: str | None, device: str = "auto", dtype: str = "auto") -> None:
        """target: a folder or a model id, as `serve` takes it. dtype "auto": bfloat16 where that is fast. Raises
        EdgespecError."""
        self.device = loading.choose_device(device)
        self.folder = find_folder(target)
        self.name = name_of(target, self.folder)
        if dtype == "auto" and fast_bfloat16(self.device):
            dtype = "bfloat16"
        chosen = loading.choose_dtype(dtype, self.device)
        module = loading.load_model(self.folder, self.name, chosen, self.device)
        self.model = LoadedModel(module, self.name, loading.tokenizer_hash(self.folder))
        self.vocabulary_size = self.model.vocabulary_size
        self.layers = len(self.model.decoder_layers)
        self.width = int(self.model.config.hidden_size)
        self.norm_epsilon = float(
            getattr(self.model.config, "rms_norm_eps", None)
            or getattr(self.model.config, "layer_norm_eps", None)
            or 1e-6
        )
        self._decoder: Any = module.get_decoder()

    def final_norm(self) -> torch.Tensor:
        """The scales [D] of the norm before the LM head, whatever its family multiplies with."""
        norms = [one for one in self._decoder.children() if "norm" in type(one).__name__.lower()]
        if not norms:
            raise EdgespecError(
                f"{self.name} has no norm before its LM head: exits cannot be trained for it."
            )
        signs = torch.ones(self.width, device=self.device, dtype=self.model.dtype)
        signs[1::2] = -1  # of mean 0 and mean square 1
        with torch.no_grad():
            scales: torch.Tensor = norms[-1](signs[None])[0] * signs
        return scales

    @torch.no_grad()
    def hidden(
        self, batch: torch.Tensor, layers: Sequence[int] = ()
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Of ids [B, L]: final normed rows [B, L, D], and the raw rows after each of `layers` (1-based)."""
        taps: dict[int, torch.Tensor] = {}

        def tap(layer: int) -> Any:
            def keep(module: torch.nn.Module, args: object, output: Any) -> None:
                taps[layer] = output[0] if isinstance(output, tuple) else output

            return self.model.decoder_layers[layer - 1].register_forward_hook(keep)

        hooks = [tap(layer) for layer in layers]
        try:
            final = self._decoder(input_ids=batch.to(self.device), use_cache=False).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return final, taps

    def autocast(self) -> torch.autocast:
        """Around what is trained: bfloat16 where the target is."""
        narrow = self.model.dtype == torch.bfloat16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=narrow)

    def logits(self, rows: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """The LM head on normed rows [..., D] -> float32 [..., V], as the target scales them. classes: of these tokens
        [C] only."""
        logits = head_logits(self.model.head, rows.to(self.model.dtype), classes)
        return scaled(logits, self.model.config).float()


def head_logits(head: Any, rows: torch.Tensor, classes: torch.Tensor | None) -> torch.Tensor:
    """An LM head's logits of rows [..., D]: all, or those of the tokens `classes` [C]."""
    if classes is None:
        return head(rows)  # type: ignore[no-any-return]
    if not is_whole(head):
        return head(rows)[..., classes]  # type: ignore[no-any-return]
    return torch.nn.functional.linear(
        rows, head.weight[classes], None if head.bias is None else head.bias[classes]
    )


@cache
def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies faster in bfloat16 than in float32. A CPU with AVX-512 alone is timed, as some are
    slower then; one without it takes several times as long."""
    if device.type != "cpu" or _cpu_has("amx_tile"):
        return True
    return _cpu_has("avx512_bf16") and _product_s(torch.bfloat16) < _product_s(torch.float32)


def _cpu_has(feature: str) -> bool:
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", lambda: False)())


def _product_s(dtype: torch.dtype) -> float:
    """The shortest time that one thread computes a product of matrices such as a small model has. Its own time, so that
    a busy machine says the same."""
    rows, weights = torch.ones(512, 512, dtype=dtype), torch.ones(1024, 512, dtype=dtype)
    threads, times_s = torch.get_num_threads(), list[float]()
    torch.set_num_threads(1)
    try:
        for _ in range(10):
            begun_s = time.thread_time()
            torch.nn.functional.linear(rows, weights)
            times_s.append(time.thread_time() - begun_s)
    finally:
        torch.set_num_threads(threads)
    return min(times_s)


@dataclass(frozen=True)
class Lesson:
    """What the teacher would say: probabilities float32 [..., V], and their mean entropy in nats a row."""

    probabilities: torch.Tensor
    entropy: float

    @classmethod
    @torch.no_grad()
    def of(cls, logits: torch.Tensor) -> Lesson:
        """The lesson in the teacher's logits [..., V]."""
        logs = torch.log_softmax(logits, -1)
        probabilities = logs.exp()
        return cls(probabilities, float(-(probabilities * logs).nan_to_num().sum(-1).mean()))

    def divergence(self, logits: torch.Tensor) -> torch.Tensor:
        """Mean KL(teacher || student) in nats a row, of the student's logits [..., V]."""
        cross_entropy = -(self.probabilities * torch.log_softmax(logits.float(), -1)).sum(-1).mean()
        return cross_entropy - self.entropy
