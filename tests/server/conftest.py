"""One real server process for all tests: the embedded model, one thread, a free port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from running_server import CONTEXT_TOKENS, RunningServer, StartServer, started, usual_options, write_adapter

from nomoat.base.settings import Settings
from nomoat.run.engine import Engine


@pytest.fixture(scope="session")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server-home")


@pytest.fixture(scope="session")
def server(smollm2_path: Path, server_home: Path, adapter_path: Path) -> Iterator[RunningServer]:
    """The server that most tests share. Leave it as it is."""
    with started(smollm2_path, server_home, *usual_options(adapter_path)) as running:
        yield running


@pytest.fixture
def start_server(smollm2_path: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of a test's own; they end with it."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> RunningServer:
            options = ["smollm2", "--port", "0", "--context-length", "512", *arguments]
            return stack.enter_context(started(smollm2_path, tmp_path, *options))

        yield start


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, told not to try again."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture(scope="session")
def engine(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The same model in this process: the oracle of what the server should say."""
    settings = Settings(home=tmp_path_factory.mktemp("oracle-home"), threads=1, embedded_model=None)
    with Engine(smollm2_path, context_length=CONTEXT_TOKENS, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def adapter_path(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(smollm2_path, tmp_path_factory.mktemp("adapters") / "me.gguf", 1)
