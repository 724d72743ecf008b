"""Renders one chat template, as a program: jinja2's immutable sandbox, with what transformers gives its templates.

template_process.py starts this file as a program and bounds it. It imports nothing of edgespec, so that it starts soon
and is small. The first line of standard input says what it is for, as JSON: {"template", "memory_bytes", "characters",
"cpu_s"}. Each line after it has the values of one rendering, and is answered by one line: {"text"} or {"refusal"}.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import datetime
from functools import cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST_REFUSAL = 1000
"""Characters. A template chooses the words of its refusals."""


def main() -> None:
    """Render until standard input ends. A rendering that computes for longer than it may ends the process."""
    job = json.loads(sys.stdin.buffer.readline())
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    memory = job["memory_bytes"] if hard == resource.RLIM_INFINITY else min(job["memory_bytes"], hard)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
    # The kernel's own action stops what Python does not look up from, such as a power or a search.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, job["cpu_s"])
        answer = _answer(job["template"], line, job["characters"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


def _answer(template: str, line: bytes, most_characters: int) -> bytes:
    try:
        text = _compiled(template).render(json.loads(line))
        if len(text) > most_characters:
            raise jinja2.TemplateError(f"it makes a text of more than {most_characters} characters")
        return json.dumps({"text": text}).encode()
    except MemoryError:
        refusal = "it needs too much memory"
    except Exception as error:  # whatever a template does, the caller gets a sentence
        refusal = str(error).strip()[:LONGEST_REFUSAL] or type(error).__name__
    return json.dumps({"refusal": refusal}).encode()


@cache
def _compiled(template: str) -> jinja2.Template:
    return environment().from_string(template)


def environment() -> ImmutableSandboxedEnvironment:
    """Renders as transformers does."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    sandbox.filters["tojson"] = _tojson
    del sandbox.globals["lipsum"]
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words for training; here its body is text like any other."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


if __name__ == "__main__":
    main()
