"""A session ends with the token that somebody logged in with."""

from __future__ import annotations

import pytest
from filled_hub import FilledHub, logged_in

from nomoat.share.errors import UnauthorizedError


def test_a_session_ends_with_the_token_that_began_it(pages_hub: FilledHub) -> None:
    accounts = pages_hub.hub.registry.accounts
    first, second = (accounts.add_token("ines", label, "admin") for label in ("first", "second"))
    sessions = [logged_in(pages_hub, token) for token in (first, first, second)]
    assert [each.get("/tokens").status_code for each in sessions] == [200, 200, 200]
    accounts.revoke_token("ines", accounts.identify(first).token_id or 0)
    assert [each.get("/tokens").status_code for each in sessions] == [401, 401, 200]


def test_a_session_begun_while_its_token_ends_does_not_begin(pages_hub: FilledHub) -> None:
    accounts = pages_hub.hub.registry.accounts
    before = accounts.tokens("ines")
    with pytest.raises(UnauthorizedError):
        accounts.add_token("ines", "browser session", "admin", made_with=1 << 40)
    assert accounts.tokens("ines") == before
