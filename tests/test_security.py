"""Tokens, digests, their file, and the rules of who may listen and show what."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from stubs import StubTokenizer

from edgespec import _native
from edgespec.cli.link import link as link_command
from edgespec.cli.serve import serve
from edgespec.core.access import (
    KnownDevices,
    KnownToken,
    check_exposure,
    check_showing,
    credential,
    digest,
    is_loopback,
    new_token,
)
from edgespec.core.errors import EdgespecError
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.server.tokens import add_token, read_tokens, revoke


class TestTokens:
    def test_a_token_is_256_bits_and_never_the_same(self) -> None:
        tokens = {new_token() for _ in range(100)}
        assert len(tokens) == 100
        assert {len(credential(token)) for token in tokens} == {32}

    def test_white_space_around_a_token_does_not_matter(self) -> None:
        token = new_token()
        assert credential(f" {token}\n") == credential(token)

    @pytest.mark.parametrize("nonsense", ["", "edgespec-", "edgespec-abc", "secret", "edgespec-" + "!" * 43])
    def test_nonsense_is_refused_and_not_repeated(self, nonsense: str) -> None:
        with pytest.raises(EdgespecError, match="this is not a token") as caught:
            credential(nonsense)
        assert not nonsense or nonsense not in str(caught.value).replace("`edgespec token new`", "")

    def test_a_device_is_known_by_its_token_alone(self) -> None:
        tokens = {device: new_token() for device in ("one", "two")}
        known = [
            KnownToken(device, digest(credential(token)), "2026-11-23") for device, token in tokens.items()
        ]
        devices = KnownDevices(known)
        assert devices.device_of(credential(tokens["one"])) == "one"
        assert devices.device_of(credential(tokens["two"])) == "two"
        assert devices.device_of(credential(new_token())) is None
        assert devices.device_of(b"") is None
        assert devices.device_of(known[0].digest) is None, "a server's file must let nobody in"


class TestTheFile:
    def test_it_holds_no_token_and_is_its_owners(self, tmp_path: Path) -> None:
        path = tmp_path / "keys" / "tokens"
        token = add_token(path, "robot-7")
        assert token not in path.read_text()
        assert credential(token).hex() not in path.read_text()
        assert os.stat(path).st_mode & 0o777 == 0o600

    def test_two_tokens_of_a_device_are_valid_and_a_third_ends_the_first(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        other = add_token(path, "other")
        tokens = [add_token(path, "robot") for _ in range(3)]
        known = KnownDevices(read_tokens(path))
        valid = [known.device_of(credential(token)) for token in [*tokens, other]]
        assert valid == [None, "robot", "robot", "other"]

    def test_a_device_can_be_revoked(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        token = add_token(path, "robot")
        add_token(path, "robot")
        other = add_token(path, "other")
        assert revoke(path, "robot") == 2
        assert revoke(path, "robot") == 0
        known = KnownDevices(read_tokens(path))
        assert known.device_of(credential(token)) is None
        assert known.device_of(credential(other)) == "other"

    @pytest.mark.parametrize(
        "line",
        [
            "robot 1234 2026-11-23",
            f"robot {'0' * 64} 2026-11-23 tenant=",
            f"robot {'0' * 64} 2026-11-23 latency_ms=-1",
        ],
    )
    def test_a_damaged_line_is_left_out_with_a_warning(
        self, tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "tokens"
        add_token(path, "robot")
        before = read_tokens(path)
        with path.open("a") as file:
            file.write(line + "\n")
        assert read_tokens(path) == before
        assert "line 3" in caplog.text

    def test_a_file_of_damaged_lines_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        path.write_text("half a line\n")
        path.chmod(0o600)
        with pytest.raises(EdgespecError, match="no line of"):
            read_tokens(path)

    def test_a_file_that_others_may_write_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        add_token(path, "robot")
        path.chmod(0o620)
        with pytest.raises(EdgespecError, match="chmod 600"):
            read_tokens(path)

    def test_labels_stay_with_the_device_until_they_are_given_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        add_token(path, "robot", tenant="blue", latency_ms=25.0)
        add_token(path, "robot")
        add_token(path, "robot", tenant="red")
        labels = [(known.tenant, known.latency_ms) for known in read_tokens(path)]
        assert labels == [("blue", 25.0), ("red", 25.0)]

    def test_two_that_change_the_file_at_once_lose_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens"
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: add_token(path, f"robot-{number}"), range(24)))
        assert len(read_tokens(path)) == 24

    def test_a_missing_file_says_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(EdgespecError, match="edgespec token new"):
            read_tokens(tmp_path / "nothing")

    @pytest.mark.parametrize("name", ["", "two words", "new\nline", "a" * 65, "../escape"])
    def test_a_strange_device_name_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(EdgespecError, match="no name for a device"):
            add_token(tmp_path / "tokens", name)
        assert list(tmp_path.iterdir()) == []


class TestExposure:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
    def test_loopback_needs_nothing(self, host: str) -> None:
        check_exposure(host, encrypted=False, authenticated=False, insecure=False)
        check_showing([host], encrypted=False, insecure=False)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "robot.example", ""])
    def test_elsewhere_it_takes_tls_and_tokens(self, host: str) -> None:
        assert not is_loopback(host)
        check_exposure(host, encrypted=True, authenticated=True, insecure=False)
        check_exposure(host, encrypted=False, authenticated=False, insecure=True)
        with pytest.raises(EdgespecError, match="--tokens") as caught:
            check_exposure(host, encrypted=True, authenticated=False, insecure=False)
        assert "--tls-cert" not in str(caught.value)
        with pytest.raises(EdgespecError, match="--tls-cert") as caught:
            check_exposure(host, encrypted=False, authenticated=True, insecure=False)
        assert "--tokens" not in str(caught.value)

    def test_a_token_is_not_shown_in_the_clear(self) -> None:
        check_showing(["cloud.example"], encrypted=True, insecure=False)
        check_showing(["cloud.example"], encrypted=False, insecure=True)
        with pytest.raises(EdgespecError, match=r"cloud\.example"):
            check_showing(["127.0.0.1", "cloud.example"], encrypted=False, insecure=False)


def test_a_token_never_goes_elsewhere_in_the_clear(tmp_path: Path) -> None:
    options = LinkOptions(token=add_token(tmp_path / "tokens", "robot-7"))
    assert options.token and options.token not in repr(options)
    with pytest.raises(EdgespecError, match="in the clear"):
        Session("cloud.example", None, mode="cloud", tokenizer=StubTokenizer(), link=options)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"tls_cert": "a"}, {"tls_key": "b"}, {"tls_cert": "a", "tls_key": "b"}])
def test_half_of_a_certificate_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(EdgespecError, match="together"):
        _ = LinkOptions(**given).tls  # type: ignore[arg-type]


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    sentence = "no TLS: install" if not _native.HAVE_TLS else re.escape(str(tmp_path / "ca.pem"))
    with pytest.raises(EdgespecError, match=sentence):
        _ = LinkOptions(tls_ca=tmp_path / "ca.pem").tls


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ((), ("--tls-cert", "--tokens", "edgespec tls init", "edgespec token new")),
        (("--tokens", "none"), ("--tls-cert",)),
        (("--tls-cert", "none", "--tls-key", "none"), ("--tokens",)),
    ],
)
def test_serve_refuses_other_machines_without_tls_and_tokens(
    flags: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    result = CliRunner().invoke(serve, ["--host", "0.0.0.0", *flags])
    assert isinstance(result.exception, EdgespecError)
    assert all(word in str(result.exception) for word in missing)


def test_half_of_tls_is_refused() -> None:
    result = CliRunner().invoke(serve, ["--tls-cert", "server.pem"])
    assert isinstance(result.exception, EdgespecError)
    assert "--tls-key" in str(result.exception)


def test_the_link_proxy_does_so_too() -> None:
    flags = ["--listen", "0.0.0.0:0", "--to", "127.0.0.1:7433", "--rtt-ms", "1"]
    result = CliRunner().invoke(link_command, flags)
    assert isinstance(result.exception, EdgespecError)
    assert "--insecure" in str(result.exception)
