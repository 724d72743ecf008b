"""A directory that names a server with a certificate for another name: nobody goes there, and no text is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_links import PROMPT, RIGHT, SCRIPTED, TOKENS, generate, mortal
from directories import directory, place_of
from stubs import StubTarget, serving, stub_session

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.server.private_authority import issue_for_server, make_authority
from edgespec.server.server import Server
from edgespec.server.settings import ServerSecurity

pytestmark = pytest.mark.skipif(
    not _native.HAVE_TLS or shutil.which("openssl") is None,
    reason="needs a build with OpenSSL's headers, and the openssl command",
)


@pytest.fixture(scope="module")
def security(tmp_path_factory: pytest.TempPathFactory) -> ServerSecurity:
    """Of servers that are called fleet.example, whatever their addresses."""
    folder = tmp_path_factory.mktemp("fleet")
    make_authority(folder)
    issue_for_server(folder, ["fleet.example"], 30)
    return ServerSecurity(tls_cert=folder / "server.pem", tls_key=folder / "server.key")


@pytest.fixture
def server(security: ServerSecurity) -> Iterator[Server]:
    with serving(StubTarget(SCRIPTED), security=security) as one:
        yield one


def asking(url: str, security: ServerSecurity, timeout_s: float = 10.0) -> Session:
    assert security.tls_cert is not None
    link = LinkOptions(
        timeout_s=timeout_s, dead_after_s=0.3, tls_ca=Path(security.tls_cert).with_name("ca.pem")
    )
    return stub_session(scripted=SCRIPTED, directory=url, link=link, max_new_tokens=TOKENS)


def test_the_name_that_the_directory_tells_is_the_one_that_counts(
    server: Server, security: ServerSecurity
) -> None:
    with (
        directory(lambda _: place_of(server, tls_name="fleet.example")) as where,
        asking(where.url, security) as one,
    ):
        one.prompt(PROMPT)
        generate(one)
    assert one.tokens == RIGHT


@pytest.mark.parametrize("told", [None, "other.example"])
def test_at_the_start_a_certificate_for_another_name_is_said_in_a_sentence(
    server: Server, security: ServerSecurity, told: str | None
) -> None:
    with (
        directory(lambda _: place_of(server, tls_name=told)) as where,
        pytest.raises(EdgespecError, match="not trusted") as caught,
    ):
        asking(where.url, security)
    assert "\n" not in str(caught.value)


def test_in_mid_text_a_server_with_another_name_is_passed_over(
    server: Server, security: ServerSecurity
) -> None:
    with mortal(5, security=security) as first, serving(StubTarget(SCRIPTED), security=security) as wrong:
        told = iter([place_of(first, tls_name="fleet.example"), place_of(wrong, tls_name="other.example")])
        with (
            directory(lambda _: next(told, place_of(server, tls_name="fleet.example"))) as where,
            asking(where.url, security) as one,
        ):
            one.prompt(PROMPT)
            generate(one)
            assert not wrong.sessions.table
    assert one.tokens == RIGHT
