"""Requests of one client go on in the order in which they began."""

from __future__ import annotations

import asyncio

import pytest

from nomoat.server.hub import turns
from nomoat.server.hub.turns import Turns


async def _race(row: Turns, pauses: dict[str, float], client: str = "same") -> list[str]:
    """Names of requests in the order in which their turns came; each takes its pause before it waits."""
    order: list[str] = []

    async def request(name: str, pause: float) -> None:
        async with row.begun(client if client == "same" else name) as turn:
            await asyncio.sleep(pause)
            if name == "fails":
                raise ValueError(name)
            await turn.comes()
            order.append(name)

    await asyncio.gather(*(request(*each) for each in pauses.items()), return_exceptions=True)
    return order


def test_a_later_request_waits_for_an_earlier_one() -> None:
    row = Turns()
    assert asyncio.run(_race(row, {"slow": 0.2, "fails": 0.1, "quick": 0.0})) == ["slow", "quick"]
    assert not row._last


def test_clients_do_not_wait_for_each_other() -> None:
    assert asyncio.run(_race(Turns(), {"slow": 0.2, "quick": 0.0}, "each")) == ["quick", "slow"]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.05)
    assert asyncio.run(_race(Turns(), {"hangs": 0.5, "quick": 0.0})) == ["quick", "hangs"]
