"""llama.cpp's own download (`-hf OWNER/NAME:QUANT`), from the program that llama-cpp-python's source makes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from running_hub import RunningHub

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from llama_server import built_llama_server


def test_llama_cpp_downloads_a_model_and_runs_it(
    running_hub: RunningHub, alice: str, smollm2_path: Path, tmp_path: Path
) -> None:
    program = built_llama_server()
    if program is None:
        pytest.skip("llama-server was not built: benchmarks/llama_server.py does")
    running_hub.run_client("hf_scripts", "push_gguf", alice, GGUF=str(smollm2_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # A private repository: llama.cpp sends the token, as it looks like one of Hugging Face.
    argv = [
        str(program),
        "-hf",
        "alice/smollm2:Q4_1",
        "--port",
        str(port),
        "-c",
        "256",
        "-t",
        "1",
        "--no-webui",
    ]
    environment = running_hub.environment(alice, LLAMA_CACHE=str(tmp_path), HF_HOME=str(tmp_path))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        answer = _answer(process, port, tmp_path / "log")
    finally:
        process.kill()
        process.wait()
    assert answer["content"]
    [cached] = [path for path in tmp_path.rglob("*.gguf") if path.is_file()]
    assert cached.read_bytes() == smollm2_path.read_bytes()


def _answer(process: subprocess.Popen[bytes], port: int, log: Path) -> dict[str, str]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            body = {"prompt": "The sea", "n_predict": 3}
            response = httpx.post(f"http://127.0.0.1:{port}/completion", json=body, timeout=30)
            if response.status_code == 200:
                found: dict[str, str] = response.json()
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-4000:])
