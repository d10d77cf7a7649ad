"""What handlers work with: the models, the answers on their way, the figures."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import Request

from nomoat.server.answers import Answers
from nomoat.server.guard import Policy
from nomoat.server.metrics import Metrics
from nomoat.server.models import Models

__all__ = ["Service", "service_of"]


@dataclass
class Service:
    """One server's parts."""

    models: Models
    policy: Policy
    answers: Answers = field(init=False)
    metrics: Metrics = field(init=False)
    started: float = field(default_factory=time.time)
    closing: bool = False
    """Set when the server is about to end; health checks then say so."""

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.models.stats)
        self.answers = Answers(self.models, self.metrics)


def service_of(request: Request) -> Service:
    """The service that a request belongs to."""
    service: Service = request.app.state.service
    return service
