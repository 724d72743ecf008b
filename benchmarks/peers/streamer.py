"""A peer's server: continues prompts with transformers or llama.cpp and streams tokens as lines of JSON over TCP.

    python benchmarks/peers/streamer.py transformers TARGET_DIR DRAFT_DIR
    python benchmarks/peers/streamer.py llama-cpp TARGET.gguf

It runs under the peer's own Python and imports nothing of edgespec. A request is one line, {"prompt", "max_new_tokens",
"temperature", "seed", "method"}; answers are lines of {"tokens": [...]} as soon as they are known, then {"end": true}.
It serves one connection at a time, prints `listening on HOST:PORT`, and ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
from collections.abc import Callable
from typing import Any

Send = Callable[[list[int]], None]
Request = dict[str, Any]

EARLY_EXIT_SHARE = 0.25
"""Of the target's layers."""

METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "assistant_model": {"num_assistant_tokens": 20, "assistant_confidence_threshold": 0.4},
    "assistant_model, blocks of 4": {"num_assistant_tokens": 4, "assistant_confidence_threshold": 0.0},
    "assistant_early_exit": {"assistant_early_exit": EARLY_EXIT_SHARE},
    "prompt look-up": {"prompt_lookup_num_tokens": 10},
}
"""How transformers speculates. The first assistant has the library's own settings (20 tokens, or fewer where it is not
sure); blocks of four suit this pair better."""


class Transformers:
    """`generate` of transformers in float32, as its users call it; assisted methods draft on the server."""

    def __init__(self, target: str, draft: str) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        transformers.logging.set_verbosity(transformers.logging.ERROR)
        load: Any = transformers.AutoModelForCausalLM.from_pretrained
        self._torch = torch
        self._set_seed = transformers.set_seed
        self._target, self._draft = (load(model, dtype=torch.float32).eval() for model in (target, draft))
        for model in (self._target, self._draft):
            model.generation_config.eos_token_id = None
            model.generation_config.pad_token_id = None  # a prompt's end-of-turn tokens are no padding

    def stream(self, request: Request, send: Send) -> None:
        options = dict(METHODS[request["method"]])
        if request["method"].startswith("assistant_model"):
            for name in ("num_assistant_tokens", "assistant_confidence_threshold"):
                setattr(self._draft.generation_config, name, options.pop(name))
            options["assistant_model"] = self._draft
        if "assistant_early_exit" in options:
            layers = self._target.config.num_hidden_layers
            options["assistant_early_exit"] = max(1, round(options["assistant_early_exit"] * layers))
        if request["temperature"]:
            options |= {"temperature": request["temperature"], "top_k": 0}
        self._set_seed(request["seed"])
        with self._torch.inference_mode():
            self._target.generate(
                self._torch.tensor([request["prompt"]]),
                max_new_tokens=request["max_new_tokens"],
                do_sample=bool(request["temperature"]),
                streamer=_Sender(send),
                **options,
            )


class _Sender:
    """What `generate` calls with the prompt first, then with every new block of tokens."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    def put(self, tokens: Any) -> None:
        if self._begun:
            self._send(tokens.reshape(-1).tolist())
        self._begun = True

    def end(self) -> None:
        """The end is sent by the server."""


class LlamaCpp:
    """llama.cpp through its Python binding: a token at a time, or with prompt look-up."""

    def __init__(self, target: str) -> None:
        import llama_cpp
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        options: dict[str, Any] = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
        look_up = LlamaPromptLookupDecoding(num_pred_tokens=10)
        self._models = {
            "plain": llama_cpp.Llama(target, **options),
            "prompt look-up": llama_cpp.Llama(target, draft_model=look_up, logits_all=True, **options),
        }

    def stream(self, request: Request, send: Send) -> None:
        model = self._models[request["method"]]
        model.reset()
        model.set_seed(request["seed"])
        tokens = model.generate(request["prompt"], top_k=0, top_p=1.0, min_p=0.0, temp=request["temperature"])
        for _, token in zip(range(request["max_new_tokens"]), tokens):  # noqa: B905 - it generates for ever
            send([token])


def main() -> None:
    name, *models = sys.argv[1:]
    engine = Transformers(*models) if name == "transformers" else LlamaCpp(*models)

    class Connection(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True
        wbufsize = 0

        def handle(self) -> None:
            for line in self.rfile:
                engine.stream(json.loads(line), lambda tokens: self._say({"tokens": tokens}))
                self._say({"end": True})

        def _say(self, answer: dict[str, Any]) -> None:
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


def _end_with_stdin() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
