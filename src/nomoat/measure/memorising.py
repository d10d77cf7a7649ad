"""What an adapter gives away of its training text: it is shown how a text begins, and asked to go on.

A text counts as memorised where the adapter continues it word for word over `VERBATIM_TOKENS` tokens, without any
chance in the choice of words, and the base model alone does not. That is a lower bound: somebody who tries harder,
with other beginnings or many tries, finds more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nomoat.base.digests import sha256_file
from nomoat.base.files import atomic_write_json
from nomoat.base.progress import Progress, Silent
from nomoat.run.adapters import AdapterRef
from nomoat.run.engine import Engine
from nomoat.run.sampling import SamplingParams
from nomoat.store.adapters import AUDIT_NAME, GGUF_NAME
from nomoat.tune.dataset import read_rows
from nomoat.tune.intervals import wilson_interval
from nomoat.tune.rows import Row

__all__ = ["PREFIX_TOKENS", "VERBATIM_TOKENS", "Audit", "audit_adapter", "measure_memorising"]

PREFIX_TOKENS = 24
"""How much of a text is shown; of a chat, everything up to the answer."""
VERBATIM_TOKENS = 24
"""How much must come back. Some 18 words in a row hardly ever agree by chance."""
_MOST_TEXTS = 100


@dataclass(frozen=True)
class Audit:
    """`tested` texts were long enough; `memorised` of them came back, `known_to_base` came back without the adapter.

    `share_high` is the upper end of the 95 % interval of the share. `adapter` is the digest of the file that was
    asked. No text is kept.
    """

    adapter: str
    tested: int
    memorised: int
    known_to_base: int
    too_short: int
    share_high: float | None
    longest_tokens: int
    prefix_tokens: int = PREFIX_TOKENS
    verbatim_tokens: int = VERBATIM_TOKENS


def audit_adapter(
    folder: Path, engine: Engine, *, most_texts: int = _MOST_TEXTS, progress: Progress | None = None
) -> Audit:
    """Ask the adapter of a finished run for its own training texts, and keep the result as `AUDIT_NAME` beside it.

    Needs the run's dataset: raises `NotFoundError` where it is gone.
    """
    rows = list(read_rows(folder / "dataset", "train"))
    audit = measure_memorising(engine, folder / GGUF_NAME, rows, most_texts=most_texts, progress=progress)
    atomic_write_json(folder / AUDIT_NAME, asdict(audit))
    return audit


def measure_memorising(
    engine: Engine, adapter: Path, rows: Sequence[Row], *, most_texts: int = _MOST_TEXTS,
    progress: Progress | None = None,
) -> Audit:  # fmt: skip
    """Ask for up to `most_texts` of `rows`, spread over all of them."""
    told, refs = progress or Silent(), [AdapterRef(adapter)]
    parts = [part for row in rows for part in _parts(engine, row)]
    long_enough = [part for part in parts if len(part[1]) >= VERBATIM_TOKENS]
    chosen = long_enough[:: max(1, -(-len(long_enough) // most_texts))]
    memorised = known = longest = 0
    told.start("asking for training texts", total=len(chosen), unit="texts")
    for shown, expected in chosen:
        length = _continued(engine, shown, expected, refs)
        if length >= VERBATIM_TOKENS and _continued(engine, shown, expected, []) >= VERBATIM_TOKENS:
            known += 1
        else:
            memorised += length >= VERBATIM_TOKENS
            longest = max(longest, length)
        told.advance(1)
    told.finish()
    high = wilson_interval(memorised, len(chosen)).high if chosen else None
    return Audit(
        sha256_file(adapter), len(chosen), memorised, known, len(parts) - len(long_enough), high, longest
    )


def _parts(engine: Engine, row: Row) -> Iterator[tuple[list[int], list[int]]]:
    """`(what is shown, how it goes on)` in tokens, for a text or for each answer of a chat."""
    if row.messages is None:
        tokens = engine.encode(row.text or "", add_special=True, parse_special=False)
        yield tokens[:PREFIX_TOKENS], tokens[PREFIX_TOKENS : PREFIX_TOKENS + VERBATIM_TOKENS]
        return
    messages: list[Any] = [{"role": message.role, "content": message.content} for message in row.messages]
    for place, message in enumerate(row.messages):
        if message.role == "assistant" and place:
            answer = engine.encode(message.content, parse_special=False)
            yield engine.encode_chat(messages[:place]), answer[:VERBATIM_TOKENS]


def _continued(engine: Engine, shown: list[int], expected: list[int], adapters: Sequence[AdapterRef]) -> int:
    """How many tokens come as expected, from the first one on."""
    sampling = SamplingParams(max_tokens=len(expected), temperature=0.0)
    came: list[int] = []
    with engine.generate(shown, sampling, adapters) as answer:
        for chunk in answer:
            came += chunk.token_ids
            if came != expected[: len(came)]:
                break
    pairs = zip(came, expected, strict=False)
    return next(
        (place for place, (one, other) in enumerate(pairs) if one != other), min(len(came), len(expected))
    )
