"""A conversation's tokens are those of the chat template for all its messages, however end tokens and spaces fall."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.conversation import Conversation

SPACED = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[Q] ' + m.content + ' [/Q]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LINES = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% if thinking %} six{% endif %}{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + m.content + ' [/Q]' }}"
    "{% else %}{{ m.content.split('seven')[-1] + eos_token }}{% endif %}{% endfor %}"
)


def tokenizer(folder: Path, template: str) -> Tokenizer:
    """A tokenizer that puts a space before the text, as Llama 2's does."""
    core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    core.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    core.decoder = tokenizers.decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    core.train_from_iterator(["[Q] red green blue [/Q] six seven eight"] * 5, trainer)
    core.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    (folder / "chat_template.jinja").write_text(template)
    return Tokenizer.load(folder)


@pytest.mark.parametrize("template", [SPACED, LINES])
@pytest.mark.parametrize("ended", [True, False], ids=["with its end token", "cut at a length"])
def test_every_turn_has_the_tokens_of_the_whole_conversation(
    template: str, ended: bool, tmp_path: Path
) -> None:
    one = tokenizer(tmp_path, template)
    conversation = Conversation(one)
    messages = [{"role": "user", "content": "red"}]
    text = conversation.next_turn("red", [])
    assert text == one.encode(one.chat(messages), add_special_tokens=False)
    for answer, question in (("six", "blue green"), ("seven eight", "red")):
        messages += [{"role": "assistant", "content": answer}]
        behind = one.encode(one.chat(messages, add_generation_prompt=False), add_special_tokens=False)[
            len(text) :
        ]
        answered = behind[: behind.index(2) + 1] if ended else behind[: behind.index(2)]
        turn = conversation.next_turn(question, answered)
        messages += [{"role": "user", "content": question}]
        text = [*text, *answered, *turn]
        assert text == one.encode(one.chat(messages), add_special_tokens=False)


def test_an_answer_in_other_tokens_is_followed_by_what_stands_behind_it(tmp_path: Path) -> None:
    one = tokenizer(tmp_path, SPACED)
    conversation = Conversation(one)
    conversation.next_turn("red", [])
    letters = [one.encode(letter, add_special_tokens=False)[-1] for letter in "six"]
    turn = conversation.next_turn("blue", [*letters, 2])
    assert turn == one.encode("<s>[Q] blue [/Q]", add_special_tokens=False)
    assert conversation.next_turn("green", letters).count(2) == 1


def test_a_template_that_cuts_answers_is_followed_all_the_same(tmp_path: Path) -> None:
    one = tokenizer(tmp_path, FORGETFUL)
    conversation = Conversation(one)
    conversation.next_turn("red", [])
    answer = [*one.encode(" six seven eight", add_special_tokens=False), 2]
    assert conversation.next_turn("blue", answer) == one.encode("<s>blue [/Q]", add_special_tokens=False)


def test_variables_reach_the_template(tmp_path: Path) -> None:
    one = tokenizer(tmp_path, LINES)
    plain, thinking = (
        Conversation(one, variables=given).next_turn("red", []) for given in ({}, {"thinking": 1})
    )
    assert thinking[: len(plain)] == plain and one.decode(thinking[len(plain) :]).strip() == "six"
