"""Chat templates come with models from anywhere: whatever one does, rendering ends soon, in a text or a sentence."""

from __future__ import annotations

import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgespec.core import template_process
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
    "lists of lists that double": (
        "{% set n = namespace(l=[]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}"
    ),
    "a refusal without end": "{{ raise_exception('a' * 99999999) }}",
    "parentheses without end": "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
    "no template": "{% for %}",
    "a template of two mebibytes": "a" * (2 << 20),
}


LARGE = {
    "a replacement": "{{ (t.replace('a', t))|length }}",
    "a replacement by a filter": "{{ t|replace('a', t)|length }}",
    "a join": "{{ t.join(t)|length }}",
    "a join by a filter": "{{ t|join(t)|length }}",
    "an indent": "{{ ('\\n' * 1000)|indent(1048576, blank=True)|length }}",
    "a format that takes its width": "{{ ('{:{}}' * 500).format(*([1, 1048576] * 500))|length }}",
    "tabs": "{{ ('\\t' * 1000).expandtabs(1048576)|length }}",
    "a translation": "{{ t.translate({97: t})|length }}",
    "a list of a text": "{{ ('ab' * 10000000)|list|sort|length }}",
    "a constant of the template's": "{{ ('a' * 999999999)|length }}",
}
"""Made of `t`, 32 Ki characters; none of them is part of the rendered text."""

LONG = {
    "a search from the end": "{{ ('a' * 4000000).rfind('ab' + 'a' * 2000000) }}",
    "a comparison of lists of lists": (
        "{% set n = namespace(a=[], b=[]) %}"
        "{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}"
    ),
    "a power of one call": "{{ 9 ** 99999999 }}",
}
"""One operation each, which Python does not look up from."""


@pytest.fixture
def half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "MOST_CPU_S", 0.5)


@pytest.mark.usefixtures("half_a_second")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_soon_in_a_sentence(name: str) -> None:
    start_s = time.monotonic()
    with pytest.raises(EdgespecError, match="the chat template"):
        render(HOSTILE[name])
    assert time.monotonic() - start_s < 20


@pytest.mark.parametrize("name", LARGE)
def test_whatever_takes_much_memory_gets_none_of_it(name: str) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EdgespecError, match="it needs too much memory"):
        render("{% set t = 'a' * 32768 %}" + LARGE[name])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 << 10


@pytest.mark.usefixtures("half_a_second")
@pytest.mark.parametrize("name", LONG)
def test_one_operation_that_computes_for_long_is_stopped(name: str) -> None:
    with pytest.raises(EdgespecError, match="it runs for too long"):
        render(LONG[name])


def test_a_rendered_text_is_bounded() -> None:
    with pytest.raises(EdgespecError, match="a text of more than 16777216 characters"):
        render("{{ 'a' * 16777217 }}")


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


SAYS = "{{ messages[0].content }}"


def says(content: str) -> str:
    return render_chat(SAYS, [{"role": "user", "content": content}], True, {}, {})


@pytest.mark.usefixtures("half_a_second")
def test_a_template_renders_again_after_it_was_stopped() -> None:
    template = "{{ 2 ** (messages[0].content|length * 99999999) % 7 }}"
    for _ in range(2):
        with pytest.raises(EdgespecError, match="it runs for too long"):
            render_chat(template, [{"role": "user", "content": "long"}], True, {}, {})
        assert render_chat(template, [{"role": "user", "content": ""}], True, {}, {}) == "1"


def test_a_template_renders_again_after_its_process_was_killed() -> None:
    assert says("before") == "before"
    process = template_process.process_of(SAYS)._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert says("after") == "after"


def test_every_thread_gets_its_own_text() -> None:
    with ThreadPoolExecutor(8) as threads:
        contents = [str(number) * 1000 for number in range(100)]
        assert list(threads.map(says, contents)) == contents


def test_a_fork_takes_no_texts_of_its_parent() -> None:
    assert says("parent") == "parent"
    fork = os.fork()
    if fork == 0:
        os._exit(0 if says("fork") == "fork" else 1)
    assert os.waitpid(fork, 0) == (fork, 0)
    assert says("parent again") == "parent again"


def test_what_a_text_has_comes_through_as_it_is() -> None:
    content = "ä 你 \U0001f600 \ud800 \r\n\u2028 \0"
    assert says(content) == content


def test_processes_of_templates_that_nobody_uses_end() -> None:
    says("first")
    first = template_process.process_of(SAYS)._process
    assert first is not None
    for number in range(template_process.KEPT_PROCESSES):
        render(str(number))
    with pytest.raises(ProcessLookupError):
        os.kill(first.pid, 0)


def test_where_no_process_starts_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process.sys, "executable", "/nowhere/python")
    with pytest.raises(EdgespecError, match="the process that renders chat templates does not start"):
        render("a template that has no process yet")
