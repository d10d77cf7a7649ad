"""A recipe says what it means: keys and values that make no sense are refused with what would."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.tune.config import TARGET_MODULES, TuneConfig, config_to_toml, read_config

POSITIVE = st.floats(1e-9, 1e300)
BOUNDS = st.one_of(
    st.fixed_dictionaries({"epochs": POSITIVE}),
    st.fixed_dictionaries({"max_steps": st.integers(1, 2**40)}),
    st.fixed_dictionaries({"budget_seconds": POSITIVE}),
    st.just({}),
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": POSITIVE, "warmup_share": st.floats(0, 1), "r": st.integers(1, 4096), "lora_alpha": POSITIVE,
        "target_modules": st.lists(st.sampled_from(TARGET_MODULES), min_size=1, unique=True).map(tuple),
        "max_length": st.integers(8, 10**6), "batch_tokens": st.integers(1, 10**9),
        "train_on": st.sampled_from(["assistant", "all"]), "valid_share": st.floats(0.001, 0.9),
        "seed": st.integers(0, 2**63 - 1), "precision": st.sampled_from(["auto", "bf16", "fp32"]),
        "weight_decay": st.floats(0, 1e300), "memory_bytes": st.integers(1, 2**60),
        "checkpoint_seconds": st.floats(0, 1e300),
    },
)  # fmt: skip


def _read(folder: Path, text: str) -> TuneConfig:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


@given(BOUNDS, OTHERS)
def test_every_config_comes_back_from_its_toml(
    tmp_path_factory: pytest.TempPathFactory, bounds: dict[str, Any], others: dict[str, Any]
) -> None:
    config = TuneConfig(**bounds, **others)
    assert _read(tmp_path_factory.getbasetemp(), config_to_toml(config)) == config


def test_a_recipe_is_laid_over_a_base(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('r = 4\ntarget_modules = ["q_proj"]\n')
    config = read_config(tmp_path / "r.toml", TuneConfig(seed=5))
    assert (config.r, config.seed, config.target_modules) == (4, 5, ("q_proj",))


@pytest.mark.parametrize(
    ("key", "meant"),
    [("learning_rat", "learning_rate"), ("batch_token", "batch_tokens"), ("epoch", "epochs")],
)
def test_a_misspelt_key_is_told_with_the_one_that_is_near(key: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=f"key '{key}'") as error:
        _read(tmp_path, f"{key} = 1\n")
    assert f"did you mean '{meant}'" in error.value.hint


def test_a_key_like_none_is_told_with_all_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="zzz") as error:
        _read(tmp_path, "zzz = 1\n")
    assert "batch_tokens" in error.value.hint


@pytest.mark.parametrize(
    "line",
    [
        'r = "16"', "r = 16.5", "r = true", "r = 0", "max_steps = 2.5", "max_steps = 0", "epochs = 0", "epochs = -1",
        'learning_rate = "1e-5"', "learning_rate = nan", "learning_rate = inf", "learning_rate = 0", "seed = -1",
        "seed = 9223372036854775808", "warmup_share = 1.5", "warmup_share = -0.1", "valid_share = 0",
        "valid_share = 1", 'valid_share = "a"', "max_length = 7", "batch_tokens = 0", "max_grad_norm = 0",
        "weight_decay = -1", "memory_bytes = 0", "lora_alpha = []", "budget_seconds = 0",
        'precision = "fp8"', 'train_on = "user"', "train_on = 3", 'target_modules = ["lm_head"]',
        "target_modules = []", 'target_modules = "q_proj"', "target_modules = [1]", "r = 1979-05-27",
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused_with_file_key_and_remedy(line: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError) as error:
        _read(tmp_path, line + "\n")
    key = line.split(" ")[0]
    assert "recipe.toml" in error.value.message
    assert key.replace("_", " ") in error.value.message.replace("_", " ")
    assert error.value.hint


def test_only_one_bound_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="more than one"):
        _read(tmp_path, "epochs = 1\nmax_steps = 5\n")
    with pytest.raises(InputError, match="more than one"):
        TuneConfig(epochs=1, budget_seconds=60)


@pytest.mark.parametrize("content", [b"r = \n", b"\xff\xfe", b"[r]\nr = 1\nr = 2\n"])
def test_what_is_no_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(BadFileError, match="TOML"):
        read_config(tmp_path / "recipe.toml")


def test_a_recipe_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_config(tmp_path / "none.toml")


def test_whole_numbers_serve_where_fractions_may_stand() -> None:
    assert TuneConfig(epochs=2, learning_rate=1).epochs == 2
    assert math.isfinite(TuneConfig().learning_rate)
