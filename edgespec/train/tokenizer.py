"""The pair's tokenizer: byte-level BPE in Hugging Face's folder format.

It gives back any text byte for byte. <|endoftext|> stands between documents and ends a text; the
chat template is made of plain text, so that a model of source code needs no tokens of its own for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
SPECIAL_TOKENS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
VOCABULARY_SIZE = 4096

CHAT_TEMPLATE = (
    "{% for message in messages %}# {{ message['role'] }}:\n{{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}# assistant:\n{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> Tokenizer:
    """Learn a byte-level BPE of at most `vocabulary_size` tokens; token 0 is <|endoftext|>."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return byte_level_bpe(texts, pieces, vocabulary_size, [END_OF_TEXT])


def byte_level_bpe(
    texts: Iterable[str], pieces: pre_tokenizers.PreTokenizer, vocabulary_size: int, special: list[str]
) -> Tokenizer:
    """Learn a byte-level BPE whose first tokens are `special`. pieces: cuts a text into what a token may be part of."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(
    tokenizer: Tokenizer,
    folder: Path,
    context_length: int,
    chat_template: str = CHAT_TEMPLATE,
    special: Mapping[str, str] = SPECIAL_TOKENS,
) -> None:
    """Write tokenizer.json and tokenizer_config.json as transformers expects them. special: name -> token."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
        "chat_template": chat_template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
