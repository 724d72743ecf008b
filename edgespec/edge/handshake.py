"""The edge's side of the handshake: find the server, say HELLO, be welcomed; and errors in words."""

import time
from collections.abc import Sequence

from edgespec import _native
from edgespec._version import __version__
from edgespec.core.address import DEFAULT_SERVER, Address, AnAddress, parse_addresses
from edgespec.core.errors import EdgespecError
from edgespec.core.where import Question
from edgespec.edge.directory import Directory, DirectoryError
from edgespec.edge.link_options import LinkOptions

ANSWERS = 3
"""Of a directory, whose servers are tried before there is a session."""

Connected = tuple[_native.ResilientConnection, _native.Welcome]
Reached = tuple[_native.ResilientConnection, _native.Welcome, Question]


class NoServer(EdgespecError):
    """Nothing answers as a server there, or what does takes nobody for now."""


def whom_to_call(
    server: AnAddress | Sequence[AnAddress], directory: Directory | str | None
) -> list[Address] | Directory:
    """The servers of a session, or the directory that names them. Raises EdgespecError where both are given."""
    if directory is None:
        return parse_addresses(server)
    if server and server != DEFAULT_SERVER:
        raise EdgespecError("a session asks a directory or has servers: give one of the two.")
    return Directory(directory) if isinstance(directory, str) else directory


def reach(
    servers: Sequence[Address] | Directory, question: Question, vocabulary_hash: bytes, options: LinkOptions
) -> Reached:
    """`connect` to one of these servers, or to the one that the directory names; and the question that named it. Raises
    EdgespecError."""
    if isinstance(servers, Directory):
        return _connect_by(servers, question, vocabulary_hash, options)
    return (*connect(servers, vocabulary_hash, options), question)


def _connect_by(
    directory: Directory, question: Question, vocabulary_hash: bytes, options: LinkOptions
) -> Reached:
    """While the fleet is full or another answer may help, the directory is asked again, within `timeout_s`. A server
    that is silent has its share of that."""
    end_s = time.monotonic() + options.timeout_s
    answers = 0
    while True:
        try:
            place = directory.ask(question)
            within_s = max(0.0, end_s - time.monotonic()) / (ANSWERS - answers)
            answers += 1
            there = connect([place.address], vocabulary_hash, options, place.tls_name or "", within_s)
            return (*there, question)
        except (DirectoryError, NoServer) as error:
            wait_s = error.retry_s if isinstance(error, DirectoryError) else 0.0
            if isinstance(error, NoServer) or error.by_server:
                question = question.elsewhere()
            if answers >= ANSWERS or time.monotonic() + wait_s > end_s:
                raise
        time.sleep(wait_s)


def connect(
    servers: Sequence[Address],
    vocabulary_hash: bytes,
    options: LinkOptions,
    tls_name: str = "",
    within_s: float | None = None,
) -> Connected:
    """Connect to the first server that answers, and be welcomed; the native connection keeps the link up from then on.
    tls_name: that a directory gave. within_s: of the options' `timeout_s`; None: all of it.

    Raises EdgespecError with the reason when the servers are absent, silent or refuse.
    """
    timeout_s = options.timeout_s if within_s is None else within_s
    credential = options.credential([server.host for server in servers])
    resilient_connection = _native.ResilientConnection(
        [(server.host, server.port) for server in servers],
        _native.encode_hello(
            vocabulary_hash=vocabulary_hash, agent=f"edgespec/{__version__}", credential=credential
        ),
        hedge=options.hedge,
        timeout_s=timeout_s,
        dead_after_s=options.dead_after_s,
        give_up_s=options.give_up_s,
        offline_after_s=options.offline_after_s,
        tls=options.tls,
        tls_name=options.tls_name or tls_name,
        busy_spin=options.busy_spin,
    )
    try:
        answer = resilient_connection.receive(timeout_s)
    except ConnectionError as error:
        tried = " or ".join(str(server) for server in servers)
        raise NoServer(f"there is no server at {tried} ({error}): {_advice(str(error), options)}.") from None
    if isinstance(answer, _native.Welcome):
        return resilient_connection, answer
    address = Address(*resilient_connection.address)
    resilient_connection.close()
    if isinstance(answer, _native.Error):
        raise (NoServer if answer.retryable else EdgespecError)(explain(answer, address))
    raise NoServer(
        f"{address} did not answer as an edgespec server within {timeout_s:g} s: check the address."
    )


def _advice(reason: str, options: LinkOptions) -> str:
    if "not trusted" in reason:
        return "give the authority that signed its certificate with --tls-ca, and call it by a name in the certificate"
    if "does not speak TLS" in reason:
        return "leave --tls-ca out, or start it with --tls-cert and --tls-key"
    if "closed the connection" in reason and options.tls is None:
        return "it may want TLS: give the fleet's authority with --tls-ca"
    return "start one with `edgespec serve`, or check the address"


def explain(error: _native.Error, address: Address) -> str:
    """What a server's ERROR says, as a sentence."""
    wait = (
        f" (try again in {error.retry_after_ms / 1e3:g} s)"
        if error.retryable and error.retry_after_ms
        else ""
    )
    return f"the server at {address} refused: {error.message}{wait}"
