"""The embedded model as shipped (Q4_1) or as the Q8_0 made from it: decided once per machine, by measurement.

Q4_1 has no fast kernels for many tokens at once, Q8_0 has; which is faster overall depends on the processor.
The mix that decides is a prompt of 512 tokens and an answer of 128. The decision, both losses and both speeds
are kept in the store's record, and nothing of it happens silently.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.base.errors import EngineError, NomoatError
from nomoat.base.files import disk_errors
from nomoat.base.progress import Progress
from nomoat.base.settings import Settings
from nomoat.run.engine import Engine
from nomoat.run.machine_load import OtherLoad, other_load_now
from nomoat.run.quantise import quantise_to_q8_0
from nomoat.run.sampling import SamplingParams
from nomoat.run.thread_record import processor_name
from nomoat.run.threads import usable_cores
from nomoat.store.embedded import EMBEDDED_DIGEST, EMBEDDED_NAME
from nomoat.store.store import Store, StoredModel

__all__ = ["Comparison", "Speed", "choose_embedded"]

_MIX_PROMPT_TOKENS, _MIX_ANSWER_TOKENS = 512, 128
_LOSS_TOKENS = 1000
_MOST_LOSS_NATS = 0.02  # ten times what Q8_0 costs here: more means that something is wrong
_MOST_OTHER_CORES = 0.25  # with more at work beside us, timings would decide by chance
_TRIAL_PROMPT_TOKENS, _TRIAL_ANSWER_TOKENS, _TRIALS = 256, 64, 3


@dataclass(frozen=True)
class Speed:
    """Tokens per second of the prompt and of the answer."""

    prompt: float
    answer: float

    def mix_seconds(self) -> float:
        """Seconds for the mix of prompt and answer that decides."""
        return _MIX_PROMPT_TOKENS / self.prompt + _MIX_ANSWER_TOKENS / self.answer


@dataclass(frozen=True)
class Comparison:
    """The shipped file ("before") and its Q8_0 ("after"): nats per token on the same text, and speeds."""

    loss_before: float
    loss_after: float
    speed_before: Speed
    speed_after: Speed

    @property
    def chosen(self) -> str:
        """ "Q8_0" where it is faster overall and no worse than its rounding explains, else "as shipped"."""
        sound = self.loss_after - self.loss_before <= _MOST_LOSS_NATS
        faster = self.speed_after.mix_seconds() < self.speed_before.mix_seconds()
        return "Q8_0" if sound and faster else "as shipped"

    def details(self) -> dict[str, Any]:
        """What the store keeps beside the Q8_0, and `nomoat show` prints."""
        return {
            "quantised_by": "llama.cpp, Q8_0 from the shipped Q4_1",
            "loss_before": round(self.loss_before, 4),
            "loss_after": round(self.loss_after, 4),
            "loss_text": f"{_LOSS_TOKENS} tokens of Python's own documentation",
            "speed_before": _rounded(self.speed_before),
            "speed_after": _rounded(self.speed_after),
            "mix": f"{_MIX_PROMPT_TOKENS} prompt + {_MIX_ANSWER_TOKENS} answer tokens",
            "mix_seconds_before": round(self.speed_before.mix_seconds(), 3),
            "mix_seconds_after": round(self.speed_after.mix_seconds(), 3),
            "load_average": round(os.getloadavg()[0], 2),
            "machine": processor_name(),
            "chosen": self.chosen,
        }

    def verdict(self) -> str:
        """The decision in one line."""
        before, after = self.speed_before.mix_seconds(), self.speed_after.mix_seconds()
        price = self.loss_after - self.loss_before
        return (
            f"{EMBEDDED_NAME} runs {self.chosen}: Q8_0 takes {after:.2f} s, as shipped {before:.2f} s for"
            f" {_MIX_PROMPT_TOKENS} + {_MIX_ANSWER_TOKENS} tokens; loss {price:+.4f} nats per token"
            f" (NOMOAT_EMBEDDED=as-shipped keeps the shipped file)"
        )


def choose_embedded(store: Store, model: StoredModel, settings: Settings, progress: Progress) -> StoredModel:
    """The version of the embedded model to use; any other model is returned as it is.

    The first call makes and measures the Q8_0 (about 20 s), told through `progress`. Where that fails (a full
    disk, say) or other programs keep the machine busy, the reason is told and the model is used as shipped;
    the next call tries again.
    """
    if model.name != EMBEDDED_NAME:
        return model
    versions = store.versions(EMBEDDED_NAME)
    shipped = next((version for version in versions if version.digest == EMBEDDED_DIGEST), None)
    if shipped is None:  # the user has put another model under this name
        return model
    if settings.embedded_as_shipped:
        return _activate(store, shipped)
    derived = _derived(versions)
    if derived is None:
        try:
            derived = _make_alone(store, shipped, settings, progress)
        except (NomoatError, OSError) as error:
            progress.finish()
            progress.say(
                f"{EMBEDDED_NAME} is used as shipped (its faster form is not looked for now: {error})"
            )
            return _activate(store, shipped)
    return _activate(store, derived if derived.details["chosen"] == "Q8_0" else shipped)


def _derived(versions: Iterable[StoredModel]) -> StoredModel | None:
    made = (v for v in versions if v.parent_digest == EMBEDDED_DIGEST and "chosen" in v.details)
    return next(made, None)


def _activate(store: Store, wanted: StoredModel) -> StoredModel:
    if store.resolve(EMBEDDED_NAME).digest == wanted.digest:
        return wanted
    return store.set_active(EMBEDDED_NAME, wanted.digest)


def _make_alone(store: Store, shipped: StoredModel, settings: Settings, progress: Progress) -> StoredModel:
    """`_make`, unless another process has done it while this one waited for its turn."""
    lock = store.home / "cache" / "embedded.lock"
    with disk_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        known = _derived(store.versions(EMBEDDED_NAME))
        if known is not None:
            return known
        _refuse_busy(other_load_now())
        return _make(store, shipped, settings, progress)


def _refuse_busy(cores: float) -> None:
    if cores > _MOST_OTHER_CORES:
        raise EngineError(f"other programs keep {cores:.1f} cores busy, so nothing can be measured now")


def _make(store: Store, shipped: StoredModel, settings: Settings, progress: Progress) -> StoredModel:
    """Make the Q8_0, compare it with the shipped file, and keep it with the figures."""
    progress.say(f"first use of {EMBEDDED_NAME} on this machine: looking for its faster form (once, 20 s)")
    progress.start(f"preparing {EMBEDDED_NAME}", 3 + _TRIALS, "steps")
    with tempfile.TemporaryDirectory(dir=store.home / "cache", prefix="q8_0.") as folder:
        file = Path(folder) / "model.gguf"
        quantise_to_q8_0(shipped.path, file, usable_cores())
        progress.advance(1, "Q8_0 is written")
        load = OtherLoad()
        comparison = _compare(shipped.path, file, settings, progress)
        _refuse_busy(load.cores())
        derived = store.add_derived(shipped, file, comparison.details())
    progress.finish()
    progress.say(comparison.verdict())
    return derived


def _compare(before: Path, after: Path, settings: Settings, progress: Progress) -> Comparison:
    """Both files loaded side by side and measured in turn, so that other work on the machine hits both."""
    with ExitStack() as stack:
        engines = [
            stack.enter_context(Engine(path, context_length=_LOSS_TOKENS + 24, settings=settings))
            for path in (before, after)
        ]
        tokens = engines[0].encode(_sample_text())[:_LOSS_TOKENS]
        losses = []
        for engine in engines:
            losses.append(-float(engine.token_logprobs(tokens).mean()))
            progress.advance(1, f"loss {losses[-1]:.3f} nats per token")
        trials: tuple[list[Speed], list[Speed]] = ([], [])
        for _ in range(_TRIALS):
            for engine, speeds in zip(engines, trials, strict=True):
                speeds.append(_speed(engine, tokens[:_TRIAL_PROMPT_TOKENS]))
            progress.advance(1, "measuring speed")
    return Comparison(losses[0], losses[1], _median(trials[0]), _median(trials[1]))


def _speed(engine: Engine, prompt: Sequence[int]) -> Speed:
    options = SamplingParams(temperature=0, max_tokens=_TRIAL_ANSWER_TOKENS, ignore_end=True)
    answer = engine.generate(prompt, options, reuse=False)
    answer.text()
    if answer.result is None:
        raise EngineError("the measurement gave no result", "try again")
    return Speed(answer.result.prompt_tokens_per_second, answer.result.tokens_per_second)


def _median(speeds: Sequence[Speed]) -> Speed:
    return Speed(statistics.median(s.prompt for s in speeds), statistics.median(s.answer for s in speeds))


def _rounded(speed: Speed) -> dict[str, float]:
    return {"prompt_tokens_per_second": round(speed.prompt, 1), "tokens_per_second": round(speed.answer, 1)}


def _sample_text() -> str:
    """English prose that is on every machine: Python's own documentation, else its source."""
    with contextlib.suppress(ImportError):
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
        return "\n".join(topics[name] for name in sorted(topics))[:20_000]
    return Path(os.__file__).read_text(encoding="utf-8")[:20_000]
