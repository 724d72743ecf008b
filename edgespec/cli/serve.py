"""`edgespec serve`: a target model, served to edges. The one command of a server's life that loads torch."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgespec.cli.options import PACE, end_with_stdin, entry
from edgespec.server.config import config_option

if TYPE_CHECKING:
    from edgespec.model.tensor_parallel import Leader
    from edgespec.server.server_drafter import ServerDrafters


@click.command()
@click.option(
    "--target", metavar="DIR|org/name", help="A transformers causal LM; the bundled one if not given."
)
@click.option(
    "--exits",
    default="auto",
    metavar="DIR",
    help="Its exit heads; by default those in its folder; none: off.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=7433, show_default=True, help="0: a free one.")
@click.option(
    "--dtype", type=click.Choice(["auto", "float64", "float32", "bfloat16", "float16"]), default="auto"
)
@click.option(
    "--device", default="auto", show_default=True, help="Where torch computes, such as cpu or cuda:0."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads; torch decides if not given.")
@click.option("--verify-pace-ms", type=PACE, help="Hold every forward to at least this long, layer by layer.")
@click.option(
    "--pace-rows",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Rows that one paced forward holds.",
)
@click.option(
    "--kv-memory",
    metavar="BYTES|SHARE",
    help="Keys and values of all sessions, such as 2GiB or 40%; a fifth of what is free if not given.",
)
@click.option(
    "--deterministic", is_flag=True, help="The same bits whatever else runs; slower, mostly for few rows."
)
@click.option(
    "--tensor-parallel", is_flag=True, help="A shard of the target in each process that torchrun started."
)
@click.option("--max-sessions", type=click.IntRange(1), default=1024, show_default=True, help="Open at once.")
@click.option("--latency-ms", type=PACE, help="Target for a token: beyond it new sessions are refused.")
@click.option(
    "--least-latency-ms",
    type=PACE,
    help="The least that a session may ask for itself; --latency-ms if not given.",
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="HTTP /metrics, /health and /sessions.")
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    help="Address for these; they ask nobody who it is.",
)
@click.option(
    "--drain-s", type=PACE, default=30.0, show_default=True, help="After SIGTERM, for texts to be finished."
)
@click.option(
    "--resume-for-s",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="How long a session waits for an edge whose link is gone.",
)
@click.option(
    "--busy-spin", is_flag=True, help="Never sleep while waiting for the sockets: for a core to spare."
)
@click.option(
    "--pin-buffers",
    is_flag=True,
    help="Pin what the link receives into, for copies to a GPU. Not run on one yet.",
)
@click.option(
    "--colocated-draft",
    default="auto",
    metavar="ENGINE_DIR|none",
    help="A draft that this server runs itself, for edges in mode colocated; auto: the bundled target's.",
)
@click.option("--colocated-draft-tokens", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--colocated-draft-pace-ms", type=PACE, help="Hold every run of it to at least this long.")
@entry
@config_option
@end_with_stdin
def serve(
    target: str | None,
    exits: str,
    host: str,
    port: int,
    dtype: str,
    device: str,
    threads: int | None,
    verify_pace_ms: float | None,
    pace_rows: int,
    kv_memory: str | None,
    deterministic: bool,
    tensor_parallel: bool,
    max_sessions: int,
    latency_ms: float | None,
    least_latency_ms: float | None,
    metrics_port: int | None,
    metrics_host: str,
    drain_s: float,
    resume_for_s: float,
    colocated_draft: str,
    colocated_draft_tokens: int,
    colocated_draft_pace_ms: float | None,
    busy_spin: bool,
    pin_buffers: bool,
    end_with_stdin: bool,
    **entry_flags: Any,
) -> None:
    """Serve a target model to edges, until interrupted.

    Prints one line, `edgespec: listening on HOST:PORT`, when it is ready. Other machines are served with TLS and
    tokens only. SIGTERM drains; SIGHUP reads certificates and tokens again.
    """
    from edgespec.core.child import when_stdin_ends
    from edgespec.core.errors import EdgespecError
    from edgespec.core.pacing import Pace
    from edgespec.server.gate import ServerSecurity
    from edgespec.server.pinned import pinning

    who = ServerSecurity(**entry_flags)
    who.check(host)  # before a model is loaded for nothing
    try:
        from edgespec.model.target import Target
        from edgespec.server.monitored import watched
    except ModuleNotFoundError as error:
        raise EdgespecError(f"a server needs {error.name}: pip install 'edgespec[server]'.") from None

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    pace = None if verify_pace_ms is None else Pace(verify_pace_ms, pace_rows)
    leader = _leader(target, dtype, device, threads) if tensor_parallel else None
    if tensor_parallel and leader is None:
        return
    model = Target.load(
        target,
        exits=None if exits == "none" else exits,
        dtype=dtype,
        device=device,
        threads=threads,
        pace=pace,
        kv_memory=kv_memory,
        deterministic=deterministic,
        leader=leader,
    )
    options = {
        "max_sessions": max_sessions,
        "latency_ms": latency_ms,
        "least_latency_ms": least_latency_ms,
        "resume_for_s": resume_for_s,
        "security": who,
        "busy_spin": busy_spin,
        "pinning": pinning() if pin_buffers else None,
        "server_drafters": _server_drafters(
            colocated_draft, target, model.vocabulary_hash, colocated_draft_tokens, colocated_draft_pace_ms
        ),
    }
    watch = None if metrics_port is None else (metrics_host, metrics_port)
    with watched(model, host, port, watch, options) as server:
        signal.signal(signal.SIGINT, lambda *_: server.stop())
        signal.signal(signal.SIGHUP, lambda *_: server.reload())
        signal.signal(signal.SIGTERM, lambda *_: server.drain(drain_s))
        if end_with_stdin:
            when_stdin_ends(server.stop)
        click.echo(f"edgespec: listening on {host}:{server.port}")
        server.run()
    if leader is not None:
        leader.end()


def _leader(target: str | None, dtype: str, device: str, threads: int | None) -> Leader | None:
    """Of the processes that torchrun started, the one that serves; the others follow it here until it ends."""
    import torch

    from edgespec.model import loading
    from edgespec.model.tensor_parallel import Leader, follow, join

    chosen = loading.choose_device(device)
    if join(chosen) == 0:
        return Leader()
    for number in (signal.SIGINT, signal.SIGTERM):  # a follower ends when the one that serves does
        signal.signal(number, signal.SIG_IGN)
    if threads is not None:
        torch.set_num_threads(threads)
    folder = loading.find_folder(target)
    name = loading.name_of(target, folder)
    follow(loading.load_model(folder, name, loading.choose_dtype(dtype, chosen), chosen, sharded=True))
    return None


def _server_drafters(
    folder: str, target: str | None, vocabulary_hash: bytes, draft_tokens: int, pace_ms: float | None
) -> ServerDrafters | None:
    """What makes server drafters of the draft that was named; None where the server is to host none."""
    from edgespec.engines.bundled import bundled_engine
    from edgespec.server.server_drafter import ServerDrafters

    if folder == "none" or (folder == "auto" and target is not None):
        return None
    path = bundled_engine() if folder == "auto" else Path(folder)
    return ServerDrafters(path, vocabulary_hash, draft_tokens, pace_ms)
