"""What the doctor says of the kernels: llama.cpp, the training kernels, and the measured threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from nomoat.base.errors import EngineError, NomoatError
from nomoat.base.settings import Settings
from nomoat.cli.doctor_machine import processor_flags
from nomoat.cli.findings import PROBLEM, WARNING, Finding
from nomoat.run.build_info import BuildInfo, build_info
from nomoat.run.thread_record import recorded_timings
from nomoat.store.records import Records
from nomoat.tune.native.build import library_path

__all__ = ["examine"]

_TOPIC = "kernels"
# The kernel's flag for an instruction set, and llama.cpp's name for having been built with it.
_BUILT_FOR = {
    "avx2": "AVX2", "avx_vnni": "AVX_VNNI", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16", "amx_int8": "AMX_INT8", "asimddp": "DOTPROD", "i8mm": "MATMUL_INT8", "sve": "SVE",
}  # fmt: skip
_MOST_RECORDS = 5


def examine(settings: Settings) -> Iterator[Finding]:
    """Findings about what computes."""
    yield from _llama()
    if find_spec("torch") is not None:
        yield _training(settings.home / "cache" / "kernels")
    yield from _threads(settings)


def _llama() -> Iterator[Finding]:
    try:
        info = build_info()
    except EngineError as error:
        yield Finding(_TOPIC, error.message, PROBLEM, error.hint)
        return
    facts = {"llama_cpp_python": info.version, "features": list(info.features), "library": info.library}
    missing = _missing(info)
    text = f"llama.cpp of llama-cpp-python {info.version}: {', '.join(info.features)}"
    if missing:
        yield Finding(_TOPIC, f"{text}; it does not use this processor's {', '.join(missing)}", WARNING,
                      "run scripts/setup: it builds llama.cpp for this processor, often twice as fast or more",
                      {**facts, "native": False})  # fmt: skip
    else:
        yield Finding(_TOPIC, f"{text}; built for this processor", facts={**facts, "native": True})
    if "OPENMP" not in info.features:
        yield Finding(_TOPIC, "llama.cpp was built without OpenMP: its threads spin while they wait", WARNING,
                      "install libgomp and run scripts/setup again")  # fmt: skip


def _missing(info: BuildInfo) -> list[str]:
    """Instruction sets that the processor has and the library was not built for."""
    flags = processor_flags()
    return [name for flag, name in _BUILT_FOR.items() if flag in flags and name not in info.features]


def _training(cache: Path) -> Finding:
    library = library_path(cache)
    if library is None:
        return Finding(_TOPIC, "training uses torch's own operations: no GCC was found", WARNING,
                       "install gcc; training is then faster", {"training_kernels": None})  # fmt: skip
    facts = {"training_kernels": str(library), "built": library.is_file()}
    if library.is_file():
        return Finding(_TOPIC, "the training kernels are built for this processor and compiler", facts=facts)
    return Finding(
        _TOPIC, "the training kernels are not built yet: the first `nomoat tune` does it", facts=facts
    )


def _threads(settings: Settings) -> Iterator[Finding]:
    if settings.threads:
        yield Finding(_TOPIC, f"{settings.threads} threads decode, as NOMOAT_THREADS says")
    records = recorded_timings(settings.home / "cache" / "threads")
    if not records:
        yield Finding(_TOPIC, "threads are not measured yet: the first answer on an idle machine does it")
    names = _names_of_files(settings)
    for record in records[-_MOST_RECORDS:]:
        best = min(record.decode_seconds, key=lambda count: record.decode_seconds[count])
        speeds = ", ".join(f"{n}: {1 / s:.0f} tok/s" for n, s in sorted(record.decode_seconds.items()))
        facts = {"model": record.model, "measured": record.measured, "decode_seconds": record.decode_seconds}
        name = names.get(record.model, Path(record.model).name)
        text = f"{best} threads are fastest for {name} ({speeds}; measured {record.measured[:10]})"
        yield Finding(_TOPIC, text, facts=facts)


def _names_of_files(settings: Settings) -> dict[str, str]:
    """File of a stored model -> its name and quantisation."""
    found: dict[str, str] = {}
    records = Records(settings.home)
    for name in records.names():
        with contextlib.suppress(NomoatError):  # a damaged record is a finding about the store
            record = records.read(name)
            versions = record.versions if record else ()
            found |= {str(model.path): f"{name} ({model.quantisation})" for model in versions}
    return found
