"""A worker that dies is an error to one request; the next one gets a new worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nomoat.base.errors import BadFileError, EngineError, InputError, NotEnoughMemoryError, NotFoundError
from nomoat.base.settings import Settings
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=8)
LONG = SamplingParams(temperature=0, max_tokens=400, ignore_end=True)
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8,"


@pytest.fixture
def engine(smollm2_path: Path, settings: Settings) -> Iterator[Engine]:
    """An engine that may be broken."""
    with Engine(smollm2_path, context_length=512, settings=settings) as running:
        yield running


def _pid(engine: Engine) -> int:
    assert engine.worker_pid is not None
    return engine.worker_pid


def test_a_kill_in_the_middle_of_an_answer_is_an_error_and_the_next_request_works(engine: Engine) -> None:
    before = engine.generate(COUNTING, GREEDY).text()
    answer = engine.generate(COUNTING, LONG)
    next(answer)
    os.kill(_pid(engine), signal.SIGKILL)
    with pytest.raises(EngineError, match="SIGKILL") as failure:
        list(answer)
    assert failure.value.hint
    assert engine.generate(COUNTING, GREEDY).text() == before


def test_a_grammar_that_would_never_be_read_ends_the_worker_and_the_next_request_works(
    engine: Engine,
) -> None:
    grammar = "root ::= x{0,1999}\nx ::= y{0,1999}\ny ::= [a-z]{0,1999}"
    with engine.generate(COUNTING, LONG) as other:
        next(other)
        with pytest.raises(InputError, match="too many ways"):
            engine.generate(COUNTING, SamplingParams(temperature=0, grammar=grammar)).text()
        with pytest.raises(EngineError, match=r"last words.*grammar"):
            list(other)
    assert engine.generate(COUNTING, GREEDY).text()


def test_a_grammar_that_takes_ever_longer_over_each_token_ends(engine: Engine) -> None:
    grammar = "root ::= s\ns ::= [a-z ] s s | [a-z ] s s s | [a-z ]"
    process = psutil.Process(_pid(engine))
    with pytest.raises(InputError, match="too many ways"):
        engine.generate(COUNTING, SamplingParams(temperature=0, grammar=grammar)).text()
    process.wait(10)
    assert engine.generate(COUNTING, GREEDY).text()


def test_a_crash_names_its_signal_and_last_words(engine: Engine) -> None:
    answer = engine.generate(COUNTING, LONG)
    next(answer)
    os.kill(_pid(engine), signal.SIGSEGV)
    with pytest.raises(EngineError, match=r"SIGSEGV.*Segmentation fault"):
        list(answer)


def test_a_worker_that_died_while_idle_is_replaced_without_a_word(engine: Engine) -> None:
    first = _pid(engine)
    process = psutil.Process(first)
    os.kill(first, signal.SIGKILL)
    process.wait(5)
    assert engine.generate(COUNTING, GREEDY).text().startswith(" 9, 10")
    assert _pid(engine) != first


def test_every_waiting_request_learns_of_the_death(engine: Engine) -> None:
    answers = [engine.generate(COUNTING, LONG) for _ in range(3)]
    next(answers[0])
    os.kill(_pid(engine), signal.SIGKILL)
    for answer in answers:
        with pytest.raises(EngineError):
            list(answer)


def test_a_stray_interrupt_does_not_reach_the_worker(engine: Engine) -> None:
    answer = engine.generate(COUNTING, GREEDY)
    os.kill(_pid(engine), signal.SIGINT)
    assert answer.text().startswith(" 9, 10")


def test_closing_the_engine_ends_its_worker_even_in_the_middle_of_an_answer(engine: Engine) -> None:
    answer = engine.generate(COUNTING, LONG)
    next(answer)
    process = psutil.Process(_pid(engine))
    engine.close()
    assert not process.is_running()
    with pytest.raises(EngineError, match="closed"):
        list(answer)
    engine.close()


def test_the_worker_ends_with_its_parent(smollm2_path: Path, settings: Settings) -> None:
    script = (
        "import sys, time; from nomoat.run.engine import Engine\n"
        "engine = Engine(sys.argv[1], context_length=256, threads=1).load()\n"
        "print(engine.worker_pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(smollm2_path)]
    environment = {**os.environ, "NOMOAT_HOME": str(settings.home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    deadline = time.monotonic() + 10
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_the_worker_imports_nothing_from_the_users_folder(
    tmp_path: Path, smollm2_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    with Engine(smollm2_path, context_length=256, settings=settings) as engine:
        assert engine.encode("a")


# -- models that cannot be loaded ----------------------------------------------------------------


def test_a_truncated_model_is_refused_before_it_is_loaded(smollm2_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    with smollm2_path.open("rb") as whole:
        path.write_bytes(whole.read(20_000_000))
    with pytest.raises(BadFileError, match=r"half\.gguf") as refusal:
        Engine(path)
    assert refusal.value.hint


def test_a_file_that_only_looks_like_a_model_tells_llama_cpps_reason(
    smollm2_path: Path, tmp_path: Path, settings: Settings
) -> None:
    # The header stays sound, the architecture is one that llama.cpp does not know.
    content = bytearray(smollm2_path.read_bytes())
    place = content.index(b"general.architecture") + 20 + 4 + 8
    assert content[place : place + 5] == b"llama"
    content = content.replace(b"llama", b"lhama")
    path = tmp_path / "strange.gguf"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"strange\.gguf.*lhama") as refusal:
        Engine(path, settings=settings).load()
    assert refusal.value.hint


def test_a_missing_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Engine(tmp_path / "none.gguf")


def test_a_model_larger_than_memory_is_refused_with_figures(
    smollm2_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nomoat.store.memory.available_memory_bytes", lambda: 50_000_000)
    with pytest.raises(NotEnoughMemoryError, match=r"0\.05 GB"):
        Engine(smollm2_path, settings=settings).load()
