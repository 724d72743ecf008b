"""Links over TLS with tokens, on loopback and with real certificates: who comes in, and what a reload changes."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import ssl
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import raw_peer
from faults import FaultProxy
from raw_peer import RawPeer
from scripted_models import HashModel
from stubs import VOCABULARY_HASH, StubTarget, StubTokenizer, serving

from edgespec import _native
from edgespec.core.access import credential
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.server.private_authority import issue_for_device, issue_for_server, make_authority
from edgespec.server.server import Server
from edgespec.server.settings import ServerSecurity
from edgespec.server.tokens import add_token, revoke

SCRIPTED = HashModel()
PROMPT = [1, 2, 3]
MAX_WAIT_S = 30.0  # before a test gives up; nothing passes by waiting for it
TEXT = SCRIPTED.continuation(PROMPT, 12)
needs_tls = pytest.mark.skipif(
    not _native.HAVE_TLS or shutil.which("openssl") is None,
    reason="needs a build with OpenSSL's headers, and the openssl command",
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a server's certificate, and a device's."""
    folder = tmp_path_factory.mktemp("fleet")
    make_authority(folder)
    issue_for_server(folder, ["localhost", "127.0.0.1"], 30)
    issue_for_device(folder, "robot-7", 30)
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another authority, with a device of the same name."""
    folder = tmp_path_factory.mktemp("strangers")
    make_authority(folder)
    issue_for_device(folder, "robot-7", 30)
    return folder


def server_security(fleet: Path, **more: Any) -> ServerSecurity:
    return ServerSecurity(tls_cert=fleet / "server.pem", tls_key=fleet / "server.key", **more)


def generate(server: Server, host: str = "127.0.0.1", **options: Any) -> list[int]:
    """A whole text over a link with these options."""
    with session(server, host, **options) as one:
        one.prompt(PROMPT)
        list(one)
        return one.tokens


def devices(server: Server) -> list[str]:
    """Of the open sessions."""
    return [row["device"] for row in server.call(server.sessions.summaries).result(MAX_WAIT_S)]


def session(server: Server, host: str = "127.0.0.1", **options: Any) -> Session:
    params = SamplingParams(max_new_tokens=len(TEXT))
    link = LinkOptions(**options)
    return Session((host, server.port), None, params, mode="cloud", tokenizer=StubTokenizer(), link=link)  # type: ignore[arg-type]


@needs_tls
class TestEncryption:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_the_text_comes_through_tls(self, fleet: Path, host: str) -> None:
        with serving(StubTarget(SCRIPTED), security=server_security(fleet)) as server:
            assert generate(server, host, tls_ca=fleet / "ca.pem") == TEXT

    def test_an_authority_nobody_here_knows_is_not_trusted(self, fleet: Path, strangers: Path) -> None:
        with serving(StubTarget(SCRIPTED), security=server_security(fleet)) as server:
            with pytest.raises(EdgespecError, match=r"not trusted.*--tls-ca"):
                generate(server, tls_ca=strangers / "ca.pem", timeout_s=MAX_WAIT_S)
            assert generate(server, tls_ca=fleet / "ca.pem") == TEXT

    def test_a_certificate_for_another_host_is_not_trusted(
        self, fleet: Path, tmp_path: Path, strangers: Path
    ) -> None:
        issue_for_server(strangers, ["cloud.example", "10.1.2.3"], 30)
        with serving(StubTarget(SCRIPTED), security=server_security(strangers)) as server:
            for host in ("127.0.0.1", "localhost"):
                with pytest.raises(EdgespecError, match="not trusted"):
                    generate(server, host, tls_ca=strangers / "ca.pem", timeout_s=MAX_WAIT_S)

    def test_an_edge_without_tls_is_told_what_to_give(self, fleet: Path) -> None:
        with (
            serving(StubTarget(SCRIPTED), security=server_security(fleet)) as server,
            pytest.raises(EdgespecError, match="--tls-ca"),
        ):
            generate(server, timeout_s=MAX_WAIT_S)

    def test_a_server_without_tls_is_told_apart(self, fleet: Path) -> None:
        with (
            serving(StubTarget(SCRIPTED)) as server,
            pytest.raises(EdgespecError, match="does not speak TLS"),
        ):
            generate(server, tls_ca=fleet / "ca.pem", timeout_s=MAX_WAIT_S)

    def test_a_later_link_resumes_though_the_first_broke_off(self, fleet: Path) -> None:
        """What the edge keeps of the first handshake survives an end without goodbye."""
        tls = _native.Tls.client(str(fleet / "ca.pem"))
        hello = _native.encode_hello(vocabulary_hash=VOCABULARY_HASH, agent="test")
        with (
            serving(StubTarget(SCRIPTED), security=server_security(fleet)) as server,
            FaultProxy(server.port) as proxy,
        ):
            address = ("127.0.0.1", proxy.port)
            with closing(_native.ResilientConnection([address], hello, hedge=False, tls=tls)) as link:
                for cut in (proxy.cut, proxy.cut, lambda: None):
                    while not isinstance(link.receive(MAX_WAIT_S), _native.Welcome):
                        pass
                    cut()
        assert (tls.handshakes, tls.resumed) == (3, 2)

    def test_a_device_shows_its_certificate_where_one_is_asked_for(
        self, fleet: Path, strangers: Path
    ) -> None:
        with serving(
            StubTarget(SCRIPTED), security=server_security(fleet, tls_client_ca=fleet / "ca.pem")
        ) as server:
            own = {"tls_cert": fleet / "robot-7.pem", "tls_key": fleet / "robot-7.key"}
            assert generate(server, tls_ca=fleet / "ca.pem", **own) == TEXT
            with session(server, tls_ca=fleet / "ca.pem", **own) as one:
                one.prompt(PROMPT)
                one.step()
                assert devices(server) == ["robot-7"]
            others = {"tls_cert": strangers / "robot-7.pem", "tls_key": strangers / "robot-7.key"}
            for other in (others, {}):
                with pytest.raises(EdgespecError):
                    generate(server, tls_ca=fleet / "ca.pem", timeout_s=5, **other)


@needs_tls
class TestTokens:
    @pytest.fixture
    def tokens(self, tmp_path: Path) -> Path:
        return tmp_path / "tokens"

    def test_a_known_token_opens_and_names_the_device(self, fleet: Path, tokens: Path) -> None:
        token = add_token(tokens, "robot-7")
        with (
            serving(StubTarget(SCRIPTED), security=server_security(fleet, tokens=tokens)) as server,
            session(server, tls_ca=fleet / "ca.pem", token=token) as one,
        ):
            one.prompt(PROMPT)
            one.step()
            assert devices(server) == ["robot-7"]
            list(one)
            assert one.tokens == TEXT

    def test_nothing_else_does_and_no_log_repeats_it(
        self, fleet: Path, tokens: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        add_token(tokens, "robot-7")
        other = add_token(tmp_path / "others", "robot-7")
        caplog.set_level(logging.DEBUG)
        with serving(StubTarget(SCRIPTED), security=server_security(fleet, tokens=tokens)) as server:
            for shown, sentence in ((None, "wants a token"), (other, "knows no such token")):
                with pytest.raises(EdgespecError, match=sentence) as caught:
                    generate(server, tls_ca=fleet / "ca.pem", token=shown, timeout_s=MAX_WAIT_S)
                assert other not in str(caught.value)
        assert "refused" in caplog.text
        assert other not in caplog.text and other.removeprefix("edgespec-") not in caplog.text

    def test_a_reload_lets_new_devices_in_and_sends_revoked_ones_away(
        self, fleet: Path, tokens: Path
    ) -> None:
        first = add_token(tokens, "first")
        ca = {"tls_ca": fleet / "ca.pem", "timeout_s": MAX_WAIT_S}
        with serving(StubTarget(SCRIPTED), security=server_security(fleet, tokens=tokens)) as server:
            with session(server, token=first, **ca) as one:
                second = add_token(tokens, "second")
                revoke(tokens, "first")
                with pytest.raises(EdgespecError, match="knows no such token"):
                    generate(server, token=second, **ca)
                server.reload()
                assert generate(server, token=second, **ca) == TEXT
                with pytest.raises(EdgespecError, match=r"void|knows no such token"):
                    one.prompt(PROMPT)
                    list(one)
            with pytest.raises(EdgespecError, match="knows no such token"):
                generate(server, token=first, **ca)

    def test_a_reload_ends_the_sessions_of_revoked_devices_at_once(self, fleet: Path, tokens: Path) -> None:
        shown = {device: add_token(tokens, device) for device in ("stays", "goes")}
        ca = {"tls_ca": fleet / "ca.pem", "timeout_s": MAX_WAIT_S}
        with (
            serving(StubTarget(SCRIPTED), security=server_security(fleet, tokens=tokens)) as server,
            session(server, token=shown["stays"], **ca) as staying,
            session(server, token=shown["goes"], **ca) as going,
        ):
            for one in (staying, going):
                one.prompt(PROMPT)
                one.step()
            revoke(tokens, "goes")
            server.reload()
            assert devices(server) == ["stays"]
            list(staying)
            assert staying.tokens == TEXT

    def test_a_reload_of_broken_files_changes_nothing(self, fleet: Path, tokens: Path) -> None:
        token = add_token(tokens, "robot-7")
        with serving(StubTarget(SCRIPTED), security=server_security(fleet, tokens=tokens)) as server:
            tokens.write_text("half a line")
            server.reload()
            server.call(lambda: None).result(MAX_WAIT_S)  # the loop has been there
            assert generate(server, tls_ca=fleet / "ca.pem", token=token) == TEXT

    def test_a_device_has_so_many_connections_at_most(self, fleet: Path, tokens: Path) -> None:
        token = add_token(tokens, "robot-7")
        options = {"tls_ca": fleet / "ca.pem", "token": token, "timeout_s": MAX_WAIT_S, "hedge": False}
        bounded = server_security(fleet, tokens=tokens, connections_a_device=2)
        with (
            serving(StubTarget(SCRIPTED), security=bounded) as server,
            session(server, **options),
            session(server, **options),
            pytest.raises(EdgespecError, match="robot-7 has 2 connections"),
        ):
            session(server, **options)

    def test_another_device_cannot_resume_a_session(self, fleet: Path, tokens: Path) -> None:
        shown = {device: credential(add_token(tokens, device)) for device in ("owner", "thief")}
        trust = ssl.create_default_context(cafile=fleet / "ca.pem")
        with ExitStack() as stack:
            server = stack.enter_context(
                serving(StubTarget(SCRIPTED), security=server_security(fleet, tokens=tokens))
            )
            peers = {device: stack.enter_context(RawPeer(server.port)) for device in shown}
            for device, peer in peers.items():
                peer.socket = trust.wrap_socket(peer.socket, server_hostname="127.0.0.1")
                peer.send(
                    _native.encode_hello(
                        vocabulary_hash=VOCABULARY_HASH, agent="test", credential=shown[device]
                    )
                )
                assert peer.until(raw_peer.WELCOME) is not None
            peers["owner"].send(raw_peer.opening(1, bytes(16), PROMPT))
            assert peers["owner"].until(raw_peer.VERDICT) is not None
            peers["thief"].send(raw_peer.frame(raw_peer.RESUME, bytes(24), channel=1))
            refused = peers["thief"].until(raw_peer.ERROR)
            assert refused is not None and refused.code == raw_peer.UNKNOWN_SESSION


@needs_tls
def test_the_command_lines_meet_over_tls_and_sighup_lets_a_device_in(
    fleet: Path, tmp_path: Path, quick_start: tuple[str, ...]
) -> None:
    tokens, token_file = tmp_path / "tokens", tmp_path / "token"
    add_token(tokens, "another")
    flags = ["--tls-cert", fleet / "server.pem", "--tls-key", fleet / "server.key", "--tokens", tokens]
    command = [*quick_start, "serve", "--host", "0.0.0.0", "--port", "0", "--threads", "1", *map(str, flags)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None and server.stderr is not None
    try:
        port = server.stdout.readline().rpartition(":")[2].strip()
        token_file.write_text(add_token(tmp_path / "of another server", "robot-7") + "\n")
        flags = ["--prompt", "def", "--json", "--max-new-tokens", "8", "--mode", "cloud", "--ignore-eos"]
        edge = [*quick_start, "generate", "--server", f"127.0.0.1:{port}", *flags]
        edge += ["--tls-ca", str(fleet / "ca.pem"), "--token-file", str(token_file)]
        refused = subprocess.run(edge, capture_output=True, text=True, check=False)
        assert refused.returncode == 2 and "knows no such token" in refused.stderr
        token = add_token(tokens, "robot-7")
        token_file.write_text(f"{token}\n")
        server.send_signal(signal.SIGHUP)
        reloaded = next(line for line in server.stderr if "reloaded" in line)
        assert "2 tokens" in reloaded
        done = subprocess.run(edge, capture_output=True, text=True, check=True)
        assert len(json.loads(done.stdout)["tokens"]) == 8
    finally:
        server.terminate()
        said = server.communicate()[1]
    assert "device=robot-7" in said
    assert token.removeprefix("edgespec-") not in said
