"""What speculation needs to know is measured while nobody waits, once, and not on a busy machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def _session(model: Path, cache: Path) -> Iterator[Session]:
    made = Session(Load(0, str(model), 512, 1, str(cache)), AbortFlag(), lambda _: None, lambda _: None)
    yield made
    made.close(1.0)
    made.context.close()
    made.model.close()


class _Load:
    """What other programs are said to use."""

    def __init__(self, cores: float) -> None:
        self._cores = cores

    def cores(self) -> float:
        return self._cores


def _slower_each_round(rounds: list[dict[int, float]]) -> Callable[[int], float]:
    def timed(count: int) -> float:
        if count == CURVE_POINTS[0]:
            rounds.append({})
        rounds[-1][count] = 0.01 * count * len(rounds) + (0.01 * len(rounds) if count > 1 else 0.0)
        return rounds[-1][count]

    return timed


def _record(session: Session) -> CurveRecord:
    assert session._calibration is not None
    return session._calibration._record


def test_quiet_moments_find_out_what_checking_costs_and_keep_it(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nomoat.run.calibration.OtherLoad", lambda: _Load(0.0))
    with _session(smollm2_path, tmp_path) as session:
        usual = session.speculation.curve.relative(32)
        while session.tidy_up():
            pass
        assert session.speculation.curve.relative(32) != usual
        known = _record(session).read()
        assert known is not None
        assert sorted(known[0]) == list(CURVE_POINTS)
        assert session.context.held_tokens(0) == 0


def test_what_ran_beside_other_programs_is_no_measurement(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = iter([0.0, 1.5, *[0.0] * 9])
    with _session(smollm2_path, tmp_path) as session:
        rounds: list[dict[int, float]] = []
        monkeypatch.setattr("nomoat.run.calibration.OtherLoad", lambda: _Load(next(loads)))
        monkeypatch.setattr(session._calibration, "_timed", _slower_each_round(rounds))
        while session.tidy_up():
            pass
        # The second round was disturbed: the fourth took its place, and the least of the first counts.
        assert len(rounds) == 4
        assert session.speculation.curve.seconds(1) == pytest.approx(rounds[0][1])


def test_a_machine_that_is_never_quiet_keeps_the_usual_curve(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _session(smollm2_path, tmp_path) as session:
        usual = session.speculation.curve.points()
        monkeypatch.setattr("nomoat.run.calibration.OtherLoad", lambda: _Load(2.0))
        while session.tidy_up():
            pass
        assert session.speculation.curve.points() == usual
        assert _record(session).read() is None


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
