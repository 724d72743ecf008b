"""`edgespec models`: which families of models can be a target or a draft, or whether one model can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgespec.cli.flags import PATH
from edgespec.cli.table import table
from edgespec.core.errors import EdgespecError
from edgespec.core.families import DRAFTS, TARGETS, VISION_TARGETS
from edgespec.model.support import REFUSED, REFUSED_FAMILIES

TRIED = "not tested: `edgespec serve` checks it when it is loaded, and `edgespec verify` compares its texts"


@click.command()
@click.argument("folder", required=False, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def models(folder: Path | None, as_json: bool) -> None:
    """List the families of models that edgespec is tested with; with FOLDER, say what the model in it can be.

    Only config.json is read. A family that is not listed may work: `edgespec serve` checks every target when it loads
    it, and refuses one that it could not serve exactly.
    """
    if folder is None:
        _list(as_json)
        return
    found = what_it_can_be(_model_type(folder))
    click.echo(json.dumps(found) if as_json else "\n".join(f"{name}: {said}" for name, said in found.items()))


def what_it_can_be(model_type: str) -> dict[str, str]:
    """What a model of this type can be, in words."""
    if model_type in REFUSED:
        target = f"no: it {REFUSED[model_type]}"
    else:
        target = "yes, tested" if model_type in {**TARGETS, **VISION_TARGETS} else TRIED
    draft = (
        "yes, tested" if model_type in DRAFTS else "only if its layers compute as Llama's do: try `compile`"
    )
    return {"model_type": model_type, "target": target, "draft": draft}


def _list(as_json: bool) -> None:
    groups = {"targets": TARGETS, "targets with pictures": VISION_TARGETS, "drafts": DRAFTS}
    if as_json:
        click.echo(json.dumps({**groups, "refused": REFUSED}, indent=2))
        return
    from rich.console import Console

    columns = ("what", "model_type", "models")
    rows = [(what, kind, name) for what, group in groups.items() for kind, name in group.items()]
    Console().print(table(columns, rows, title="Tested families", text=columns))
    for reason, families in REFUSED_FAMILIES.items():
        click.echo(f"Refused, as the model {reason}: {', '.join(families.split())}.")


def _model_type(folder: Path) -> str:
    """Raises EdgespecError."""
    file = folder / "config.json"
    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
        return str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgespecError(
            f"{file} does not say what model this is ({type(error).__name__}): give a model's folder."
        ) from None
