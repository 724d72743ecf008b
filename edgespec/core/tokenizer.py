"""The tokenizer on the edge: text <-> token ids by the `tokenizers` library alone, and the model's chat template.

A folder holds `tokenizer.json` and, as Hugging Face models have them, `tokenizer_config.json`, `chat_template.jinja`
and `generation_config.json` or `config.json`. Draft and target must agree on the vocabulary: `vocabulary_hash` is what
the two sides compare when they meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from edgespec.core.chat_template import render_chat
from edgespec.core.errors import EdgespecError
from edgespec.core.json_files import read_object

MOST_BYTES = 256 << 20
"""Of a tokenizer's file."""

MEND = "mend it or save the tokenizer again"


def vocabulary_hash(tokenizer: tokenizers.Tokenizer) -> bytes:
    """32 bytes: sha256 over the lines "id TAB token LF" of the vocabulary and its added tokens, by rising id, UTF-8."""
    digest = hashlib.sha256()
    for token, token_id in sorted(
        tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[::-1]
    ):
        digest.update(f"{token_id}\t{token}\n".encode("utf-8", errors="surrogatepass"))
    return digest.digest()


class Tokenizer:
    """A model's tokenizer. `Tokenizer.load(folder)` makes one."""

    def __init__(
        self,
        core: tokenizers.Tokenizer,
        *,
        chat_template: str | None = None,
        special_tokens: Mapping[str, str] | None = None,
        end_tokens: Sequence[int] = (),
        path: Path | None = None,
    ) -> None:
        core.no_truncation()
        core.no_padding()
        self._core = core
        self.chat_template = chat_template
        self.special_tokens = dict(special_tokens or {})
        self.end_tokens = tuple(end_tokens)
        self.path = path

    @classmethod
    def load(cls, folder: str | Path, end_tokens: Sequence[int] | None = None) -> Tokenizer:
        """Read a model's or an engine's folder (or its tokenizer.json itself). end_tokens: those that end a text; None:
        as the folder says. Raises EdgespecError."""
        path = Path(folder)
        file = path if path.is_file() else path / "tokenizer.json"
        if not path.exists():
            raise EdgespecError(f"there is no folder {path}: give the folder of a model or an engine.")
        if not file.is_file():
            raise EdgespecError(
                f"{path} holds no tokenizer.json: save the model's fast tokenizer there "
                "(transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder))."
            )
        if file.stat().st_size > MOST_BYTES:
            raise EdgespecError(f"{file} has {file.stat().st_size} bytes, and {MOST_BYTES} are read at most.")
        try:
            core = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # what the library raises
            raise EdgespecError(
                f"{file} is not a tokenizer that can be read ({error}): save it again."
            ) from None
        config = read_object(file.parent / "tokenizer_config.json", MEND)
        special_tokens = _special_tokens(config)
        return cls(
            core,
            chat_template=_chat_template(file.parent, config),
            special_tokens=special_tokens,
            end_tokens=_end_tokens(file.parent, core, special_tokens) if end_tokens is None else end_tokens,
            path=file,
        )

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The text's ids. add_special_tokens: as the tokenizer does for a new text (a first BOS, where it has one).
        Raises EdgespecError for a text that is not Unicode."""
        ids: list[int] = self._encoding(text, add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The ids' text without special tokens; a cut-off UTF-8 sequence shows as U+FFFD."""
        text: str = self._core.decode(list(ids), skip_special_tokens=True)
        return text

    @property
    def core(self) -> tokenizers.Tokenizer:
        """The library's own."""
        return self._core

    @cached_property
    def encoding_hash(self) -> str:
        """SHA-256, hex digits, of everything that decides how text is encoded."""
        settings = json.loads(self._core.to_str()) | {"truncation": None, "padding": None}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @cached_property
    def special_texts(self) -> dict[int, str]:
        """The special tokens' texts by id: what `decode` leaves out."""
        added = self._core.get_added_tokens_decoder().items()
        return {token_id: token.content for token_id, token in added if token.special}

    def encode_behind(self, text: str, start: int) -> list[int]:
        """The ids of the whole text, without special tokens of a new text, from character `start` on."""
        encoding = self._encoding(text, add_special_tokens=False)
        return [
            token for token, (first, _) in zip(encoding.ids, encoding.offsets, strict=True) if first >= start
        ]

    def _encoding(self, text: str, add_special_tokens: bool) -> tokenizers.Encoding:
        try:  # `encode` would keep other threads waiting
            [encoding] = self._core.encode_batch([text], add_special_tokens=add_special_tokens)
        except TypeError:
            raise EdgespecError(
                "the text has half of a surrogate pair, which is no character: leave it out."
            ) from None
        return encoding

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """The prompt of a chat of {"role", "content"} messages; encode it with `add_special_tokens=False`.

        tools: functions that the model may call, as OpenAI's API describes them. variables: what else the template
        knows, such as enable_thinking. Raises EdgespecError where the model has no chat template, or its template
        refuses the messages.
        """
        if self.chat_template is None:
            raise EdgespecError(
                "this model has no chat template: put a chat_template.jinja beside its tokenizer.json."
            )
        known = {"tools": tools, **variables}
        return render_chat(self.chat_template, messages, add_generation_prompt, self.special_tokens, known)

    @property
    def vocabulary_size(self) -> int:
        return int(self._core.get_vocab_size(with_added_tokens=True))

    @cached_property
    def vocabulary_hash(self) -> bytes:
        return vocabulary_hash(self._core)


def prompt_tokens(
    tokenizer: Tokenizer, prompt: str | Sequence[int], begins: bool, vocabulary_size: int
) -> list[int]:
    """The token ids of a prompt, which may be ids already. begins: special tokens that begin a text are added.

    Raises EdgespecError when there is none, or one outside the vocabulary of that size.
    """
    encoded = tokenizer.encode(prompt, add_special_tokens=begins) if isinstance(prompt, str) else prompt
    tokens = [int(token) for token in encoded]
    if not tokens:
        raise EdgespecError("the prompt is empty: give at least one token.")
    if not all(0 <= token < vocabulary_size for token in tokens):
        raise EdgespecError(f"the prompt holds token ids outside 0 to {vocabulary_size - 1}.")
    return tokens


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of the special tokens that tokenizer_config.json names (as text, or as an object with `content`)."""
    texts = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            texts[name] = text
    return texts


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, else tokenizer_config.json's chat_template: one text, or a list of named ones."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EdgespecError(f"{file} is no text ({error}): {MEND}.") from None
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _end_tokens(
    folder: Path, core: tokenizers.Tokenizer, special_tokens: Mapping[str, str]
) -> tuple[int, ...]:
    """The ids that end a text: the generation config's, the model config's, or the tokenizer's own eos_token."""
    for name in ("generation_config.json", "config.json"):
        ids = read_object(folder / name, MEND).get("eos_token_id")
        if isinstance(ids, int):
            return (ids,)
        if isinstance(ids, list) and ids:
            return tuple(int(token) for token in ids)
    end = core.token_to_id(special_tokens["eos_token"]) if "eos_token" in special_tokens else None
    return () if end is None else (end,)
