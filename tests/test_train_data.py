"""What training reads: text, JSONL and parquet; what it holds out; what it refuses, in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from trainable import chat_rows, save_target, sentence

from edgespec.cli.train import train
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.model.target import Target
from edgespec.train.answers import answer, answered, questions, read_answers
from edgespec.train.data import records, row
from edgespec.train.material import gather


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_target(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def tokenizer(target: Path) -> Tokenizer:
    return Tokenizer.load(target)


def lines(file: Path, *rows: object) -> Path:
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows))
    return file


def test_rows_of_every_kind_become_a_prompt_and_an_answer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good day"}]
    file = lines(
        tmp_path / "rows.jsonl",
        {"text": "The doors"},
        {"prompt": "The ", "completion": "gardens"},
        {"messages": talk},
        {"messages": talk[:1]},
        {"prompt": talk[:1], "completion": talk[1:]},
        {"prompt_tokens": [5, 6], "answer_tokens": [7]},
        {"other": 1},
        "no JSON",
    )
    found = [row(fields, tokenizer) for _, fields in records([file])]
    texts = [
        None if one is None else (tokenizer.decode(one.prompt), tokenizer.decode(one.answer)) for one in found
    ]
    assert texts[:2] == [("", "The doors"), ("The ", "gardens")]
    assert texts[2] == texts[4] == ("<user>Hi<assistant>", "Good day")
    assert texts[3] == ("<user>Hi<assistant>", "")
    assert found[5] is not None and (found[5].prompt, found[5].answer) == ([5, 6], [7])
    assert found[6:] == [None, None]


def test_parquet_is_read_as_jsonl_is(tmp_path: Path, tokenizer: Tokenizer) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [json.loads(line) for line in chat_rows(tmp_path / "chat.jsonl", 5).read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "chat.parquet")
    found = [
        [row(fields, tokenizer) for _, fields in records([tmp_path / f"chat.{kind}"])]
        for kind in ("jsonl", "parquet")
    ]
    assert found[0] == found[1] and None not in found[0]


def test_folders_are_read_whole_without_hidden_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".git").mkdir(parents=True)
    for name, content in {
        "one.md": b"one",
        "deep/two.txt": "zwei \u00fc".encode(),
        "deep/.git/config": b"hidden",
        "picture.png": b"\x89PNG\x00",
        "latin.txt": b"\xfc\xfc",
    }.items():
        (tmp_path / name).write_bytes(content)
    assert sorted(name for name, _ in records([tmp_path])) == ["deep/two.txt", "one.md"]


def test_only_answers_are_learnt_and_some_prompts_are_held_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    data = chat_rows(tmp_path / "chat.jsonl", 60)
    material = gather(records([data]), tokenizer, tmp_path, 1_000_000)
    stream = material.stream
    learnt = tokenizer.decode(stream.tokens[stream.learnt].tolist())
    assert "What of" not in learnt and learnt.count("stand beside") > 40
    held_out = {tokenizer.decode(prompt) for prompt in material.prompts}
    asked = tokenizer.decode(stream.tokens[~stream.learnt].tolist())
    assert held_out and not any(prompt in asked for prompt in held_out)
    again = gather(iter(()), tokenizer, tmp_path, 1_000_000)  # nothing is read again
    np.testing.assert_array_equal(again.stream.tokens, stream.tokens)


def test_a_single_text_is_split_too(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "book.txt").write_text("".join(sentence(number) for number in range(100)))
    material = gather(records([tmp_path / "book.txt"]), tokenizer, tmp_path, 1_000_000)
    assert len(material.held_out) >= 64 and len(material.windows(4, 16, 0)) == 4


def test_the_targets_answers_are_those_of_one_at_a_time_and_a_cut_file_goes_on(
    tmp_path: Path, target: Path, tokenizer: Tokenizer
) -> None:
    model = Target.load(target, device="cpu", dtype="float64")
    wanted = questions([[5, 6, 7], list(range(20, 50))], 6, [0.0, 0.8], 1)
    alone = [one for each in wanted for one in answer(model, [each], 10)]
    file = tmp_path / "answers.jsonl"
    assert answered(model, wanted, 10, file, tokenizer, True) == alone
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert answered(model, wanted, 10, file, tokenizer, True) == alone
    assert {one.seed for one in read_answers(file)} == {one.seed for one in wanted}


@pytest.mark.parametrize("stage", ["draft", "exits"])
@pytest.mark.parametrize(
    "content, more, sentence_said",
    [
        ({"other": 1}, [], "holds too little to train on .1 rows, 0 tokens"),
        ({"text": "漢字" * 400}, [], "tokenizer is of another language than the data"),
        (None, ["--target", "nowhere/at/all"], "there is no model folder"),
        (None, ["--device", "toaster"], "device must be auto, cpu or cuda"),
    ],
)
def test_bad_input_is_one_sentence(
    stage: str, content: object, more: list[str], sentence_said: str, target: Path, tmp_path: Path
) -> None:
    data = chat_rows(tmp_path / "data.jsonl") if content is None else lines(tmp_path / "data.jsonl", content)
    named = ["--target", str(target), "--data", str(data), "--out", str(tmp_path / "out"), "--quiet"]
    error = CliRunner().invoke(train, [stage, *named, *more]).exception
    assert isinstance(error, EdgespecError) and "\n" not in str(error)
    with pytest.raises(EdgespecError, match=sentence_said):
        raise error
    assert not (tmp_path / "out").exists()


def test_a_target_without_a_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    target = save_target(tmp_path / "target")
    (target / "tokenizer.json").unlink()
    data = chat_rows(tmp_path / "data.jsonl")
    arguments = ["exits", "--target", str(target), "--data", str(data), "--out", str(tmp_path / "out")]
    error = CliRunner().invoke(train, [*arguments, "--quiet"]).exception
    assert isinstance(error, EdgespecError) and "holds no tokenizer.json" in str(error)


@pytest.mark.parametrize(
    "command, option, said",
    [
        ("exits", ["--layers", "0,9"], "--layers takes numbers from 1 to 3"),
        ("draft", ["--shape", "9x9"], "--shape takes small, medium, wide or LAYERSxWIDTH"),
        ("draft", ["--init", "nowhere"], "holds no draft"),
    ],
)
def test_options_that_do_not_fit_the_target_and_another_runs_folder(
    command: str, option: list[str], said: str, target: Path, tmp_path: Path
) -> None:
    data = chat_rows(tmp_path / "data.jsonl")
    quick = ["--quiet", "--measured", "2", "--new-tokens", "4", "--max-steps", "1", "--device", "cpu"]
    named = ["--target", str(target), "--data", str(data), "--out", str(tmp_path / "out"), *quick]
    error = CliRunner().invoke(train, [command, *named, *option]).exception
    assert isinstance(error, EdgespecError) and said in str(error)
    error = CliRunner().invoke(train, [command, *named, "--seed", "7"]).exception
    assert isinstance(error, EdgespecError) and "is of a run with another --seed" in str(error)
