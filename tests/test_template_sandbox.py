"""Chat templates come with models from anywhere: whatever one does, rendering ends soon, in a text or a sentence."""

from __future__ import annotations

import time

import pytest

from edgespec.core.chat_template import render_chat
from edgespec.core.errors import EdgespecError

MESSAGES = [{"role": "user", "content": "50 %999999999d {0:>999999999} of it"}]


def render(template: str) -> str:
    return render_chat(template, MESSAGES, True, {"bos_token": "<s>"}, {})


HOSTILE = {
    "a loop in a loop in a loop": (
        "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}"
        "{% endfor %}{% endfor %}{% endfor %}"
    ),
    "a product": "{{ 'a' * 999999999 }}",
    "a product of a list": "{{ ([0] * 99999999)|length }}",
    "a sum that doubles": "{% set n=namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "a join that doubles": "{% set n=namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "a block that doubles": (
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set b %}{{ n.t }}{{ n.t }}{% endset %}"
        "{% set n.t = b %}{% endfor %}"
    ),
    "a power": "{{ 9 ** 99999999 }}",
    "a power of powers": "{% set n = namespace(t=9) %}{% for i in range(60) %}{% set n.t = n.t * n.t %}{% endfor %}",
    "a wide format": "{{ '%999999999d' % 1 }}",
    "a wide format by a filter": "{{ '%999999999d'|format(1) }}",
    "a wide format by a method": "{{ '{:>999999999}'.format(1) }}",
    "a wide centre": "{{ 'a'|center(999999999) }}",
    "a wide centre by a method": "{{ 'a'.center(999999999) }}",
    "a deep indent": "{{ messages|tojson(indent=999999999) }}",
    "filler text": "{{ lipsum(n=1000000) }}",
    "an attribute that leads out": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a change of what it was given": "{% set _ = messages.append(1) %}",
    "an option of the encoder": "{{ messages|tojson(cls='x') }}",
    "a division by nothing": "{{ 1 / 0 }}",
    "a macro without end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "no template": "{% for %}",
    "a template of two mebibytes": "a" * (2 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_soon_in_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespec.core.template_sandbox.MOST_SECONDS", 0.5)
    start_s = time.monotonic()
    with pytest.raises(EdgespecError, match="the chat template"):
        render(HOSTILE[name])
    assert time.monotonic() - start_s < 20


HONEST = {
    "{{ bos_token }}{% for m in messages %}{{ m.role ~ ': ' ~ m['content']|trim }}{% endfor %}": (
        "<s>user: 50 %999999999d {0:>999999999} of it"
    ),
    "{{ messages[0].content.split('%')[0] + 'x' * 3 }}": "50 xxx",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}": "1",
    "{{ {'a': 1}|tojson(indent=2) }}": '{\n  "a": 1\n}',
    "{{ ['a', 'b']|join(', ')|upper }}{{ '%s-%05d'|format('a', 7) }}": "A, Ba-00007",
    "{% generation %}{{ 1 if add_generation_prompt }}{% endgeneration %}": "1",
}


@pytest.mark.parametrize("template", HONEST)
def test_what_templates_do_goes_on_as_it_was(template: str) -> None:
    assert render(template) == HONEST[template]
