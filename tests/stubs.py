"""Stand-ins for the models, so that real sessions and servers run in milliseconds.

Both read each row's text back out of the slots that the piece says it attends to: a wrong mask, slot or position
gives a wrong text. A scripted model decides what they answer.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scripted_models import VOCABULARY, HashModel

from edgespec.core.params import SamplingParams
from edgespec.core.slots import Piece
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.policy import Policy
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.edge.text_session import TextSession
from edgespec.engines.model_folder import PAIR_FOLDER
from edgespec.kernels.data import Curves
from edgespec.model.hints import ListenedRows
from edgespec.model.target_engine import Decisions, ExitRows, ForwardRequest, TopTokens
from edgespec.server.server import Server
from edgespec.server.server_drafter import ServerDrafter
from edgespec.server.server_session import ServerDrafters
from edgespec.server.settings import ServerSettings

MARGIN_IS_PROBABILITY = Curves(np.array([[0, 1]], np.float32), np.array([[0, 1]], np.float32), (0.0,))
VOCABULARY_HASH = hashlib.sha256(b"stub").digest()
ENGINE_FACTS: dict[str, Any] = {
    "target_id": "stub",
    "vocabulary_hash": VOCABULARY_HASH,
    "vocabulary_size": VOCABULARY,
    "context_length": 512,
    "end_tokens": (),
    "tokenizer_path": None,
    "layers": 4,
}
"""Of another engine's target."""


class SlotMemory:
    """What each slot of a cache holds."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[int, int]] = {}

    @property
    def bytes(self) -> int:
        return 8 * len(self.held)

    @property
    def slots(self) -> int:
        return len(self.held)

    def reserve(self, slots: int) -> None:
        """There is room for everything."""

    def adopt(self, tokens: Sequence[int], pictures: Sequence[Any] = (), salt: bytes = b"") -> int:
        return 0

    def publish(self, tokens: Sequence[int], pictures: Sequence[Any] = (), salt: bytes = b"") -> None:
        """Nobody adopts."""

    def release(self) -> None:
        self.held.clear()

    def texts(self, piece: Piece) -> list[list[int]]:
        """Each row's text, its own token the last."""
        own = list(zip(piece.positions.tolist(), piece.tokens.tolist(), strict=True))
        texts = []
        for row in range(len(piece)):
            seen = [self.held[int(slot)] for slot in piece.cached[row].nonzero()[0]]
            seen += [own[other] for other in piece.among[row].nonzero()[0]]
            positions, tokens = zip(*sorted(seen), strict=True)
            assert positions == tuple(range(own[row][0] + 1)), "a row does not see one token at each position"
            texts.append(list(tokens))
        self.held.update(zip(piece.slots.tolist(), own, strict=True))
        return texts


class StubTarget:
    """A target that answers as a scripted model does. `before_forward` runs first, to hold a forward or to fail it."""

    layers = 12
    vocabulary_size = VOCABULARY
    context_length = 512
    end_tokens: tuple[int, ...] = ()
    vocabulary_hash = VOCABULARY_HASH
    tokenizer_path = None
    target_id = "stub"
    exit_layers = (4, 8)
    trees = True
    picture_format = None
    whole_pictures = False

    def __init__(
        self, scripted: HashModel | None = None, before_forward: Callable[[], None] = lambda: None
    ) -> None:
        self.scripted = scripted or HashModel()
        self.before_forward = before_forward
        self.forwards: list[int] = []

    forward_cost = None
    hint_cells = None

    def open_cache(self, capacity: int) -> SlotMemory:
        return SlotMemory()

    def forward_batch(
        self, parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Any]:
        self.before_forward()
        self.forwards.append(sum(len(part.piece) for part in parts))
        return [self._forward(part) for part in parts]

    def _forward(self, part: ForwardRequest) -> Any:
        all_texts = part.cache.texts(part.piece)  # type: ignore[attr-defined]
        texts = [all_texts[row] for row in part.decide]
        if part.on_exit is not None:
            for layer in self.exit_layers:
                part.on_exit(_exit_rows(part, [self.scripted.exit(text, layer) for text in texts], layer))
        tokens = np.array([self.scripted.target(text) for text in texts], dtype=np.int32)
        logprobs = -tokens.astype(np.float32)
        top = None
        if (count := part.sampling.top_logprobs) > 0:
            below = np.arange(count)
            top = TopTokens((tokens[:, None] + below).astype(np.int32), logprobs[:, None] - below)
        path = np.array(part.tree.walk(tokens.tolist()), np.int32)
        return Decisions(tokens, logprobs, -logprobs, path, top)


OWN = Tokenizer.load(PAIR_FOLDER / "draft")


class TargetWithTokenizer(StubTarget):
    """A stub that offers the bundled pair's tokenizer."""

    tokenizer_path = OWN.path  # type: ignore[assignment]
    vocabulary_hash = OWN.vocabulary_hash
    vocabulary_size = OWN.vocabulary_size


def _exit_rows(part: ForwardRequest, rows: list[tuple[int, float]], layer: int) -> ExitRows:
    """What an exit says whose margins are its probabilities."""
    tokens = np.array([token for token, _ in rows], dtype=np.int32)
    probabilities = np.array([probability for _, probability in rows], dtype=np.float32)
    return ExitRows(
        layer,
        tokens,
        probabilities,
        ListenedRows.of([part]).hints(tokens, probabilities, MARGIN_IS_PROBABILITY)[0],
    )


class StubDraft:
    """A draft engine that answers as a scripted model does; its calibration returns the scripted probabilities."""

    capacity = 600
    choices = 2
    vocabulary_size = VOCABULARY
    vocabulary_hash = VOCABULARY_HASH
    tokenizer_path = Path("unused")
    eyes = None

    def __init__(self, scripted: HashModel | None = None) -> None:
        self.scripted = scripted or HashModel()
        self.runs = 0
        self.reset()

    @property
    def calibration(self) -> Any:
        return SimpleNamespace(
            probability=lambda margin, temperature, rank: (
                np.asarray(margin) if rank == 0 else 0.1 * np.ones_like(margin)
            )
        )

    def reset(self) -> None:
        self.memory = SlotMemory()

    def twin(self) -> "StubDraft":
        return type(self)(self.scripted)

    def run(
        self, piece: Piece, noise: Any, noise_rows: Any, inverse_temperature: float, decide: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        self.runs += 1
        texts = self.memory.texts(piece)
        found = [self.scripted.draft(texts[row]) for row in decide]
        tokens = np.array([tokens for tokens, _ in found], dtype=np.int32).reshape(len(found), self.choices)
        scores = np.array([[probabilities[0], 0.0] for _, probabilities in found], dtype=np.float32)
        return tokens, scores.reshape(len(found), self.choices)


def hosted(scripted: HashModel, draft: type[StubDraft] = StubDraft) -> ServerDrafters:
    """ServerDrafters that draft as the scripted model does."""

    def server_drafter(
        text: Sequence[int], params: SamplingParams, seed: int, max_new_tokens: int, holder: str
    ) -> ServerDrafter:
        drafter = Drafter(draft(scripted), params.temperature, seed, VOCABULARY)  # type: ignore[arg-type]
        return ServerDrafter(drafter, text, max_new_tokens)

    return server_drafter


class StubTokenizer:
    """Letters: token id -> a character and back."""

    vocabulary_hash = VOCABULARY_HASH
    end_tokens: tuple[int, ...] = ()
    special_texts: Mapping[int, str] = {}
    vocabulary_size = 1 << 20

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) - 65 for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(token + 65) for token in tokens)


def stub_session(
    *ports: int,
    scripted: HashModel,
    mode: str | Policy = "sync",
    draft: Any = None,
    max_new_tokens: int = 40,
    params: Mapping[str, Any] | None = None,
    **options: Any,
) -> Session:
    """A session with servers on these ports, whose draft answers as `scripted` says; options: of `Session`."""
    return Session(
        [("127.0.0.1", port) for port in ports],
        draft=draft or StubDraft(scripted),
        params=SamplingParams(**{"max_new_tokens": max_new_tokens, "seed": 1, **(params or {})}),
        mode=mode,
        tokenizer=StubTokenizer(),  # type: ignore[arg-type]
        **options,
    )


def play(session: TextSession, prompt: Sequence[int]) -> list[Step]:
    """The steps of a whole text."""
    session.prompt(prompt)
    return list(session)


@contextmanager
def serving(target: Any, port: int = 0, **options: Any) -> Iterator[Server]:
    """A server in a thread of this process, on a free port of the loopback or on the one given."""
    server = Server(target, port=port, settings=ServerSettings(**options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
