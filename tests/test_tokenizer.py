"""The edge's tokenizer: ids, the vocabulary's hash, chat templates as in transformers, bad folders refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from edgespec.core.errors import EdgespecError
from edgespec.core.text_stream import TextStream
from edgespec.core.tokenizer import Tokenizer, vocabulary_hash

LINES = ["def add(a, b):\n    return a + b\n", "naïve café — 12 €\n", "emoji 😀😀 and 日本語\n"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('only user and assistant') }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] | tojson }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def core() -> Core:
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(LINES, trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return core


@pytest.fixture
def folder(core: Core, tmp_path: Path) -> Path:
    core.save(str(tmp_path / "tokenizer.json"))
    config = {
        "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": "</s>"},
        "chat_template": TEMPLATE,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_text_survives_encoding_and_streaming(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    for line in LINES:
        ids = tokenizer.encode(line, add_special_tokens=False)
        assert tokenizer.decode(ids) == line
        stream = TextStream(tokenizer.decode)
        assert "".join(stream.push([token]).text for token in ids) + stream.flush() == line


def test_a_text_that_is_no_unicode_is_refused_in_a_sentence(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    for encode in (tokenizer.encode, lambda text: tokenizer.encode_behind(text, 0)):
        with pytest.raises(EdgespecError, match="half of a surrogate pair"):
            encode("a\ud800b")


def test_special_tokens_come_first_where_asked_and_never_show(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.encode("a")[0] == 0
    assert tokenizer.encode("a", add_special_tokens=False) == tokenizer.encode("a")[1:]
    assert tokenizer.decode([0, *tokenizer.encode("a"), 1]) == "a"


def test_a_truncating_tokenizer_file_does_not_cut_prompts(core: Core, tmp_path: Path) -> None:
    core.enable_truncation(4)
    core.save(str(tmp_path / "tokenizer.json"))
    assert len(Tokenizer.load(tmp_path).encode("word " * 50)) > 40


def test_the_vocabulary_hash_is_of_id_and_token_lines(core: Core, folder: Path) -> None:
    lines = sorted((token_id, token) for token, token_id in core.get_vocab().items())
    expected = hashlib.sha256("".join(f"{i}\t{token}\n" for i, token in lines).encode()).digest()
    assert Tokenizer.load(folder).vocabulary_hash == vocabulary_hash(core) == expected
    core.add_tokens(["extra"])
    assert vocabulary_hash(core) != expected


def test_a_chat_reads_as_transformers_renders_it(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            json.loads((folder / "tokenizer_config.json").read_text())
            | {"tokenizer_class": "PreTrainedTokenizerFast"}
        )
    )
    messages = [{"role": "user", "content": "é <b>"}, {"role": "assistant", "content": "x"}]
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for prompt in (True, False):
        expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert Tokenizer.load(folder).chat(messages, add_generation_prompt=prompt) == expected


@pytest.mark.parametrize("where", ["list", "file"])
def test_a_template_may_be_one_of_a_list_or_a_file(folder: Path, where: str) -> None:
    template = "{% for m in messages %}{% generation %}[{{ m.content }}]{% endgeneration %}{% endfor %}"
    if where == "list":
        named = [{"name": "tools", "template": "no"}, {"name": "default", "template": template}]
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    else:
        (folder / "chat_template.jinja").write_text(template)
    assert Tokenizer.load(folder).chat([{"role": "user", "content": "hi"}]) == "[hi]"


@pytest.mark.parametrize(
    ("template", "role"),
    [
        (TEMPLATE, "system"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "user"),
        ("{{ messages.append(1) }}", "user"),
        ("{% if %}", "user"),
    ],
    ids=["refused by itself", "escape", "changes its input", "syntax"],
)
def test_a_template_that_cannot_be_rendered_is_one_sentence(folder: Path, template: str, role: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(EdgespecError, match="chat template"):
        Tokenizer.load(folder).chat([{"role": role, "content": "x"}])


def test_end_tokens_are_the_generation_configs_then_the_models_then_eos(folder: Path) -> None:
    assert Tokenizer.load(folder).end_tokens == (1,)
    (folder / "config.json").write_text('{"eos_token_id": 7}')
    assert Tokenizer.load(folder).end_tokens == (7,)
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    assert Tokenizer.load(folder).end_tokens == (5, 6)


def test_bad_folders_are_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="no folder"):
        Tokenizer.load(tmp_path / "nowhere")
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(EdgespecError, match="not JSON"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(EdgespecError, match="not a tokenizer"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EdgespecError, match=r"no tokenizer\.json"):
        Tokenizer.load(folder)


def test_a_model_without_a_template_says_so(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(EdgespecError, match="no chat template"):
        Tokenizer.load(folder).chat([{"role": "user", "content": "x"}])


def test_the_encoding_hash_knows_what_begins_a_text_and_not_how_long_it_may_be(
    core: Core, folder: Path
) -> None:
    before = Tokenizer.load(folder)
    core.enable_truncation(4)
    core.save(str(folder / "tokenizer.json"))
    assert Tokenizer.load(folder).encoding_hash == before.encoding_hash
    core.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    core.save(str(folder / "tokenizer.json"))
    after = Tokenizer.load(folder)
    assert after.vocabulary_hash == before.vocabulary_hash
    assert after.encoding_hash != before.encoding_hash
