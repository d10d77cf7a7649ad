"""The serving benchmarks' own parts: new prompts, how clients count, ratios, adapters; and that the programs run."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_lora import read_gguf_lora

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "scripts")]

import bench_tables  # noqa: E402
from llama_server import built_llama_server  # noqa: E402
from ratios import geometric_mean, interval, median_ratio, ratio_words  # noqa: E402
from serve_adapters import write_random_adapter  # noqa: E402
from serve_load import Clients, chat, throughput, worst_ttft_seconds  # noqa: E402
from serve_prompts import COPYING, PLAIN, copied_share, document  # noqa: E402
from servers import Server  # noqa: E402


def test_ratios_are_medians_of_rounds_with_an_interval() -> None:
    assert median_ratio([2, 4, 9], [1, 2, 3]) == 2
    assert ratio_words([2, 4, 9], [1, 2, 3]) == "2 (2 to 3)"
    assert interval([1, 1, 1]) == (1, 1)
    assert geometric_mean([1, 4]) == pytest.approx(2)


@pytest.mark.parametrize("kind", [*COPYING, *PLAIN])
def test_prompts_of_a_class_differ_and_come_again_with_the_seed(kind: str) -> None:
    make = (COPYING | PLAIN)[kind]
    texts = [make(random.Random(seed)) for seed in range(8)]
    assert texts == [make(random.Random(seed)) for seed in range(8)]
    assert len(set(texts)) >= 7


def test_documents_differ_from_their_first_words() -> None:
    assert len({document(seed, 10) for seed in range(50)}) == 50
    assert len(document(3, 950).split()) == 950


def test_what_an_answer_copies_is_counted_in_runs_of_words() -> None:
    prompt = "a b c d e f g h"
    assert copied_share(prompt, "b c d e f g h") == 1
    assert copied_share(prompt, "a b c d e f x") == 0.5
    assert copied_share(prompt, "g h") == copied_share("", prompt) == 0


class _Canned(BaseHTTPRequestHandler):
    """Streams a fixed answer the way servers of OpenAI's API do."""

    received: ClassVar[list[dict[str, object]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(body))
        events: list[dict[str, object]] = [{"choices": [{"delta": {"role": "assistant", "content": None}}]}]
        events += [{"choices": [{"delta": {"content": text}}]} for text in ("a", "bcd")]
        events += [{"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": {"prompt_ms": 7}}]
        events += [{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 8}}]
        self.send_response(200)
        self.end_headers()
        for event in events:
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def canned() -> Iterator[Server]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Canned) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Server("canned", f"http://127.0.0.1:{server.server_address[1]}", "some", 0)
        server.shutdown()


def test_clients_count_what_a_stream_tells(canned: Server) -> None:
    with Clients(0) as clients:
        answers = clients.run(canned, [chat("one", 9), chat("two", 9)], [chat("three", 9, seed=1)])
    assert [answer.text for answer in answers] == ["abcd"] * 3
    assert {(a.prompt_tokens, a.timings["prompt_ms"]) for a in answers} == {(5, 7)}
    assert {a.tokens for a in answers} == {
        9
    }  # with the one that means the end, which this server does not count
    assert all(a.sent < a.first <= a.last and a.tokens_per_second > 0 for a in answers)
    assert throughput(answers) > 0 and worst_ttft_seconds(answers) == max(a.ttft_seconds for a in answers)
    assert {body["model"] for body in _Canned.received} == {"some"}
    assert all(body["stream"] and body["temperature"] == 0 for body in _Canned.received)


def test_a_random_adapter_fits_its_base(tmp_path: Path, smollm2_path: Path) -> None:
    adapter = read_gguf_lora(
        write_random_adapter(smollm2_path, tmp_path / "a.gguf", 1), read_gguf(smollm2_path)
    )
    assert adapter.r == 16 and len(adapter.modules) == 7 * 30


def test_a_table_of_details_stays_out_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"machine": "m", "date": "d", "columns": ["a"], "rows": [[1]]}
    for title, more in (("short", {}), ("long", {"detail": True})):
        (tmp_path / f"{title}.json").write_text(json.dumps({**result, "title": title, **more}))
    pages = [tmp_path / "README.md", tmp_path / "speed.md"]
    for page in pages:
        page.write_text("<!-- bench:start --><!-- bench:end -->")
    monkeypatch.setattr(bench_tables, "_RESULTS", tmp_path)
    monkeypatch.setattr(bench_tables, "_PAGES", pages)
    monkeypatch.setattr(bench_tables, "_README", pages[0])
    bench_tables.write_pages()
    readme, speed = (page.read_text() for page in pages)
    assert "**short**" in readme and "**long**" not in readme
    assert "**short**" in speed and "**long**" in speed


@pytest.mark.skipif(
    built_llama_server() is None, reason="llama-server is not built: run scripts/bench serve_clients"
)
def test_a_program_prints_one_table() -> None:
    argv = [sys.executable, str(ROOT / "benchmarks" / "serve_adapters.py"), "--quick", "--adapters", "2"]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    result = json.load(io.StringIO(answer.stdout))
    assert [row[0] for row in result["rows"]] == ["nomoat", "llama-server"]
    assert all(len(row) == len(result["columns"]) for row in result["rows"])
    assert "| nomoat |" in bench_tables.table({**result, "date": "today"})
