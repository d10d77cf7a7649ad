"""Figures for Prometheus: what was asked, how long it took, and what the engines say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nomoat.run.protocol import GenerateResult

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
EngineStats = Callable[[], Mapping[str, Mapping[str, float]]]
"""Model name -> the figures of its engine."""


class Metrics:
    """The server's counters. One object for each server; nothing is shared between two in one process."""

    def __init__(self, engine_stats: EngineStats) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "nomoat_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._first_token = Histogram(
            "nomoat_time_to_first_token_seconds", "From the request to the first tokens", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._answer = Histogram(
            "nomoat_answer_seconds", "From the request to the end of its answer", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "nomoat_tokens",
            "Tokens by kind: prompt, cached (of the prompt), restored (of the prompt, from disk), completion, "
            "drafted, accepted",
            ["kind"], registry=registry,
        )  # fmt: skip
        self._cancelled = Counter("nomoat_answers_cancelled", "Answers that were not wanted to the end",
                                  registry=registry)  # fmt: skip
        self.running = Gauge("nomoat_answers_running", "Answers on their way", registry=registry)
        registry.register(_Engines(engine_stats))

    def request(self, route: str, method: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(route, method, str(status)).inc()

    def first_token(self, seconds: float) -> None:
        """An answer's first tokens have come."""
        self._first_token.observe(seconds)

    def answer(self, result: GenerateResult | None, seconds: float) -> None:
        """An answer has ended; `result` is None where it was cut off."""
        self._answer.observe(seconds)
        if result is None or result.finish_reason == "cancelled":
            self._cancelled.inc()
        if result is None:
            return
        for kind, name in (
            ("prompt", "prompt_tokens"), ("cached", "cached_tokens"), ("restored", "restored_tokens"),
            ("completion", "completion_tokens"), ("drafted", "draft_tokens"), ("accepted", "accepted_tokens"),
        ):  # fmt: skip
            self._tokens.labels(kind).inc(getattr(result, name, 0))

    def render(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _Engines(Collector):
    """Asks the engines for their figures whenever somebody reads the metrics."""

    def __init__(self, stats: EngineStats) -> None:
        self._stats = stats

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing is known in advance."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family for each figure, one sample for each model."""
        families: dict[str, GaugeMetricFamily] = {}
        for model, figures in self._stats().items():
            for name, value in figures.items():
                if name not in families:
                    families[name] = GaugeMetricFamily(f"nomoat_engine_{name}", f"The engine's {name}",
                                                       labels=["model"])  # fmt: skip
                families[name].add_metric([model], value)
        yield from families.values()
