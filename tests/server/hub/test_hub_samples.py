"""Sample chats: the real model answers inside a hub, and what cannot be answered from is refused."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filling import commit_files, send_file
from sqlalchemy import select, update

from engine_workers import workers_of
from nomoat.base.digests import sha256_file
from nomoat.base.errors import (
    BadFileError,
    ContextOverflowError,
    InputError,
    NomoatError,
    NotFoundError,
    TimeLimitError,
)  # fmt: skip
from nomoat.base.progress import Silent
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_lora import write_gguf_lora
from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.peft_folder import write_peft
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.sample_prompts import check_prompt, default_prompts
from nomoat.server.hub.samples import SampleOrder, Unanswered, make_samples
from nomoat.share.errors import DamagedBlobError, TakenDownError
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.samples import WORK_FOLDER, Sample
from nomoat.share.registry.schema import blobs, samples

_CARD = "---\nlanguage: de\nwidget: [{text: Wie alt ist der Ofen?}]\n---\n\n# A model\n"
_SAMPLING = SamplingParams(max_tokens=12, seed=7)
_PROMPT = "Tell me about boilers."
_ADMIN = Identity(name="admin", scope="admin", is_admin=True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path) -> Iterator[Hub]:
    """A hub with the embedded model."""
    with _hub(tmp_path_factory.mktemp("samples"), smollm2_path) as hub:
        yield hub


@pytest.fixture
def own(tmp_path: Path, smollm2_path: Path) -> Iterator[Hub]:
    """The same for a test that breaks something in it."""
    with _hub(tmp_path, smollm2_path) as hub:
        yield hub


@contextlib.contextmanager
def _hub(folder: Path, model: Path) -> Iterator[Hub]:
    with contextlib.closing(Registry(RegistryConfig(folder / "hub"))) as registry:
        hub = Hub(registry)
        for name in ("ines", "marek"):
            registry.accounts.add(name)
        send_file(hub, registry.accounts.identity("ines", "write"), _name("ines/model"), model, _CARD)
        yield hub


def _name(text: str) -> RepoName:
    return RepoName.parse("model", text)


def _adapter(base: Path, digest: str = "") -> LoraAdapter:
    """Random, and strong enough to be heard."""
    random, modules = np.random.default_rng(0), {}
    for block, (part, rows) in itertools.product(range(4), (("attn_q", 576), ("attn_v", 192))):
        a = random.normal(0, 0.4, (4, 576)).astype(np.float32)
        modules[f"blk.{block}.{part}.weight"] = (a, random.normal(0, 0.4, (rows, 4)).astype(np.float32))
    return LoraAdapter(digest or sha256_file(base), "llama", 4, 4.0, modules, 9, 3)


def _push(hub: Hub, name: str, folder: Path) -> Repo:
    who = hub.registry.accounts.identity(name.partition("/")[0], "write")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return commit_files(hub, who, _name(name), files)


def _peft(hub: Hub, name: str, adapter: LoraAdapter, folder: Path) -> Repo:
    write_peft(adapter, folder)
    return _push(hub, name, folder)


def _begun(hub: Hub, repo: Repo, *prompts: str, **more: Any) -> Any:
    order = SampleOrder(prompts or (_PROMPT,), more.pop("sampling", _SAMPLING), **more)
    return make_samples(hub.registry, repo, hub.registry.history.resolve(repo), order, Silent())


def _made(hub: Hub, repo: Repo, *prompts: str, **more: Any) -> list[Sample]:
    return list(_begun(hub, repo, *prompts, **more))


def _model(hub: Hub) -> Repo:
    return hub.registry.repos.get(_ADMIN, _name("ines/model"))


def _kept(hub: Hub, repo: Repo) -> list[Sample]:
    return hub.registry.samples.of(repo, repo.head or "", limit=100)


# -- what is made --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_chats(filled: Hub, smollm2_path: Path) -> None:
    model = _model(filled)
    first, again = (_made(filled, model, _PROMPT, "And of kettles?") for _ in range(2))
    assert [_content(each) for each in first] == [_content(each) for each in again]
    assert first[0].content["answer"] != first[1].content["answer"]
    (other,) = _made(filled, model, sampling=SamplingParams(max_tokens=12, seed=8))
    assert other.content["answer"] != first[0].content["answer"]
    with Engine(smollm2_path) as engine:
        answer = engine.chat([{"role": "user", "content": _PROMPT}], _SAMPLING).text()
    assert first[0].content["answer"] == answer


def test_a_chat_names_the_bytes_the_seed_and_the_program(filled: Hub, smollm2_path: Path) -> None:
    model = _model(filled)
    (chat,) = _made(filled, model)
    wanted = {"model": "ines/model", "model_file": smollm2_path.name, "model_commit": model.head,
              "model_digest": sha256_file(smollm2_path), "quantisation": "Q4_1", "seed": 7, "temperature": 0.8,
              "max_tokens": 12, "tokens": 12, "finish_reason": "length"}  # fmt: skip
    assert wanted.items() <= chat.content.items()
    assert chat.content["runner"].startswith("nomoat ") and "llama.cpp" in chat.content["engine"]
    kept = next(each for each in _kept(filled, model) if each.id == chat.id)
    assert kept == chat and kept.recorded and kept.commit == model.head


def test_an_adapter_answers_beside_its_base(filled: Hub, smollm2_path: Path, tmp_path: Path) -> None:
    repo = _peft(filled, "marek/adapter", _adapter(smollm2_path), tmp_path / "adapter")
    (chat,) = _made(filled, repo)
    (base,) = _made(filled, _model(filled))
    assert chat.content["base_answer"] == base.content["answer"] != chat.content["answer"]
    weights = sha256_file(tmp_path / "adapter" / "adapter_model.safetensors")
    wanted = {"model": "ines/model", "model_digest": base.content["model_digest"], "adapter": "marek/adapter",
              "adapter_file": "adapter_model.safetensors", "adapter_digest": weights, "adapter_scale": 1.0}  # fmt: skip
    assert wanted.items() <= chat.content.items()
    config = sha256_file(tmp_path / "adapter" / "adapter_config.json")
    assert chat.content["adapter_config_digest"] == config


def test_an_adapter_in_gguf_form_answers_alike(filled: Hub, smollm2_path: Path, tmp_path: Path) -> None:
    adapter = _adapter(smollm2_path)
    (tmp_path / "gguf").mkdir()
    write_gguf_lora(adapter, tmp_path / "gguf" / "notes.gguf")
    (chat,) = _made(filled, _push(filled, "marek/gguf", tmp_path / "gguf"))
    (other,) = _made(filled, _peft(filled, "marek/peft", adapter, tmp_path / "peft"))
    assert chat.content["adapter_file"] == "notes.gguf" and "adapter_config_digest" not in chat.content
    assert chat.content["answer"] == other.content["answer"]


def test_runs_side_by_side_take_nothing_from_each_other(
    filled: Hub, smollm2_path: Path, tmp_path: Path
) -> None:
    """A run begins by sweeping what killed ones left: not the folder whose adapter another one still asks."""
    repo = _peft(filled, "marek/beside", _adapter(smollm2_path), tmp_path / "adapter")
    chats = _begun(filled, repo, "One?", "Two?")
    next(chats)
    [work] = _left(filled)
    assert (work / "adapter" / "adapter_config.json").is_file()
    assert _made(filled, repo, "Two?")[0].content["answer"] == next(chats).content["answer"]
    assert list(chats) == [] and _left(filled) == []


def test_the_base_is_found_in_an_earlier_version(own: Hub, smollm2_path: Path, tmp_path: Path) -> None:
    model = _model(own)
    who = own.registry.accounts.identity("ines", "write")
    commit_files(own, who, model.name, {smollm2_path.name: b"GGUF of another time"}, "Another")
    (chat,) = _made(own, _peft(own, "ines/adapter", _adapter(smollm2_path), tmp_path / "adapter"))
    assert chat.content["model_commit"] == model.head != _model(own).head


def _content(chat: Sample) -> dict[str, Any]:
    """Without what says when it was made, and at what speed."""
    return {name: value for name, value in chat.content.items() if name not in {"log_entry", "threads"}}


# -- how it is kept ------------------------------------------------------------------------------------


def test_earlier_chats_go_when_all_new_ones_are_there(own: Hub) -> None:
    model = _model(own)
    first = _made(own, model, "One?", "Two?")
    chats = _begun(own, model, "Three?", "Four?", replace_earlier=True)
    third = next(chats)
    chats.close()  # as Ctrl-C does
    assert [each.id for each in _kept(own, model)] == [third.id, first[1].id, first[0].id]
    new = _made(own, model, "Five?", "Six?", replace_earlier=True)
    assert [each.id for each in _kept(own, model)] == [new[1].id, new[0].id]
    assert own.registry.events.verify() == []


def test_what_is_changed_later_is_noticed(own: Hub) -> None:
    model = _model(own)
    (chat,) = _made(own, model)
    with own.registry.database.write() as connection:
        connection.execute(update(samples).values(content={**chat.content, "answer": "I am the best."}))
    (kept,) = _kept(own, model)
    assert kept.content["answer"] == "I am the best." and not kept.recorded


def test_of_a_repository_that_went_nothing_is_kept(own: Hub) -> None:
    model = _model(own)
    chats = _begun(own, model)
    own.registry.repos.delete(_ADMIN, model.name)
    with pytest.raises(NomoatError):
        next(chats)
    with own.registry.database.read() as connection:
        assert connection.execute(select(samples)).all() == []


# -- what is refused -----------------------------------------------------------------------------------


def test_a_base_that_is_not_here_is_named(filled: Hub, smollm2_path: Path, tmp_path: Path) -> None:
    digest = f"sha256:{'1' * 64}"
    repo = _peft(filled, "marek/orphan", _adapter(smollm2_path, digest), tmp_path / "adapter")
    with pytest.raises(NotFoundError, match=digest) as refused:
        _made(filled, repo)
    assert "nomoat push" in refused.value.hint and _kept(filled, repo) == []


def test_an_adapter_that_pins_no_base_is_refused(filled: Hub, smollm2_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    adapter = _adapter(smollm2_path)
    write_gguf_lora(LoraAdapter("", *list(vars(adapter).values())[1:]), folder / "adapter.gguf")
    with pytest.raises(InputError, match="does not say which file"):
        _made(filled, _push(filled, "marek/loose", folder))
    (folder / "README.md").write_text("---\n[\n---\n")
    with pytest.raises(InputError, match="does not say which file"):
        _made(filled, _push(filled, "marek/loose-card", folder))
    (folder / "README.md").write_text(f"---\nnomoat: {{base_digest: '{adapter.base_digest}'}}\n---\n")
    assert _made(filled, _push(filled, "marek/pinned-by-card", folder))[0].content["base_answer"]


def test_a_private_base_answers_for_private_adapters_of_its_owner(
    own: Hub, smollm2_path: Path, tmp_path: Path
) -> None:
    repos = own.registry.repos
    repos.change(_ADMIN, _name("ines/model"), private=True)
    adapter = _adapter(smollm2_path)
    for name in ("marek/adapter", "ines/adapter"):
        repo = _peft(own, name, adapter, tmp_path / name)
        with pytest.raises(NotFoundError, match="does not have the base"):
            _made(own, repo)
    assert _made(own, repos.change(_ADMIN, repo.name, private=True))[0].content["base_answer"]


def test_a_damaged_blob_is_refused_and_marked(own: Hub, smollm2_path: Path) -> None:
    model, digest = _model(own), sha256_file(smollm2_path)
    path = own.registry.store.path(digest)  # type: ignore[attr-defined]
    with path.open("r+b") as handle:
        handle.seek(50 << 20)
        byte = handle.read(1)[0]
        handle.seek(50 << 20)
        handle.write(bytes([byte ^ 1]))
    with pytest.raises(DamagedBlobError):
        _made(own, model)
    with own.registry.database.read() as connection:
        assert connection.scalar(select(blobs.c.damaged).where(blobs.c.digest == digest)) is True
    assert _kept(own, model) == []


def test_a_file_that_was_taken_down_does_not_answer(own: Hub, smollm2_path: Path) -> None:
    own.registry.takedowns.take_down(_ADMIN, sha256_file(smollm2_path), "a test")
    with pytest.raises(TakenDownError):
        _made(own, _model(own))


def test_an_answer_that_takes_too_long_is_skipped(own: Hub, others: set[int]) -> None:
    model, long = _model(own), SamplingParams(max_tokens=3000, seed=1)
    earlier = _made(own, model)
    chats = _begun(own, model, "Tell me a very long story.", "And another.", sampling=long, answer_seconds=0.3,
                   replace_earlier=True)  # fmt: skip
    skipped = list(chats)
    assert [type(each) for each in skipped] == [Unanswered] * 2
    assert skipped[1].prompt == "And another." and "was not answered within 0.3 s" in skipped[1].why
    assert _kept(own, model) == earlier, "earlier chats go for new ones only"
    assert workers_of(besides=others) == [] and _left(own) == []


def test_after_one_that_takes_too_long_the_next_is_answered(own: Hub, others: set[int]) -> None:
    """The worker is stopped in the middle, as one that hangs: it can only be killed."""
    model = _model(own)
    chats = _begun(own, model, "One?", "Two?", "Three?", answer_seconds=8.0)
    first = next(chats)
    [hangs] = workers_of(besides=others)
    hangs.suspend()
    skipped, third = list(chats)
    assert isinstance(skipped, Unanswered) and skipped.prompt == "Two?" and not hangs.is_running()
    assert [first.content["prompt"], third.content["prompt"]] == ["One?", "Three?"]
    assert [each.id for each in _kept(own, model)] == [third.id, first.id]


def test_a_model_that_does_not_load_in_time_is_given_up(own: Hub, others: set[int]) -> None:
    model, begun = _model(own), time.monotonic()
    with pytest.raises(TimeLimitError, match=r"did not load within 0\.01 s") as late:
        _made(own, model, load_seconds=0.01)
    assert "--timeout" in late.value.hint and time.monotonic() - begun < 60
    assert workers_of(besides=others) == [] and _left(own) == []


@pytest.fixture
def others() -> set[int]:
    return {worker.pid for worker in workers_of()}  # they belong to other tests of this process


def _left(hub: Hub) -> list[Path]:
    return list((hub.registry.config.root / WORK_FOLDER).iterdir())


def test_a_prompt_that_does_not_fit_is_refused(own: Hub) -> None:
    with pytest.raises(ContextOverflowError):
        _made(own, _model(own), "龘" * 4000)


def test_a_template_that_never_ends_is_refused(own: Hub, tmp_path: Path) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    metadata = {"general.architecture": "llama", "tokenizer.chat_template": endless}
    (tmp_path / "endless").mkdir()
    write_gguf(tmp_path / "endless" / "m.gguf", metadata, {"output.weight": np.zeros((4, 32), np.float32)})
    with pytest.raises(BadFileError, match="chat template"):
        _made(own, _push(own, "marek/endless", tmp_path / "endless"))


def test_a_template_that_never_ends_for_one_prompt_is_refused(
    own: Hub, smollm2_path: Path, tmp_path: Path
) -> None:
    before = str(read_gguf(smollm2_path).metadata["tokenizer.chat_template"]).encode()
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    template = f"{{% if 'boiler' in messages[0].content %}}{endless}{{% endif %}}Hello".encode()
    content = smollm2_path.read_bytes()
    moody = tmp_path / "moody.gguf"
    moody.write_bytes(content.replace(before, template.ljust(len(before)), 1))
    who = own.registry.accounts.identity("marek", "write")
    chats = _begun(own, send_file(own, who, _name("marek/moody"), moody, _CARD), "One?", _PROMPT)
    assert next(chats).content["prompt"] == "One?"
    with pytest.raises(BadFileError, match="does not work for 'Tell me about boilers"):
        next(chats)


def test_what_has_nothing_to_run_is_refused(filled: Hub) -> None:
    who = filled.registry.accounts.identity("marek", "write")
    repo = commit_files(
        filled, who, _name("marek/pictures"), {"lora.safetensors": b"...", "README.md": b"# A"}
    )
    with pytest.raises(NotFoundError, match="neither a model in GGUF form nor an adapter") as refused:
        _made(filled, repo)
    assert "GGUF" in refused.value.hint


def test_an_order_nobody_could_repeat_is_refused() -> None:
    with pytest.raises(InputError, match="seed"):
        SampleOrder(("Hello",), SamplingParams(max_tokens=5))
    with pytest.raises(InputError, match="0 prompts"):
        SampleOrder((), _SAMPLING)


# -- what is asked -------------------------------------------------------------------------------------


def test_the_card_says_what_is_asked(filled: Hub) -> None:
    assert default_prompts(_model(filled).card) == ("Wie alt ist der Ofen?",)
    alone, two = [{"role": "user", "content": "Hello?"}], [{"role": "system", "content": "x"}] * 2
    examples = [{"messages": alone}, {"text": "\x1b[2J"}, "Bye?", {}, 7, {"messages": two}]
    assert default_prompts({"widget": examples}) == ("Hello?", "Bye?")


def test_without_examples_the_language_of_the_card_is_asked_in() -> None:
    assert "Himmel" in default_prompts({"language": ["de", "en"]})[1]
    assert "ciel" in default_prompts({"language": "fr-CA"})[1]
    assert default_prompts({"language": "tlh", "widget": "?"}) == default_prompts({})


@pytest.mark.parametrize("text", ["", "  \n", "a\x1b[31m", "a\x00", "a\u202eb", "x" * 4001])
def test_prompts_that_hide_something_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        check_prompt(text)
    assert check_prompt("Zwei\nZeilen: «é» 家👩‍🚒")
