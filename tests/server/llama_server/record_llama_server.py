"""Ask the real llama-server every case and keep its answers, to compare nomoat with where no llama-server was built.

    python tests/server/llama_server/record_llama_server.py

builds llama-server first if need be: 10 minutes on 2 cores.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE.parent), str(_HERE.parents[2] / "benchmarks")]

from llama_server_cases import CASES, CONTEXT_TOKENS, EMBEDDINGS, Case, steady  # noqa: E402

__all__ = ["RECORDED", "asked", "record"]

RECORDED = _HERE / "llama_server_answers.json"


def asked(url: str, case: Case) -> dict[str, Any]:
    """Status and content of the answer; a stream's content is a list of its events."""
    method, path, body = case
    answer = httpx.request(method, url + path, json=body, timeout=120)
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [block.removeprefix("data: ") for block in answer.text.split("\n\n") if block]
        return {"status": answer.status_code, "events": [json.loads(event) for event in events]}
    return {"status": answer.status_code, "content": answer.json()}


def record(program: Path, model: Path) -> dict[str, Any]:
    """The answers of the real server `program` with `model`."""
    from running_server import write_adapter
    from servers import llama_server

    with tempfile.TemporaryDirectory() as folder:
        adapter = write_adapter(model, Path(folder) / "me.gguf", 1)
        options = ["-c", str(CONTEXT_TOKENS), "-np", "1", "--no-webui"]
        with llama_server(program, model, *options, "--lora", str(adapter), threads=1) as server:
            # There, an adapter counts in every request that does not say otherwise; here, where it is asked for.
            httpx.post(server.url + "/lora-adapters", json=[{"id": 0, "scale": 0.0}]).raise_for_status()
            answers = {name: steady(asked(server.url, case)) for name, case in CASES.items()}
            for name in set(answers) - {"settings"}:
                _without_settings(answers[name])
        with llama_server(program, model, *options, "--embeddings", "--pooling", "mean", threads=1) as server:
            embeddings = {name: steady(asked(server.url, case)) for name, case in EMBEDDINGS.items()}
    return {"answers": answers, "embeddings": embeddings}


def _without_settings(answer: dict[str, Any]) -> None:
    """One case is about them; in the others they would be most of the file."""
    for part in answer.get("events", [answer.get("content")]):
        if isinstance(part, dict):
            part.pop("generation_settings", None)
        for each in part if isinstance(part, list) else ():
            each.pop("generation_settings", None)


def main() -> None:
    """Write the file, a line for each answer."""
    from llama_server import build_llama_server
    from servers import embedded_model

    content = record(build_llama_server(), embedded_model())
    groups = [f"{json.dumps(kind)}: {{\n{_lines(answers)}\n}}" for kind, answers in content.items()]
    RECORDED.write_text("{\n" + ",\n".join(groups) + "\n}\n", encoding="utf-8")


def _lines(answers: dict[str, Any]) -> str:
    return ",\n".join(
        f" {json.dumps(name)}: {json.dumps(answer, ensure_ascii=False)}" for name, answer in answers.items()
    )


if __name__ == "__main__":
    main()
