"""edgespec's native layer: sampling noise, the wire format (docs/wire-format.md), sockets.

Arrays of received messages are read-only views of the receive buffer and keep it alive. What waits, waits without the
interpreter's lock. Connections run threads: a process that has one must not fork.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

PROTOCOL_VERSION: int
COMMITTED_BIT: int
HAVE_TLS: bool  # this build has OpenSSL

class BadFrame(ValueError):
    """A frame breaks the protocol, or a message does not fit one."""

class Disconnection(ConnectionError):
    """The connection could not be made, or is gone; the text says why."""

class TlsError(ValueError):
    """A certificate or key cannot be used, or this build has no TLS."""

# Sampling noise

def philox4x32_10(
    counter: tuple[int, int, int, int] | Sequence[int], key: tuple[int, int] | Sequence[int]
) -> list[int]:
    """Philox4x32-10 of a counter (four 32-bit words) under a key (two)."""

def fill_gumbel(
    seed: int, positions: NDArray[np.int32], out: NDArray[np.float32], first_token: int = 0
) -> None:
    """out[p, v] = the Gumbel noise of (seed, positions[p], first_token + v); int32 [P], float32 [P, V].

    The same bits on every machine. Raises ValueError when the shapes do not fit, TypeError on other types of `out`.
    """

# Texts that are looked up for guesses

class TextIndex:
    """What followed the last tokens of a text where they occurred before. An id below 0 ends a text.

    It holds the newest `most_tokens`, rounded down to a power of two, and finds matches of `shortest_match` to
    LONGEST_MATCH tokens.
    """

    LONGEST_MATCH: ClassVar[int]

    def __init__(self, most_tokens: int, shortest_match: int = 1) -> None: ...
    def __len__(self) -> int:
        """Tokens held."""
    def add(self, tokens: list[int]) -> None:
        """The present text goes on with these. Raises ValueError for an id below 0."""
    def add_texts(self, tokens: NDArray[np.int32]) -> None:
        """Many texts at once, int32 [N]; each ends with -1."""
    def end_text(self) -> None:
        """What comes next is another text."""
    def find(self, text: list[int], more: list[int] = ...) -> tuple[int, int, list[tuple[int, int]]]:
        """What followed the end of `text` and `more`: the length of the longest match (0: none), how many there are,
        and the next tokens with their counts, the most frequent first. It looks at the newest 16 matches."""
    def clear(self) -> None: ...
    @property
    def bytes(self) -> int:
        """Memory taken."""
    @staticmethod
    def bytes_per_token(shortest_match: int) -> int: ...

# The CPU kernels, behind edgespec.kernels, which checks values; here only sizes are checked: ValueError.

_Ints: TypeAlias = NDArray[np.int32]
_Floats: TypeAlias = NDArray[np.float32]
_Doubles: TypeAlias = NDArray[np.float64]

def simd_tiers() -> list[str]:
    """The SIMD tiers that this processor runs, the best first: avx512_bf16, avx512, avx2, baseline."""

def exit_head(
    hidden: NDArray[Any],
    norm: NDArray[Any],
    head: NDArray[Any],
    dtype: str,
    temperatures: _Floats,
    seeds: NDArray[np.uint64],
    positions: _Ints,
    epsilon: float,
    logit_scale: float,
    softcap: float,
    threads: int,
    tier: str = "",
) -> tuple[_Ints, _Floats]:
    """Rows [R, D], weights [D], head [V, D]: tokens and margins [R].

    ValueError, TypeError: an argument holds what it may not, or is not of just the type that it is read as.
    """

def verify(
    logits: NDArray[Any],
    dtype: str,
    trees: tuple[_Ints, _Ints, _Ints, _Ints],
    samplings: tuple[_Doubles, _Ints, _Doubles, _Doubles, _Doubles, NDArray[np.uint64]],
    seen: tuple[_Ints, _Ints] | None,
    biases: tuple[_Ints, _Ints, _Floats] | None,
    threads: int,
    as_they_pay: bool,
    tier: str = "",
) -> tuple[_Ints, _Ints, _Ints, _Floats, _Floats]:
    """Logits [R, V] of S trees: lengths [S] and paths; choices, log-probabilities and margins [R].

    as_they_pay: fewer threads where there is little to do.
    ValueError, TypeError: an argument holds what it may not, or is not of just the type that it is read as.
    """

def check_verify(
    rows: int,
    vocabulary: int,
    trees: tuple[_Ints, _Ints, _Ints, _Ints],
    samplings: tuple[_Doubles, _Ints, _Doubles, _Doubles, _Doubles, NDArray[np.uint64]],
    seen: tuple[_Ints, _Ints] | None,
    biases: tuple[_Ints, _Ints, _Floats] | None,
) -> None:
    """The checks of `verify`'s values alone. ValueError names the argument, what is expected and what came."""

# The target's layers on the CPU

class Decoder:
    """The layers of a Llama-family model and its LM head [V, D], in float32 (see csrc/decoder/decoder.hpp).

    layers: for each, lists of float32 matrices (copied) that lie one below the other: queries, keys and values
    [Q + 2 K, D]; the attention's output [D, Q]; gate and up [2 M, D]; the MLP's output [D, M]. Then vectors (kept):
    the norms before attention and MLP [D], and, or None, the biases [Q + 2 K] of the first, the queries' and the
    keys' norms [head_width]. tier: of simd_tiers(), "" the best. ValueError where sizes differ.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        mlp_width: int,
        epsilon: float,
        layers: list[tuple[Any, ...]],
        head: list[_Floats],
        final_norm: _Floats,
        threads: int = 1,
        tier: str = "",
    ) -> None: ...
    def remember_in(self, keys: list[_Floats], values: list[_Floats]) -> None:
        """Keep keys and values in these arrays, one [1, kv_heads, slots, head_width] a layer."""

    def run(
        self,
        first: int,
        last: int,
        hidden: _Floats,
        cos: _Floats,
        sin: _Floats,
        slots: NDArray[np.int64],
        parts: list[tuple[int, int, NDArray[np.uint8], NDArray[np.int64]]],
    ) -> None:
        """Run hidden [R, D] through layers [first, last), in place. cos, sin: [R, head_width]; slots [R]: of the
        memory, where the rows' keys and values go. parts: for each session its first row and the row after its last;
        which of its slots its rows see [rows, W]; and where those are, [n, 3]: slot, slot of the memory, count."""

    def logits(self, hidden: _Floats) -> _Floats:
        """Logits [R, V] of hidden [R, D] after the last layer."""

    def guess(
        self,
        hidden: _Floats,
        norm: _Floats,
        epsilon: float,
        temperatures: _Floats,
        seeds: NDArray[np.uint64],
        positions: _Ints,
    ) -> tuple[_Ints, _Floats]:
        """Tokens [R] and margins [R] of hidden [R, D] read by an exit with this norm [D]: `exit_head` with this LM
        head; token -1 where a row's logits are no numbers."""

# The wire format

class ErrorCode:
    PROTOCOL: ClassVar[ErrorCode]
    VERSION: ClassVar[ErrorCode]
    VOCABULARY: ClassVar[ErrorCode]
    CREDENTIAL: ClassVar[ErrorCode]
    CONTEXT: ClassVar[ErrorCode]
    PARAMETER: ClassVar[ErrorCode]
    UNKNOWN_SESSION: ClassVar[ErrorCode]
    OVERLOADED: ClassVar[ErrorCode]
    INTERNAL: ClassVar[ErrorCode]
    LIMIT: ClassVar[ErrorCode]
    DRAINING: ClassVar[ErrorCode]
    UNKNOWN_PICTURE: ClassVar[ErrorCode]
    __members__: ClassVar[dict[str, ErrorCode]]
    def __init__(self, value: int) -> None: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class FinishReason:
    NONE: ClassVar[FinishReason]
    STOP: ClassVar[FinishReason]
    LENGTH: ClassVar[FinishReason]
    CANCELLED: ClassVar[FinishReason]
    ERROR: ClassVar[FinishReason]
    __members__: ClassVar[dict[str, FinishReason]]
    def __init__(self, value: int) -> None: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class Hello:
    @property
    def channel(self) -> int: ...
    @property
    def version_min(self) -> int: ...
    @property
    def version_max(self) -> int: ...
    @property
    def features(self) -> int: ...
    @property
    def vocabulary_hash(self) -> bytes: ...
    @property
    def agent(self) -> str: ...
    @property
    def credential(self) -> bytes: ...

class Welcome:
    @property
    def channel(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def hosts_draft(self) -> bool: ...
    @property
    def shared_memory(self) -> bool: ...
    @property
    def vocabulary_hash(self) -> bytes: ...
    @property
    def tokenizer_hash(self) -> bytes: ...
    @property
    def context_length(self) -> int: ...
    @property
    def vocabulary_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def exit_layers(self) -> NDArray[np.uint16]: ...
    @property
    def end_tokens(self) -> NDArray[np.int32]: ...
    @property
    def target_id(self) -> str: ...
    @property
    def sampling(self) -> bytes: ...
    @property
    def max_frame_bytes(self) -> int: ...
    @property
    def max_block_nodes(self) -> int: ...
    @property
    def pictures(self) -> bytes: ...

class ServerOptions:
    """What OPEN and TUNE ask of the server; `edgespec.core.server_options` names the flags."""

    def __init__(self, *, flags: int, hint_threshold: float, max_wait_us: int) -> None: ...
    @property
    def flags(self) -> int: ...
    @property
    def hint_threshold(self) -> float: ...
    @property
    def max_wait_us(self) -> int: ...

class Open:
    @property
    def channel(self) -> int: ...
    @property
    def session_id(self) -> bytes: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...
    @property
    def repetition_penalty(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def options(self) -> ServerOptions: ...
    @property
    def logprobs(self) -> bool: ...
    @property
    def ignore_eos(self) -> bool: ...
    @property
    def shared_memory(self) -> bool: ...
    @property
    def latency_us(self) -> int: ...
    @property
    def logit_bias(self) -> list[tuple[int, float]]: ...
    @property
    def sampling(self) -> bytes: ...
    @property
    def pictures(self) -> bytes: ...
    @property
    def tokens(self) -> NDArray[np.int32]: ...

class Append:
    @property
    def channel(self) -> int: ...
    @property
    def keep_length(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def turn(self) -> int: ...
    @property
    def tokens(self) -> NDArray[np.int32]: ...
    @property
    def pictures(self) -> bytes: ...

class Block:
    @property
    def channel(self) -> int: ...
    @property
    def first_node(self) -> int: ...
    @property
    def tokens(self) -> NDArray[np.int32]: ...
    @property
    def parents(self) -> NDArray[np.uint32]: ...
    @property
    def probabilities(self) -> NDArray[np.uint8]: ...

class Hint:
    @property
    def channel(self) -> int: ...
    @property
    def base_length(self) -> int: ...
    @property
    def node(self) -> int: ...
    @property
    def token(self) -> int: ...
    @property
    def confidence(self) -> float: ...
    @property
    def layer(self) -> int: ...
    @property
    def clock_us(self) -> int: ...
    @property
    def turn(self) -> int: ...

class Verdict:
    @property
    def channel(self) -> int: ...
    @property
    def base_length(self) -> int: ...
    @property
    def tokens(self) -> NDArray[np.int32]: ...
    @property
    def logprobs(self) -> NDArray[np.float32] | None: ...
    @property
    def top_tokens(self) -> NDArray[np.int32]: ...
    @property
    def top_logprobs(self) -> NDArray[np.float32] | None: ...
    @property
    def finish(self) -> FinishReason: ...
    @property
    def forwards(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def row_price(self) -> int: ...
    @property
    def forward_us(self) -> int: ...
    @property
    def clock_us(self) -> int: ...
    @property
    def turn(self) -> int: ...

class Resume:
    @property
    def channel(self) -> int: ...
    @property
    def session_id(self) -> bytes: ...
    @property
    def last_sequence(self) -> int: ...

class Close:
    @property
    def channel(self) -> int: ...
    @property
    def reason(self) -> FinishReason: ...

class Goaway:
    @property
    def channel(self) -> int: ...
    @property
    def retry_after_ms(self) -> int: ...
    @property
    def message(self) -> str: ...

class Error:
    @property
    def channel(self) -> int: ...
    @property
    def code(self) -> ErrorCode: ...
    @property
    def retryable(self) -> bool: ...
    @property
    def retry_after_ms(self) -> int: ...
    @property
    def message(self) -> str: ...

class Tune:
    @property
    def channel(self) -> int: ...
    @property
    def options(self) -> ServerOptions: ...

class Fetch:
    @property
    def channel(self) -> int: ...
    @property
    def tokenizer_hash(self) -> bytes: ...
    @property
    def first_byte(self) -> int: ...

class File:
    @property
    def channel(self) -> int: ...
    @property
    def first_byte(self) -> int: ...
    @property
    def total_bytes(self) -> int: ...
    @property
    def content(self) -> bytes: ...

Message: TypeAlias = (
    Hello
    | Welcome
    | Open
    | Append
    | Block
    | Hint
    | Verdict
    | Resume
    | Close
    | Goaway
    | Error
    | Tune
    | Fetch
    | File
)

def decode(frame: bytes) -> Message:
    """The message of one whole frame. Raises BadFrame."""

# The fields of an encode function may also come in the order of docs/wire-format.md. Raise BadFrame, or TypeError and
# ValueError that name the field.

def encode_hello(
    *,
    vocabulary_hash: bytes,
    agent: str,
    credential: bytes = b"",
    features: int = 0,
) -> bytes: ...
def encode_welcome(
    *,
    version: int,
    hosts_draft: bool,
    shared_memory: bool,
    vocabulary_hash: bytes,
    context_length: int,
    vocabulary_size: int,
    layers: int,
    exit_layers: Sequence[int],
    end_tokens: Sequence[int],
    target_id: str,
    max_frame_bytes: int,
    max_block_nodes: int,
    tokenizer_hash: bytes = ...,
    sampling: bytes = b"",
    pictures: bytes = b"",
) -> bytes: ...
def encode_open(
    channel: int,
    *,
    session_id: bytes,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    seed: int,
    max_new_tokens: int,
    logprobs: bool,
    ignore_eos: bool,
    shared_memory: bool,
    options: ServerOptions,
    latency_us: int = 0,
    logit_bias: Sequence[tuple[int, float]],
    tokens: NDArray[np.int32],
    sampling: bytes = b"",
    pictures: bytes = b"",
) -> bytes: ...
def encode_append(
    channel: int,
    keep_length: int,
    max_new_tokens: int,
    turn: int,
    tokens: NDArray[np.int32],
    pictures: bytes = b"",
) -> bytes: ...
def encode_tune(channel: int, options: ServerOptions) -> bytes: ...
def encode_fetch(*, tokenizer_hash: bytes, first_byte: int) -> bytes: ...
def encode_file(*, first_byte: int, total_bytes: int, content: bytes) -> bytes: ...
def encode_block(
    channel: int,
    first_node: int,
    tokens: NDArray[np.int32],
    parents: NDArray[np.uint32],
    probabilities: NDArray[np.uint8],
) -> bytes: ...
def encode_hint(
    channel: int,
    *,
    base_length: int,
    node: int,
    token: int,
    confidence: float,
    layer: int,
    clock_us: int,
    turn: int,
) -> bytes: ...
def encode_verdict(
    channel: int,
    *,
    base_length: int,
    tokens: NDArray[np.int32],
    logprobs: NDArray[np.float32] | None,
    top_tokens: NDArray[np.int32] | None = None,
    top_logprobs: NDArray[np.float32] | None = None,
    finish: FinishReason,
    forwards: int,
    rows: int,
    row_price: int,
    forward_us: int,
    clock_us: int,
    turn: int,
) -> bytes: ...
def encode_resume(channel: int, session_id: bytes, last_sequence: int) -> bytes: ...
def encode_close(channel: int, reason: FinishReason) -> bytes: ...
def encode_error(
    channel: int, code: ErrorCode, retryable: bool, retry_after_ms: int, message: str
) -> bytes: ...
def encode_goaway(retry_after_ms: int = 0, message: str = "") -> bytes: ...

# Sockets

class Tls:
    """One end's certificates, for any number of connections; TLS 1.3 only. Paths of PEM files. Raises TlsError."""

    @staticmethod
    def client(authority: str, certificate: str = "", key: str = "") -> Tls:
        """Trusts servers that `authority` signed for their host name; the certificate is for servers that ask."""
    @staticmethod
    def server(certificate: str, key: str, authority: str = "") -> Tls:
        """With an authority, only edges that it signed are let in."""
    @property
    def handshakes(self) -> int: ...
    @property
    def resumed(self) -> int: ...

class Connected:
    """A connection was accepted."""

    @property
    def address(self) -> str: ...
    @property
    def certificate(self) -> str:
        """The name in the peer's certificate, or nothing."""

class Disconnected:
    """A connection, or a session, is gone."""

    @property
    def reason(self) -> str: ...

class Away:
    """A session's last connection is gone; the session is kept."""

    @property
    def reason(self) -> str: ...

class Returned:
    """A session that was away has a connection again."""

class Batch:
    """What happened: first `others`, then the blocks, each in the order they came.

    Block i is from session numbers[i]: its nodes are nodes[offsets[i] : offsets[i + 1]], with the ids first_nodes[i]
    and up. A large block comes in pieces: following[i] of its nodes are to come. The arrays are a copy, and hold
    nothing of the receive buffers.
    """

    @property
    def others(self) -> list[tuple[int, Message | Connected | Disconnected | Away | Returned]]: ...
    @property
    def numbers(self) -> NDArray[np.uint64]:
        """[B]"""
    @property
    def first_nodes(self) -> NDArray[np.uint32]:
        """[B]"""
    @property
    def following(self) -> NDArray[np.uint32]:
        """[B]"""
    @property
    def offsets(self) -> NDArray[np.int64]:
        """[B + 1]"""
    @property
    def nodes(self) -> NDArray[np.void]:
        """[N], with the fields token (int32), parent (uint32), probability (uint8)."""

class Listener:
    """A listening socket and all of its connections and sessions: one I/O thread, one queue of events."""

    def __init__(
        self,
        host: str,
        port: int,
        backlog: int = 128,
        dead_after_s: float = 3.0,
        slabs: int = 4096,
        tls: Tls | None = None,
        connections: int = 2048,
        connections_of_address: int = 512,
        hello_within_s: float = 5.0,
        frame_within_s: float = 10.0,
        opens: tuple[float, float] = (50.0, 512.0),
        turns: tuple[float, float] = (20.0, 64.0),
        busy_spin: bool = False,
        session_bytes: int = 262144,
        early_frames: int = 256,
        early_bytes: int = 16384,
        tunes: tuple[float, float] = (100.0, 200.0),
        strangers: int = 256,
        strangers_of_address: int = 64,
        arrivals: tuple[float, float] = (100.0, 512.0),
        device_frames: tuple[float, float] = (10000.0, 20000.0),
        queued_bytes: int = 1048576,
    ) -> None:
        """Raises OSError when the address cannot be had. Port 0 takes a free one.

        `connections`: at most, in all and from one address. A HELLO must come within `hello_within_s`, a frame be
        whole within `frame_within_s`. `opens`: sessions begun by one device (or from one address, where nobody says
        who it is), `turns` and `tunes`: APPENDs and TUNEs of one session, `arrivals`: connections from one address;
        each a rate per second and a burst. `device_frames`: beyond it a device's connections are read more slowly.
        `strangers`: connections that have not said HELLO, in all and from one address; a newcomer takes the place of
        the oldest one.
        `busy_spin`: whoever waits for the sockets, a caller or the I/O thread, never sleeps, and takes a core.
        `session_bytes`: sent to a session and not acknowledged, `early_frames` and `early_bytes`: of a session, that
        wait for one before them; more ends the session, or the connection that brought it. `queued_bytes`: of frames
        that wait to be sent over one connection; more ends it.
        """
    def poll(
        self, timeout_s: float | None, max_events: int = 256
    ) -> list[tuple[int, Message | Connected | Disconnected | Away | Returned]]:
        """What happened, with the number of the connection or session; [] when nothing did in time, and after wake()
        or close()."""
    def poll_batch(self, timeout_s: float | None, max_events: int = 1024, max_nodes: int = 65536) -> Batch:
        """As poll(), with the blocks of all sessions in one piece, `max_nodes` in all; devices take turns. A device has
        64 nodes in it at most: a larger block comes in pieces, and the rest waits for the next call. An OPEN or APPEND
        counts as 16 events and one more for each 512 tokens."""
    def welcome(self, connection: int, frame: bytes, identity: bytes) -> bool:
        """Sends a WELCOME; from there on the connection may open sessions, and resume those of `identity`."""
    def send(self, number: int, frame: bytes) -> bool:
        """Queues one whole frame for a connection or session; False when that is gone."""
    def identity(self, session: int) -> bytes | None:
        """Of the edge that opened it, as given to welcome(); None: there is no such session."""
    def rtt_ms(self, session: int) -> float | None:
        """Smoothed, of the connection by which it was heard last; None: not known yet, or no such session."""
    def set_tls(self, tls: Tls) -> None:
        """For connections to come."""
    def disconnect(self, number: int) -> None:
        """Closes a connection once everything queued has left, or forgets a session."""
    def wake(self) -> None:
        """Makes poll() return; for signal handlers and other threads."""
    def close(self) -> None:
        """Closes everything, and waits until what is queued has left, a second at most."""
    @property
    def port(self) -> int: ...
    @property
    def frames_sent(self) -> int:
        """Numbered frames of all sessions, each counted once."""
    @property
    def frames_hedged(self) -> int: ...
    @property
    def frames_resent(self) -> int: ...
    @property
    def repeats_received(self) -> int: ...
    @property
    def leased_bytes(self) -> int:
        """Memory that received messages rest on; `most_leased_bytes` at most."""
    @property
    def most_leased_bytes(self) -> int: ...

def publish_hint(
    cells: NDArray[np.int32],
    sequence: int,
    place: int,
    exit: int,
    length: int,
    end: int,
    token: int,
    confidence: float,
) -> None:
    """Writes a cell of HintMailbox as a kernel does: csrc/net/hint_mailbox.hpp says what it holds. Raises ValueError
    for a cell that is not there."""

class HintMailbox:
    """Sends the hints that a GPU writes into host memory while its deeper layers run, from a thread of its own that
    takes no GIL. csrc/net/hint_mailbox.hpp says what a cell holds."""

    def __init__(
        self, listener: Listener, cells: NDArray[np.int32], layers: Sequence[int], rows: int
    ) -> None:
        """cells: int32 [2, places, exits, 8], zeros, in memory that the GPU may write to. layers: of the exits, rising.
        rows: of all sessions of a forward, at most."""
    def arm(
        self, sequence: int, watches: Sequence[tuple[int, int, int, int, float, NDArray[np.uint32]]]
    ) -> None:
        """Before the launch of forward `sequence`, odd and even in turns: wanted are hints of these sessions, each
        (session, place, base_length, turn, threshold, references). references: what each of its rows is called on
        the wire, 0 for what the edge does not know. Raises ValueError for more places or rows than there are."""
    def retire(self, sequence: int) -> list[int]:
        """The forward's verdict is known: no more of its hints are sent. How many were, for each watch."""
    def close(self) -> None: ...

class Lost:
    """The last connection is gone."""

    @property
    def reason(self) -> str: ...

class Reconnected:
    """The session goes on over a new connection."""

    @property
    def seconds(self) -> float: ...
    @property
    def address(self) -> tuple[str, int]: ...

class Forgotten:
    """The server does not know the session: open it anew."""

    @property
    def seconds(self) -> float: ...
    @property
    def address(self) -> tuple[str, int]: ...

class Astray:
    """The second connection keeps reaching servers that do not know the session."""

    @property
    def address(self) -> tuple[str, int]: ...

class OtherTarget:
    """A server was passed over, as it does not serve what the first one did. Nothing of the session was sent there."""

    @property
    def target_id(self) -> str: ...
    @property
    def address(self) -> tuple[str, int]: ...

class Woken:
    """`wake` was called."""

class Offline:
    """No server has been reached for `offline_after_s`."""

class GivenUp:
    """No server has been reached for `give_up_s`; attempts go on."""

    @property
    def reason(self) -> str: ...

class ResilientConnection:
    """One session's link to its servers, kept alive over lost connections by an I/O thread."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        hello: bytes,
        *,
        hedge: bool = True,
        timeout_s: float = 10.0,
        dead_after_s: float = 2.5,
        give_up_s: float = 30.0,
        offline_after_s: float | None = None,
        tls: Tls | None = None,
        tls_name: str = "",
        busy_spin: bool = False,
    ) -> None:
        """tls_name: that the servers' certificates must be for; empty: each one's host."""

    def open(self, frame: bytes) -> None:
        """An OPEN: the session begins, or begins anew."""
    def send(self, frame: bytes) -> None:
        """Queues one whole frame for the session; never blocks. Raises ConnectionError when closed."""
    def ask(self, frame: bytes) -> None:
        """Sends one frame of the connection's own over one that is welcomed. Raises ConnectionError when closed."""
    def receive(
        self, timeout_s: float | None
    ) -> Message | Lost | Reconnected | Forgotten | Astray | OtherTarget | Woken | Offline | GivenUp | None:
        """The next message, or what happened to the link; None when nothing came in time (0: do not wait; None: wait
        without end). Raises ConnectionError with the reason when it is closed and everything received was taken."""
    def move(self) -> None:
        """Leaves this server for the next."""

    def set_servers(self, others: Sequence[tuple[str, int]], tls_name: str = "") -> None:
        """The servers that there are beside the present one, in place of those known so far."""
    def wake(self) -> None:
        """`receive` returns a `Woken` in its turn; from any thread."""

    def await_verdicts(self, awaited: bool) -> None:
        """While they are awaited, heartbeats go on however long nothing comes."""
    def close(self) -> None: ...
    def fileno(self) -> int:
        """An eventfd that is readable while there is something to receive or the link is closed."""
    @property
    def dead(self) -> bool: ...
    @property
    def lost(self) -> bool:
        """No connection carries the session now."""
    @property
    def paths(self) -> int:
        """Connections that carry the session."""
    @property
    def welcomed(self) -> int:
        """Connections that a server has welcomed."""
    @property
    def address(self) -> tuple[str, int]: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def frames_sent(self) -> int: ...
    @property
    def frames_hedged(self) -> int: ...
    @property
    def frames_resent(self) -> int: ...
    @property
    def repeats_received(self) -> int: ...
    @property
    def jitter_ms(self) -> float:
        """How far a round trip is off the smoothed one, on average."""
    @property
    def rtt_ms(self) -> float | None: ...
