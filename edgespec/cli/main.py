"""The command line: finds the command, and turns errors into one sentence and exit status 2.

The commands are imported when they are called, so that `edgespec --help` is quick.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from edgespec._version import __version__
from edgespec.core.errors import EdgespecError

COMMANDS = {
    "up": ("up:up", "Try it: start everything on this machine and open a page."),
    "demo": ("demo.command:demo", "Compare the modes on this machine: the same text, at different speeds."),
    "serve": ("serve:serve", "Serve a target model to devices."),
    "fleet": ("fleet:fleet", "Run many servers under Ray, behind one address."),
    "generate": ("generate:generate", "Continue one prompt."),
    "chat": ("chat:chat", "Talk with the target, turn by turn."),
    "api": ("api:api", "Serve an OpenAI-compatible API on this device."),
    "ros": ("ros:ros", "Drive a robot from ROS 2."),
    "memory": ("memory:memory", "Show or clear what this device remembers of earlier texts."),
    "compile": ("compile:compile_draft", "Build a draft engine from a draft model."),
    "top": ("top:top", "Show a server's sessions."),
    "link": ("link:link", "Emulate a slow link between device and server."),
    "doctor": ("doctor:doctor", "Say whether speculation makes this setup faster, and why."),
    "plan": ("plan:plan", "Predict the speed of every mode for a given link and pair of models."),
    "train": ("train:train", "Train a draft or early exits for a target."),
    "calibrate": ("calibrate:calibrate", "Fit a draft engine's calibration on your own prompts."),
    "models": ("models:models", "List the families of models that are tested, or look at one model."),
    "verify": ("verify:verify", "Compare every mode's text with transformers' generate, token for token."),
    "reproduce": ("reproduce:reproduce", "Run the paper's experiments with paced engines."),
    "kernels": ("kernels:kernels", "Build the CUDA kernels ahead of time, and see what they take."),
    "gpu-check": ("gpu_check:gpu_check", "Compare a GPU with the CPU, and measure it."),
    "token": ("token:token", "Create, list and revoke the tokens of devices."),
    "tls": ("tls:tls", "Create certificates for encrypted connections."),
}
"""Name -> where the command is in edgespec.cli, and its line in the overview."""


class LazyGroup(click.Group):
    """A group that imports a command on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(f"edgespec.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgespec", message="%(prog)s %(version)s")
def edgespec() -> None:
    """Fast text from a large model, for devices that cannot hold it: a small model drafts on the device, the large one
    verifies on a server. The text is exactly the large model's own."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. A user's mistake gives one sentence on standard error and status 2."""
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no error from the flush at exit
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
