"""Who asks: a kept session goes on for its own holder alone, and an IPv6 host has one share however it is called."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import expected, open_api

from edgespec.api.access import Access
from edgespec.api.holder import Holder, holder
from edgespec.core.network import network_of

KEYS = ("first-key-of-sixteen", "other-key-of-sixteen")
PROMPT = "A" * 30


def cached_tokens(url: str, address: str = "127.0.0.1", key: str = KEYS[0], **more: Any) -> int:
    """Of a request for the same text, which comes from this address with this key."""
    connection = http.client.HTTPConnection(
        url.removeprefix("http://"), timeout=30, source_address=(address, 0)
    )
    body = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, **more}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["choices"][0]["text"] == expected(PROMPT, 4)
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])


@pytest.mark.parametrize(
    "other", [{"user": "other"}, {"user": ""}, {"address": "127.0.0.2"}, {"key": KEYS[1]}], ids=str
)
def test_nobody_learns_from_the_usage_what_another_has_asked(other: dict[str, str]) -> None:
    own = {"user": "own"}
    with open_api(access=Access(KEYS)) as (url, _):
        assert cached_tokens(url, **own) == 0
        assert cached_tokens(url, **{**own, **other}) == 0
        assert cached_tokens(url, **own) == len(PROMPT) - 1


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("10.0.0.2", "10.0.0.2"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.2", "10.0.0.2"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_host_counts_as_its_network(host: str, network: str) -> None:
    assert network_of(host) == network == Holder(host).network


def test_two_keys_are_two_names_and_none_shows_in_them() -> None:
    first, other = (holder("10.0.0.2", f"Bearer {key}", "me") for key in KEYS)
    assert first.name != other.name and first != other
    assert KEYS[0] not in repr(first)
