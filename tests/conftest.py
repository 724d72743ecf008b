"""The tests run from their own folder, and without torch those that need it are left out.

A child process must import the installed package, never the source folder: `python -c` and `python -m` look into the
current directory first, and the repository's root holds `edgespec/` without a native module when the package is
installed the ordinary way.
"""

from __future__ import annotations

import ast
import importlib.util
import multiprocessing.process
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import nursery
import pytest
import tiny_drafts

from edgespec.cli import child

HERE = Path(__file__).parent
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each worker, or they wait for each other's cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
LONGEST = (
    "test_interpreter.py",
    "test_golden_texts.py",
    "test_draft.py",
    "test_end_to_end.py",
    "test_int8.py",
    "test_tensor_parallel.py",
    "test_train.py",
    "test_verify_models.py",
)
"""These files come first, so that no process waits for another at the end."""

HAS_TORCH = importlib.util.find_spec("torch") is not None
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")
TORCH_MODULES = ("torch", "transformers", "triton", "edgespec.model", "edgespec.kernels", "edgespec.train")


@pytest.fixture(scope="session", autouse=True)
def no_memory_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands remember of texts lies elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def away_from_the_sources() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HERE)
        patch.setattr(
            multiprocessing.process, "ORIGINAL_DIR", str(HERE)
        )  # where spawned processes look first
        yield


@pytest.fixture(scope="session")
def _nursery() -> Iterator[None]:
    with nursery.held():
        yield


@pytest.fixture(scope="module")
def quick_start(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """The command line without the seconds that torch and transformers take to import, where they are."""
    if not HAS_TORCH:
        yield child.COMMAND
        return
    request.getfixturevalue("_nursery")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "COMMAND", nursery.COMMAND)
        yield nursery.COMMAND


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a file that imports torch when it is loaded, itself or through another file of the tests."""
    if HAS_TORCH or collection_path.suffix != ".py":
        return None
    return True if _needs_torch(collection_path) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, so that what they share is made once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if not HAS_TORCH and item.get_closest_marker("needs_torch"):
            item.add_marker(pytest.mark.skip(reason="torch is not installed"))


def _needs_torch(path: Path) -> bool:
    for name in _imported(path):
        if name.startswith(TORCH_MODULES):
            return True
        beside = HERE / f"{name}.py"
        if beside.exists() and _needs_torch(beside):
            return True
    return False


def _imported(path: Path) -> Iterator[str]:
    """The modules that a file imports at its head."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder that a test may change, alone in its place."""
    return shutil.copytree(tiny_drafts.compiled() / "model", tmp_path / "model")


@pytest.fixture
def engine(tmp_path: Path, model: Path) -> Path:
    """The engine of `model`, beside it."""
    return shutil.copytree(tiny_drafts.compiled() / "engine", tmp_path / "engine")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of `model` copy the graph of its engine in place of exporting the same one again."""
    from edgespec.engines import export

    graph_file = tiny_drafts.compiled() / "engine" / "draft.onnx"
    monkeypatch.setattr(export, "export_graph", lambda graph, file: shutil.copyfile(graph_file, file))
