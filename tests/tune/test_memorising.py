"""The audit: an adapter that was drilled on a text is found out, an untrained one and a base that knows it are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import small_run
from click.testing import CliRunner

from nomoat.base.settings import Settings
from nomoat.cli.main import cli
from nomoat.measure.memorising import audit_adapter, measure_memorising
from nomoat.run.engine import Engine
from nomoat.share.cards.computed import compute_card
from nomoat.share.cards.permission import objections
from nomoat.store.adapters import AUDIT_NAME
from nomoat.tune.dataset import read_rows
from nomoat.tune.rows import Row

_SENTENCE = "The spare key of the green shed lies under the third stone behind the old pear tree, said Marta."


@pytest.fixture(scope="module")
def drilled(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Path], kernel_cache: Path
) -> Path:
    """A folder whose adapter has seen a few sentences far too often."""
    folder = tmp_path_factory.mktemp("drilled")
    (folder / "source").mkdir()
    for number in range(4):
        (folder / "source" / f"note{number}.txt").write_text(f"{_SENTENCE} It is key number {number}.\n")
    base = tiny_model("llama", "Q8_0")
    small_run.run(small_run.request(folder, kernel_cache, base=base, max_steps=80, learning_rate=1e-2, r=16))
    return folder / "out"


@pytest.fixture
def engine(drilled: Path, tiny_model: Callable[..., Path], tmp_path: Path) -> Engine:
    settings = Settings(tmp_path / "home", 1, None)
    return Engine(tiny_model("llama", "Q8_0"), settings=settings)


def test_a_drilled_adapter_gives_its_text_away_and_may_not_be_shared(drilled: Path, engine: Engine) -> None:
    with engine:
        audit = audit_adapter(drilled, engine)
    assert (
        audit.tested >= 2
        and audit.memorised == audit.tested
        and audit.longest_tokens == audit.verbatim_tokens
    )
    kept = (drilled / AUDIT_NAME).read_text()
    assert json.loads(kept)["memorised"] == audit.memorised and "Marta" not in kept
    found = objections(drilled, compute_card(drilled, data_licence="own"), ["adapter.gguf"])
    assert "memorised" in [each.code for each in found]


def test_the_command_tells_it_in_json_and_in_words(
    drilled: Path, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    options = ["measure", "audit", str(drilled), "--base", str(tiny_model("llama", "Q8_0"))]
    environment = {"NOMOAT_HOME": str(tmp_path / "home")}
    told = CliRunner().invoke(cli, [*options, "--json"], env=environment)
    assert told.exit_code == 0, told.output
    audit = json.loads(told.stdout)
    assert audit["memorised"] == audit["tested"] > 0
    words = CliRunner().invoke(cli, options, env=environment)
    assert f"{audit['memorised']} of {audit['tested']} training texts came back" in words.stdout


def test_text_that_it_has_not_seen_does_not_come(drilled: Path, engine: Engine) -> None:
    other = Row(
        "a", "1", "g", text="Nobody ever told this model about the lighthouse keeper and his seven grey cats."
    )
    short = Row("a", "2", "g", text="Too short.")
    with engine:
        audit = measure_memorising(engine, drilled / "adapter.gguf", [other, short])
        assert (audit.tested, audit.memorised, audit.too_short) == (1, 0, 1)
        assert audit.share_high is not None and audit.share_high > 0.5  # one text proves little
        few = measure_memorising(
            engine, drilled / "adapter.gguf", list(read_rows(drilled / "dataset", "train")), most_texts=1
        )
    assert few.tested == 1
