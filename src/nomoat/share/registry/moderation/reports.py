"""Reports: what people think should not be on this hub, for its admin to decide."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, insert, select, update

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.errors import QuotaError
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.database import Database, now_ms
from nomoat.share.registry.repos import Repo, repo_of
from nomoat.share.registry.schema import reports, repos

__all__ = ["Report", "Reports"]

_LONGEST_REASON = 4_000
_MOST_OPEN_OF_ONE = 50


@dataclass(frozen=True)
class Report:
    """Somebody's reason why a repository should go; `status` is open or closed."""

    id: int
    repo: Repo
    reporter: str
    reason: str
    status: str
    created_ms: int


class Reports:
    """Takes reports and lists them for the admin."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, who: Identity, repo: Repo, reason: str) -> None:
        """Report a repository that `who` may see. Raises `InputError` without a reason, `QuotaError` for a flood."""
        who.require_known()
        if not reason.strip() or len(reason) > _LONGEST_REASON:
            raise InputError("a report needs a reason", f"say why, in up to {_LONGEST_REASON:,} characters")
        own = select(func.count()).select_from(reports).filter_by(reporter=who.name, status="open")
        row = {"repo_id": repo.id, "reporter": who.name, "reason": reason.strip(), "created_ms": now_ms()}
        with self._database.write() as connection:
            if (connection.scalar(own) or 0) >= _MOST_OPEN_OF_ONE:
                raise QuotaError(
                    "too many of your reports are still open", "wait until the admin has read them"
                )
            connection.execute(insert(reports).values(row))

    def all(self, who: Identity, *, status: str = "open", limit: int = 200) -> list[Report]:
        """Reports in a state, oldest first. Raises `ForbiddenError` for all but the hub's admin."""
        who.require_admin()
        chosen = select(reports.c.id.label("report_id"), reports.c.reporter, reports.c.reason, reports.c.status,
                        reports.c.created_ms.label("reported_ms"), repos)  # fmt: skip
        query = chosen.join(repos, repos.c.id == reports.c.repo_id).where(reports.c.status == status)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(reports.c.id).limit(limit))
            return [
                Report(row.report_id, repo_of(row), row.reporter, row.reason, row.status, row.reported_ms)
                for row in rows
            ]

    def close(self, who: Identity, report_id: int) -> None:
        """It was read and dealt with."""
        who.require_admin()
        with self._database.write() as connection:
            query = update(reports).where(reports.c.id == report_id).values(status="closed")
            if not connection.execute(query).rowcount:
                raise NotFoundError(f"there is no report {report_id}")
