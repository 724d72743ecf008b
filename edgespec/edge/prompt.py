"""A prompt as tokens and pictures: a text, token ids, parts (texts and pictures), or the messages of a chat."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgespec.core.errors import EdgespecError
from edgespec.core.picture_section import SentPicture
from edgespec.core.pictures import PictureFormat
from edgespec.core.tokenizer import Tokenizer, prompt_tokens
from edgespec.edge.picture import fitted, is_picture


@dataclass(frozen=True)
class Chat:
    """messages: {"role", "content"}, where content is a text or a list of {"type": "text", "text": ...}, {"type":
    "image", "image": ...} and {"type": "image_url", ...} parts. tools: as `Tokenizer.chat` takes them."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None


Prompt = str | Sequence[Any] | Chat
"""A text; token ids; texts and pictures; or a chat, which may be its messages alone."""

ALL_FILES_BYTES = 900 * 1024
"""Of a session's pictures together: its OPEN, of 1 MiB at most, holds all of them where it begins anew."""


@dataclass(frozen=True)
class ReadPrompt:
    tokens: list[int]
    pictures: list[SentPicture]


@dataclass(frozen=True)
class PromptReader:
    """form: how the target takes pictures; None: it takes none. vocabulary_size: of the target."""

    tokenizer: Tokenizer
    form: PictureFormat | None
    vocabulary_size: int

    def read(self, prompt: Prompt, begins: bool, first: int) -> ReadPrompt:
        """begins: special tokens that begin a text are added. first: where in the text the prompt stands. Raises
        EdgespecError."""
        if isinstance(prompt, Chat):
            return self._chat(prompt, first)
        if not isinstance(prompt, str) and len(prompt):
            parts: Sequence[Any] = prompt
            if isinstance(parts[0], Mapping):
                return self._chat(Chat(parts), first)
            if isinstance(prompt[0], str) or is_picture(prompt[0]):
                return self._parts(prompt, begins, first)
        return ReadPrompt(prompt_tokens(self.tokenizer, prompt, begins, self.vocabulary_size), [])

    def _parts(self, parts: Sequence[Any], begins: bool, first: int) -> ReadPrompt:
        tokens = self.tokenizer.encode("", add_special_tokens=True) if begins else []
        pictures: list[SentPicture] = []
        for part in parts:
            if isinstance(part, str):
                tokens += self.tokenizer.encode(part, add_special_tokens=False)
            elif is_picture(part):
                form = self._form()
                tokens += form.before
                picture = fitted(part, form, first + len(tokens))
                tokens += [form.placeholder] * picture.span.rows + list(form.after)
                pictures.append(picture)
            else:
                raise EdgespecError(f"a part of a prompt is a text or a picture, not {type(part).__name__}.")
        return self._checked(tokens, pictures)

    def _chat(self, chat: Chat, first: int) -> ReadPrompt:
        sources = [source for message in chat.messages for source in _sources(message)]
        if not sources:
            plain = [_plain(message, None) for message in chat.messages]
            return self._checked(self._rendered(plain, chat), [])
        return self._with_pictures(self._marked(chat, len(sources)), sources, first)

    def _rendered(self, messages: Sequence[Mapping[str, Any]], chat: Chat) -> list[int]:
        text = self.tokenizer.chat(messages, tools=chat.tools)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _marked(self, chat: Chat, count: int) -> list[int]:
        """The rendered messages' tokens with one mark a picture: as the template writes it, or as it stands in a text
        where the template knows no pictures."""
        form = self._form()
        mark = self.tokenizer.special_texts.get(form.mark)
        attempts = [[_parted(message) for message in chat.messages]]
        if mark is not None:
            attempts.append([_plain(message, mark) for message in chat.messages])
        trouble = EdgespecError(
            "the chat template leaves pictures out: pass a list of texts and pictures instead."
        )
        for attempt in attempts:
            try:
                tokens = self._rendered(attempt, chat)
            except EdgespecError as error:
                trouble = error
                continue
            if tokens.count(form.mark) == count:
                return tokens
        raise trouble

    def _with_pictures(self, marked: Sequence[int], sources: Sequence[Any], first: int) -> ReadPrompt:
        """Each mark replaced by its picture's rows, and by what stands around them, where that is not there yet."""
        form, tokens = self._form(), list[int]()
        pictures: list[SentPicture] = []
        before, after = list(form.before), list(form.after)
        for at, token in enumerate(marked):
            if token != form.mark:
                tokens.append(token)
                continue
            bare = (
                marked[max(0, at - len(before)) : at] != before
                or marked[at + 1 : at + 1 + len(after)] != after
            )
            tokens += before if bare else []
            picture = fitted(sources[len(pictures)], form, first + len(tokens))
            pictures.append(picture)
            tokens += [form.placeholder] * picture.span.rows + (after if bare else [])
        return self._checked(tokens, pictures)

    def _form(self) -> PictureFormat:
        if self.form is None:
            raise EdgespecError(
                "this model reads no pictures: leave them out, or take a server of one that does."
            )
        return self.form

    def _checked(self, tokens: list[int], pictures: list[SentPicture]) -> ReadPrompt:
        return ReadPrompt(prompt_tokens(self.tokenizer, tokens, False, self.vocabulary_size), pictures)


def check_pictures(pictures: Sequence[SentPicture], form: PictureFormat | None) -> None:
    """All pictures of a session. Raises EdgespecError where they are too many, or too large together."""
    size = sum(len(picture.file) for picture in pictures)
    if size > ALL_FILES_BYTES:
        raise EdgespecError(
            f"the session's pictures take {size} bytes, and may take {ALL_FILES_BYTES} together: send fewer or smaller "
            "ones."
        )
    if form is not None and len(pictures) > form.max_pictures:
        raise EdgespecError(
            f"a session may have {form.max_pictures} pictures, not {len(pictures)}: begin a new one."
        )


def _parts_of(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        yield from content


def _sources(message: Mapping[str, Any]) -> Iterator[Any]:
    """The pictures of one message."""
    for part in _parts_of(message):
        kind = part.get("type")
        if kind == "image":
            yield part.get("image")
        elif kind == "image_url":
            url = part.get("image_url")
            yield data_url(url.get("url") if isinstance(url, Mapping) else url)
        elif kind != "text":
            raise EdgespecError(f"a message's part is text, image or image_url, not {kind!r}.")


def _parted(message: Mapping[str, Any]) -> dict[str, Any]:
    """As templates that know pictures take it."""
    parts = [
        {"type": "text", "text": part["text"]} if part.get("type") == "text" else {"type": "image"}
        for part in _parts_of(message)
    ]
    content = message.get("content")
    return {**message, "content": parts or [{"type": "text", "text": content}]}


def _plain(message: Mapping[str, Any], mark: str | None) -> dict[str, Any]:
    """With one text as content, in which `mark` stands for a picture."""
    texts = [part["text"] if part.get("type") == "text" else mark or "" for part in _parts_of(message)]
    return {**message, "content": "".join(texts)} if texts else dict(message)


def data_url(url: object) -> bytes:
    """The file in a `data:` URL. Raises EdgespecError; other URLs are never fetched."""
    if not isinstance(url, str) or not url.startswith("data:"):
        raise EdgespecError("a picture's URL must be a data: URL: other URLs are not fetched.")
    head, _, content = url.partition(",")
    if not head.endswith(";base64"):
        raise EdgespecError("a picture's data: URL must be in base64.")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise EdgespecError("a picture's data: URL is not base64.") from None
