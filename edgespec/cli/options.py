"""Groups of options that several commands share."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from edgespec.cli.flags import NUMBER, PATH, POSITIVE, about, group, option
from edgespec.core.address import Address, parse_addresses
from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.params import SamplingParams
from edgespec.drafting.modes import DEVICE, POLICIES
from edgespec.edge.directory import Directory
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.memory import Memory


def guide(text: str) -> Guide:
    """KIND=FILE, or regex=TEXT."""
    kind, _, rest = text.partition("=")
    try:
        return Guide(cast("Any", kind), rest if kind == "regex" else Path(rest).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"the guide in {rest!r} cannot be read: {error}") from None
    except EdgespecError as error:
        raise click.BadParameter(str(error)) from None


sampling = group(
    "params",
    SamplingParams,
    max_new_tokens=about("Maximum number of tokens to generate."),
    temperature=about("Sampling temperature; 0 always takes the most probable token."),
    top_k=about("Sample from the K most probable tokens only; 0 turns this off."),
    top_p=about(
        "Sample from the most probable tokens that together have this probability; 1 turns this off."
    ),
    min_p=about("Drop tokens less probable than this fraction of the most probable one; 0 turns this off."),
    repetition_penalty=about("Make tokens that are already in the text less probable; 1 turns this off."),
    presence_penalty=about("Subtract this from the logits of tokens that were generated; 0 turns this off."),
    frequency_penalty=about(
        "Subtract this from a token's logit for each time that it was generated; 0 turns this off."
    ),
    min_tokens=about("Do not end the text before this number of tokens."),
    stop_token_ids=about(
        "End the text after this token. May be given several times.",
        multiple=True,
        metavar="ID",
        flag="--stop-token-id",
    ),
    bad_words=about(
        "Keep this string out of the text. May be given several times.",
        multiple=True,
        metavar="TEXT",
        flag="--bad-word",
    ),
    guide=about(
        "Hold the text to a JSON schema (json_schema=FILE), a grammar in Lark's notation (lark=FILE) or an "
        "expression (regex=TEXT).",
        type=guide,
        metavar="KIND=...",
    ),
    seed=about("Seed of the random sampling.", show_default="a random one"),
    stop=about("End the text before this string. May be given several times.", multiple=True, metavar="TEXT"),
    ignore_eos=about("Continue after the target's end-of-sequence token."),
)


def chosen_sampling(params: SamplingParams) -> dict[str, Any]:
    """Those that the user of the running command gave; the rest are the target's to recommend."""
    given = click.get_current_context().get_parameter_source
    return {
        field.name: getattr(params, field.name)
        for field in fields(params)
        if given(field.name) not in (None, ParameterSource.DEFAULT)
    }


@dataclass(frozen=True)
class Speculation:
    """What drafts, and how."""

    draft: Path | None = option("Folder from `edgespec compile`.", show_default="the bundled draft")
    mode: str = option(
        f"How to speculate: {', '.join(POLICIES)}. All of them generate the same text. "
        f"`{DEVICE}` generates with the draft alone, without a server.",
        "auto",
    )
    draft_tokens: int | None = option(
        "Length of a drafted block, or depth of the draft tree.", show_default="the mode's own"
    )
    objective: str = option(
        "What mode `auto` minimises: time (latency), target forwards (cost), or drafting on the device (energy).",
        "latency",
        type=click.Choice(["latency", "cost", "energy"]),
    )
    budget: float | None = option("With --objective cost: target forwards allowed per token, at most 1.")
    latency_ms: float | None = option(
        "Latency per token that the server must keep. It refuses the session if it cannot.", type=POSITIVE
    )
    draft_pace_ms: float | None = option(
        "For experiments: make each run of the draft take at least this long.", type=POSITIVE
    )


@dataclass(frozen=True)
class Connection(LinkOptions):
    """The servers, how long to wait for them, and how both sides prove who they are.

    A token is not an option, because other users of the machine could read it in the process list.
    """

    server: list[Address] | None = None
    directory: str | None = None
    directory_ca: Path | None = None
    directory_token_file: Path | None = None
    token_file: Path | None = None

    def link_options(self) -> LinkOptions:
        """What the session needs of this. Raises EdgespecError."""
        if self.server is not None or self.directory is not None:
            return replace(self, token=_token(self.token_file, "EDGESPEC_TOKEN"))
        if self.token_file or self.tls_ca or self.tls_cert or self.tls_key or self.insecure:
            raise EdgespecError(
                "TLS, tokens and --insecure need --server or --directory: without them, this command starts its own "
                "local server."
            )
        return self

    def asked_directory(self) -> Directory | None:
        """What names the servers; None: they are given. Raises EdgespecError."""
        if self.directory is None:
            if self.directory_ca or self.directory_token_file:
                raise EdgespecError(
                    "--directory-ca and --directory-token-file need --directory: give all of them."
                )
            return None
        if self.server is not None:
            raise EdgespecError("--server and --directory both say where servers are: give one of the two.")
        token = _token(self.directory_token_file, "EDGESPEC_DIRECTORY_TOKEN")
        return Directory(self.directory, self.directory_ca, token, self.insecure)


def _token(file: Path | None, variable: str) -> str | None:
    if file is None:
        return os.environ.get(variable)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EdgespecError(f"cannot read the token in {file} ({error}).") from None


@dataclass(frozen=True)
class Remembering:
    """What the device remembers of earlier texts, to draft from."""

    memory: Path | None = option(
        "Folder of the device's memory: texts, and what was learnt about links. It never leaves the device.",
        show_default="edgespec/memory in the user's folder for state",
        metavar="DIR",
    )
    no_memory: bool = option("Remember nothing, and use nothing that was remembered.", False)
    memory_key: Path | None = option(
        "Encrypt the memory with the key in this file, from `edgespec memory key`.",
        show_default="not encrypted",
    )
    shared_memory: bool = option(
        "Let the server remember the texts, for faster texts of this device's tenant. It must run with "
        "--shared-memory too.",
        False,
    )

    def options(self, mode: str = "auto") -> dict[str, Any]:
        """Of a session. Raises EdgespecError."""
        if self.shared_memory and mode == DEVICE:
            raise EdgespecError("mode `device` has no server that could remember: leave --shared-memory out.")
        return {"memory": self.open(mode), "shared_memory": self.shared_memory}

    def open(self, mode: str = "auto") -> Memory | None:
        """None: there is none. Raises EdgespecError."""
        if self.memory is not None and (self.no_memory or mode == DEVICE):
            other = "--no-memory" if self.no_memory else "mode `device`, which has no target to remember,"
            raise EdgespecError(f"--memory and {other} exclude each other: leave one out.")
        if self.no_memory or mode == DEVICE:
            if self.memory_key is not None:
                raise EdgespecError("--memory-key is the key of a memory, and there is none: leave it out.")
            return None
        return Memory(self.memory, key=self.memory_key)


speculation = group("speculation", Speculation)
remembering = group("remembering", Remembering)
connection_options = {
    "server": about(
        "Address of a running `edgespec serve`, or several to try in turn.",
        show_default="start a server with the bundled models",
        type=parse_addresses,
        metavar="HOST:PORT[,...]",
    ),
    "directory": about(
        "Address to ask for a server, in place of --server. It is asked again when the server is lost or full.",
        metavar="URL",
    ),
    "directory_ca": about(
        "Certificate of the authority that signed the directory's certificate.",
        show_default="those that the system trusts",
        type=PATH,
    ),
    "directory_token_file": about(
        "File with a token for the directory, sent as `Authorization: Bearer`.",
        show_default="the variable EDGESPEC_DIRECTORY_TOKEN",
    ),
    "timeout_s": about("Maximum time to connect to a server.", type=POSITIVE),
    "give_up_s": about("End with an error after this long without a server.", type=POSITIVE),
    "offline_after_s": about(
        "After this long without a server, continue with the draft alone. Its text is unverified until one is back.",
        show_default="never",
        type=POSITIVE,
    ),
    "tls_ca": about(
        "Certificate of the authority that signed the server's certificate. Encrypts the connection.",
        type=PATH,
    ),
    "tls_name": about(
        "Name in the servers' certificates, for servers that are called by address.",
        show_default="each server's host",
    ),
    "tls_cert": about("This device's certificate, for servers that ask for one.", type=PATH),
    "tls_key": about("The private key of --tls-cert.", type=PATH),
    "token_file": about(
        "File with this device's token, from `edgespec token new`.",
        show_default="the variable EDGESPEC_TOKEN",
    ),
    "insecure": about("Send the token to another machine without TLS."),
}
connection = group("connection", Connection, **connection_options)

link_shape_options = {
    "rtt_ms": about("Round-trip time.", type=NUMBER),
    "jitter_ms": about("The round-trip time varies by up to this much.", type=NUMBER),
    "mbps": about("Bandwidth in Mbit/s in each direction.", show_default="unlimited", type=POSITIVE),
}
"""Options of a `LinkShape`, an emulated link."""
