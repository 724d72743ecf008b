"""The command line's front: finds the command, and turns what goes wrong into one sentence and exit status 2.

The commands live in edgespec/commands, a file each, and are imported when they are called: `edgespec --help` is quick,
and only `serve`, `compile` and `train` ever import torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from edgespec._version import __version__
from edgespec.core.errors import EdgespecError

COMMANDS = {
    "demo": (
        "edgespec.cli.demo.command:demo",
        "Server, link and edge on this machine: the same text, faster.",
    ),
    "serve": ("edgespec.cli.serve:serve", "Serve a target model to edges."),
    "generate": ("edgespec.cli.generate:generate", "Continue one prompt."),
    "chat": ("edgespec.cli.chat:chat", "Talk with a target, turn by turn."),
    "compile": ("edgespec.cli.compile:compile_draft", "Make a draft engine of a draft model."),
    "top": ("edgespec.cli.top:top", "Watch a server's sessions."),
    "link": ("edgespec.cli.link:link", "Emulate a slow link: a delaying proxy."),
    "doctor": ("edgespec.cli.doctor:doctor", "Say whether speculation pays on this link, and why."),
    "plan": ("edgespec.cli.plan:plan", "Predict every mode on a link and engines that you type in."),
    "train": ("edgespec.cli.train:train", "Train a target, a draft, or a target's exit heads."),
    "kernels": ("edgespec.cli.kernels:kernels", "Build the CUDA kernels ahead of time."),
    "bench": ("edgespec.cli.bench:bench", "Measure the kernels on this machine beside torch."),
    "token": ("edgespec.cli.token:token", "Tokens by which a server knows its devices."),
    "tls": ("edgespec.cli.tls:tls", "An authority and certificates for encrypted links."),
}
"""Name -> where the command is, and its line in the overview."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgespec", message="%(prog)s %(version)s")
def edgespec() -> None:
    """Exact, fast large-model text on devices that cannot hold the large model."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. A mistake of the caller's: one sentence on stderr, status 2."""
    try:
        status = edgespec.main(arguments, prog_name="edgespec", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message())
    except EdgespecError as error:
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # nobody reads: say nothing at exit either
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(sentence: str) -> NoReturn:
    line = " ".join(sentence.split())
    print(f"edgespec: error: {line}", file=sys.stderr, flush=True)
    sys.exit(2)
