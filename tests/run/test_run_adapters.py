"""LoRA adapters in the running engine: applied, stacked, swapped, and refused where they do not belong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, BaseMismatchError, InputError, NotFoundError
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.formats.peft_folder import write_peft
from nomoat.run.adapters import AdapterRef, parse_adapter
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=8)
PROMPT = "1, 2, 3, 4, 5, 6, 7, 8,"
WIDTH, KV_WIDTH = 576, 192


def _adapter(base_digest: str, seed: int = 0, r: int = 4, size: float = 0.2) -> LoraAdapter:
    """A random adapter for q and v of the first blocks, strong enough to be seen."""
    random = np.random.default_rng(seed)
    modules = {}
    for block in range(4):
        for part, rows in (("attn_q", WIDTH), ("attn_v", KV_WIDTH)):
            a = random.normal(0, size, (r, WIDTH)).astype(np.float32)
            b = random.normal(0, size, (rows, r)).astype(np.float32)
            modules[f"blk.{block}.{part}.weight"] = (a, b)
    return LoraAdapter(base_digest, "llama", r, float(r), modules, 9, 3)


@pytest.fixture(scope="module")
def digest(smollm2_path: Path) -> str:
    return sha256_file(smollm2_path)


@pytest.fixture
def adapter_file(tmp_path: Path, digest: str) -> Path:
    path = tmp_path / "one.gguf"
    write_gguf_lora(_adapter(digest), path)
    return path


def _logits(engine: Engine, adapters: Sequence[AdapterRef] = ()) -> np.ndarray:
    return engine.logits(engine.encode(PROMPT), adapters)


def _difference(left: np.ndarray, right: np.ndarray) -> float:
    """Mean KL divergence of two rows of logits, in nats: noise of 8-bit activations is about 0.004."""
    p, q = (x - x.max(-1, keepdims=True) for x in (left.astype(np.float64), right.astype(np.float64)))
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def test_an_adapter_changes_the_model_and_leaves_no_trace(engine: Engine, adapter_file: Path) -> None:
    plain = _logits(engine)
    changed = _logits(engine, [AdapterRef(adapter_file)])
    assert _difference(plain, changed) > 0.05
    np.testing.assert_array_equal(_logits(engine), plain)


def test_the_scale_is_the_adapters_strength(engine: Engine, adapter_file: Path) -> None:
    plain = _logits(engine)
    steps = [_difference(plain, _logits(engine, [AdapterRef(adapter_file, s)])) for s in (0.0, 0.3, 1.0)]
    assert steps[0] < 0.02 < steps[1] + 0.02 < steps[2]


def test_a_peft_folder_and_its_gguf_file_are_the_same_adapter(
    engine: Engine, adapter_file: Path, tmp_path: Path, digest: str
) -> None:
    write_peft(_adapter(digest), tmp_path / "peft")
    folder, file = (_logits(engine, [AdapterRef(path)]) for path in (tmp_path / "peft", adapter_file))
    assert _difference(folder, file) < 0.02


def test_two_adapters_are_added(engine: Engine, tmp_path: Path, digest: str) -> None:
    one, two = _adapter(digest, 1), _adapter(digest, 2)
    both = {
        name: (np.concatenate([a, two.modules[name][0]]), np.concatenate([b, two.modules[name][1]], 1))
        for name, (a, b) in one.modules.items()
    }
    joined = LoraAdapter(digest, "llama", 8, 8.0, both, 9, 3)
    paths = [tmp_path / f"{name}.gguf" for name in ("one", "two", "joined")]
    for adapter, path in zip((one, two, joined), paths, strict=True):
        write_gguf_lora(adapter, path)
    stacked = _logits(engine, [AdapterRef(path) for path in paths[:2]])
    assert _difference(_logits(engine, [AdapterRef(paths[2])]), stacked) < 0.02
    assert _difference(_logits(engine, [AdapterRef(paths[0])]), stacked) > 0.05


def test_the_kv_memory_of_other_adapters_is_not_reused(engine: Engine, adapter_file: Path) -> None:
    def cached(adapters: Sequence[AdapterRef]) -> int:
        answer = engine.generate(PROMPT, GREEDY, adapters)
        answer.text()
        assert answer.result is not None
        return answer.result.cached_tokens

    cached([])
    assert cached([AdapterRef(adapter_file)]) == 0
    assert cached([AdapterRef(adapter_file)]) > 0
    assert cached([AdapterRef(adapter_file, 0.5)]) == 0
    assert cached([]) > 0  # its own is still there
    assert cached([AdapterRef(adapter_file, 0.5)]) > 0


def test_an_adapter_written_anew_under_its_name_is_loaded_anew(
    engine: Engine, adapter_file: Path, digest: str
) -> None:
    first = _logits(engine, [AdapterRef(adapter_file)])
    write_gguf_lora(_adapter(digest, seed=9), adapter_file)
    assert _difference(first, _logits(engine, [AdapterRef(adapter_file)])) > 0.05


def test_adapters_come_back_after_a_crash(engine: Engine, adapter_file: Path) -> None:
    before = _logits(engine, [AdapterRef(adapter_file)])
    assert engine.worker_pid is not None
    worker = psutil.Process(engine.worker_pid)
    worker.kill()
    worker.wait(5)
    np.testing.assert_array_equal(_logits(engine, [AdapterRef(adapter_file)]), before)


def test_unloaded_adapters_can_be_used_again(engine: Engine, adapter_file: Path) -> None:
    before = _logits(engine, [AdapterRef(adapter_file)])
    engine.unload_adapters()
    np.testing.assert_array_equal(_logits(engine, [AdapterRef(adapter_file)]), before)


# -- refusals ------------------------------------------------------------------------------------


def test_an_adapter_of_another_base_is_refused_with_both_digests(
    engine: Engine, tmp_path: Path, digest: str
) -> None:
    path = tmp_path / "foreign.gguf"
    write_gguf_lora(_adapter("sha256:" + "ab" * 32), path)
    with pytest.raises(BaseMismatchError, match="sha256:abababababab") as refusal:
        engine.check_adapter(AdapterRef(path))
    assert digest[:19] in refusal.value.message
    assert refusal.value.hint


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_adapter_never_reaches_llama_cpp(
    engine: Engine, adapter_file: Path, share: float
) -> None:
    content = adapter_file.read_bytes()
    adapter_file.write_bytes(content[: int(share * len(content))])
    pid = engine.model and engine.worker_pid
    with pytest.raises(BadFileError, match=r"one\.gguf"):
        engine.generate(PROMPT, GREEDY, [AdapterRef(adapter_file)])
    assert engine.worker_pid == pid


def test_an_adapter_of_other_shapes_is_refused(engine: Engine, tmp_path: Path, digest: str) -> None:
    adapter = _adapter(digest)
    a, b = adapter.modules["blk.0.attn_q.weight"]
    adapter.modules["blk.0.attn_q.weight"] = (a[:, :100], b)
    write_gguf_lora(adapter, tmp_path / "odd.gguf")
    with pytest.raises(BadFileError, match=r"odd\.gguf.*attn_q"):
        engine.check_adapter(AdapterRef(tmp_path / "odd.gguf"))


def test_an_adapter_without_a_digest_is_accepted_by_its_shapes_and_told(
    engine: Engine, tmp_path: Path
) -> None:
    write_gguf_lora(_adapter(""), tmp_path / "unsigned.gguf")
    engine.check_adapter(AdapterRef(tmp_path / "unsigned.gguf"))
    assert any("unsigned.gguf" in notice for notice in engine.notices)


def test_an_adapter_of_another_base_is_refused_unless_forced_and_then_told(
    engine: Engine, tmp_path: Path
) -> None:
    write_gguf_lora(_adapter("sha256:" + "0" * 64), tmp_path / "foreign.gguf")
    with pytest.raises(BaseMismatchError, match="trained on") as refused:
        engine.check_adapter(AdapterRef(tmp_path / "foreign.gguf"))
    forced = AdapterRef(tmp_path / "foreign.gguf", force=True)
    assert "--force-adapter" in refused.value.hint
    assert isinstance(engine.generate(PROMPT, GREEDY, [forced]).text(), str)
    assert any("foreign.gguf" in notice and "worthless" in notice for notice in engine.notices)
    with pytest.raises(BaseMismatchError):
        engine.check_adapter(AdapterRef(tmp_path / "foreign.gguf"))


def test_an_adapter_that_is_not_there_is_not_found(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        engine.check_adapter(AdapterRef(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [("me", "me", 1.0), ("me:0.8", "me", 0.8), ("a/b.gguf:-1", "a/b.gguf", -1.0), ("me:v2", "me:v2", 1.0),
     ("me:v2:0.5", "me:v2", 0.5)],
)  # fmt: skip
def test_an_adapter_is_typed_with_its_scale(text: str, path: str, scale: float) -> None:
    assert parse_adapter(text) == AdapterRef(path, scale)


@pytest.mark.parametrize("text", ["", "me:nan", "me:1000"])
def test_a_senseless_adapter_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_adapter(text)
