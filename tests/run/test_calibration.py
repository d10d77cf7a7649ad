"""What speculation needs to know is measured while nobody waits, once, and not on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomoat.base.settings import Settings
from nomoat.run.curve_record import CurveRecord
from nomoat.run.drafts.cost_curve import CURVE_POINTS
from nomoat.run.engine import Engine
from nomoat.run.llama import AbortFlag
from nomoat.run.protocol import Load
from nomoat.run.sampling import SamplingParams
from nomoat.run.session import Session

SHORT = SamplingParams(temperature=0, max_tokens=8)
SECONDS = {n: 0.005 * n for n in CURVE_POINTS}


@pytest.fixture(scope="module")
def session(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    load = Load(0, str(smollm2_path), 512, 1, str(tmp_path_factory.mktemp("cache")))
    made = Session(load, AbortFlag(), lambda message: None, lambda share: None)
    yield made
    made.close(1.0)
    made.context.close()
    made.model.close()


def _idle(monkeypatch: pytest.MonkeyPatch, cores: float) -> None:
    class _Load:
        def cores(self) -> float:
            return cores

    monkeypatch.setattr("nomoat.run.calibration.OtherLoad", _Load)


def _record(session: Session) -> CurveRecord:
    assert session._calibration is not None
    return session._calibration._record


def test_quiet_moments_find_out_what_checking_costs_and_keep_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    _idle(monkeypatch, 0.0)
    usual = session.speculation.curve.relative(32)
    while session.tidy_up():
        pass
    assert session.speculation.curve.relative(32) != usual
    known = _record(session).read()
    assert known is not None
    assert sorted(known[0]) == list(CURVE_POINTS)
    assert session.context.held_tokens(0) == 0


def test_a_record_comes_back_for_the_same_model_and_threads_only(smollm2_path: Path, tmp_path: Path) -> None:
    CurveRecord(tmp_path, 2, smollm2_path).write(SECONDS, 3)
    assert CurveRecord(tmp_path, 2, smollm2_path).read() == (SECONDS, 3)
    assert CurveRecord(tmp_path, 1, smollm2_path).read() is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"cost_seconds": {"1": 0.1}, "steady_tokens": null}', '{"cost_seconds": 3}'],
)
def test_a_damaged_record_is_no_record(smollm2_path: Path, tmp_path: Path, content: str) -> None:
    record = CurveRecord(tmp_path, 2, smollm2_path)
    record.write(SECONDS, None)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert record.read() is None


def test_a_request_does_not_wait_for_it(smollm2_path: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, threads=1, embedded_model=None)
    with Engine(smollm2_path, context_length=512, settings=settings) as engine:
        assert engine.generate("1, 2, 3, 4,", SHORT).text()
        time.sleep(0.3)
        assert engine.generate("1, 2, 3, 4,", SHORT).text()
