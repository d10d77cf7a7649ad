"""The embedded model's faster form: made, measured and recorded once, and never silently."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nomoat.base.errors import DiskFullError
from nomoat.base.settings import Settings
from nomoat.formats.gguf_file import read_gguf
from nomoat.run import embedded_choice
from nomoat.run.embedded_choice import Comparison, Speed, choose_embedded
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.store.store import Store

SLOW, FAST = Speed(300, 150), Speed(700, 140)


class _Told:
    """Keeps what progress is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, label: str, total: float | None = None, unit: str = "") -> None:
        self.lines.append(label)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.lines.append(note)

    def finish(self, note: str = "") -> None:
        self.lines.append(note)

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def settings(tmp_path: Path, smollm2_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", threads=1, embedded_model=smollm2_path)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.home, settings)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests run beside other work; the measurement is short because its outcome does not matter here."""
    monkeypatch.setattr(embedded_choice, "other_load_now", lambda: 0.0)
    monkeypatch.setattr(embedded_choice, "_MOST_OTHER_CORES", 1000.0)
    for name, value in (("_LOSS_TOKENS", 160), ("_TRIAL_PROMPT_TOKENS", 32), ("_TRIAL_ANSWER_TOKENS", 4)):
        monkeypatch.setattr(embedded_choice, name, value)
    yield


@pytest.mark.parametrize(
    ("comparison", "chosen"),
    [
        (Comparison(2.70, 2.702, SLOW, FAST), "Q8_0"),
        (Comparison(2.70, 2.702, FAST, SLOW), "as shipped"),
        (Comparison(2.70, 2.900, SLOW, FAST), "as shipped"),
        (Comparison(2.70, 2.690, SLOW, FAST), "Q8_0"),
    ],
)
def test_the_faster_form_is_chosen_unless_it_is_worse(comparison: Comparison, chosen: str) -> None:
    assert comparison.chosen == comparison.details()["chosen"] == chosen
    assert chosen in comparison.verdict()


def test_the_mix_is_a_prompt_of_512_and_an_answer_of_128_tokens() -> None:
    assert Speed(512, 128).mix_seconds() == pytest.approx(2.0)


@pytest.mark.usefixtures("idle")
def test_the_q8_0_is_made_once_measured_and_recorded(store: Store, settings: Settings) -> None:
    told = _Told()
    shipped = store.resolve("smollm2")
    chosen = choose_embedded(store, shipped, settings, told)
    assert any("first use" in line for line in told.lines)
    assert any("nats per token" in line for line in told.lines)
    (derived,) = (v for v in store.versions("smollm2") if v.parent_digest == shipped.digest)
    assert derived.quantisation == "Q8_0"
    types = {tensor.ggml_type.name for tensor in read_gguf(derived.path).tensors.values()}
    assert types == {"Q8_0", "F32"}
    assert abs(derived.details["loss_after"] - derived.details["loss_before"]) < 0.02
    assert derived.details["speed_after"]["tokens_per_second"] > 0
    expected = derived if derived.details["chosen"] == "Q8_0" else shipped
    assert chosen.digest == store.resolve("smollm2").digest == expected.digest

    again = _Told()
    assert choose_embedded(store, store.resolve("smollm2"), settings, again).digest == expected.digest
    assert again.lines == []

    as_shipped = Settings(settings.home, 1, settings.embedded_model, embedded_as_shipped=True)
    assert choose_embedded(store, store.resolve("smollm2"), as_shipped, again).digest == shipped.digest
    assert choose_embedded(store, store.resolve("smollm2"), settings, again).digest == expected.digest

    with Engine(derived, context_length=256, settings=settings) as engine:
        text = engine.generate("1, 2, 3, 4, 5, 6,", SamplingParams(temperature=0, max_tokens=6)).text()
    assert text.startswith(" 7, 8")


@pytest.mark.usefixtures("idle")
def test_a_full_disk_is_told_and_the_shipped_model_is_used(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path, threads: int) -> None:
        raise DiskFullError(f"{target}: no room left on the disk", "free some space")

    monkeypatch.setattr(embedded_choice, "quantise_to_q8_0", full)
    told, shipped = _Told(), store.resolve("smollm2")
    assert choose_embedded(store, shipped, settings, told) == shipped
    assert any("as shipped" in line and "no room left" in line for line in told.lines)
    assert not list((settings.home / "cache").glob("q8_0.*"))


def test_a_busy_machine_decides_nothing(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_choice, "other_load_now", lambda: 1.5)
    told, shipped = _Told(), store.resolve("smollm2")
    assert choose_embedded(store, shipped, settings, told) == shipped
    assert any("busy" in line for line in told.lines)
    assert len(store.versions("smollm2")) == 1


def test_other_models_are_left_alone(smollm2_path: Path, store: Store, settings: Settings) -> None:
    told, model = _Told(), store.resolve(smollm2_path)
    assert choose_embedded(store, model, settings, told) is model
    assert told.lines == []
