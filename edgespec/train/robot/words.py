"""The driving pair's tokenizer and prompts, in the form of Qwen2-VL's chat template."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, pre_tokenizers

from edgespec.train import tokenizer as bpe

PADDING, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SPECIAL = (PADDING, START, END, VISION_START, VISION_END, IMAGE, VIDEO)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


PIECES = r" ?[A-Za-z]+| ?[0-9]+|[.;,:]| ?[^\sA-Za-z0-9.;,:]+|\s+"
"""A word or a whole number with the space before it is at most one token."""

VOCABULARY_SIZE = 448


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE of these texts."""
    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return bpe.byte_level_bpe(texts, pieces, VOCABULARY_SIZE, list(SPECIAL))


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json as transformers expects them."""
    names = {"eos_token": END, "pad_token": PADDING}
    bpe.save_tokenizer(tokenizer, folder, context_length, CHAT_TEMPLATE, names)


def prompt_text(request: str, cells: int) -> str:
    """What the chat template makes of a request and a picture that has this number of cells."""
    picture = f"{VISION_START}{IMAGE * cells}{VISION_END}"
    return f"{START}user\n{picture}{request}{END}\n{START}assistant\n"


def prompt_words() -> list[str]:
    """The words of every prompt, for the tokenizer to learn."""
    return ["user", "assistant"] * 100
