"""The writer thread's handler: groups of jobs, each one durable transaction.

Appends that stand together are written together; small operations run between them in the order of the calls.
Erasure and deletion have a transaction of their own. An error of the database fails the whole group, says so to every
caller, and leaves nothing half-written; the connection is made anew when the error may have hurt it.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, Generic, TypeVar, cast

from cattlegrid.adapters.sqlite.appending import Appender, Refused
from cattlegrid.adapters.sqlite.database import Database, error_code, roll_back, unavailable
from cattlegrid.adapters.sqlite.threads import Job
from cattlegrid.core.errors import AppendConflict, CattlegridError, StoreUnavailable
from cattlegrid.journal.store import Append

T = TypeVar("T")

_HARMLESS: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT})
"""Errors after which a connection is as good as before."""
_UNWRITABLE: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a single job can be to blame for: values that the database does not take."""


class Operation(Generic[T]):
    """A small write that checks before it changes, so that it can be refused without a savepoint."""

    __slots__ = ("alone", "erases", "outside", "work")

    def __init__(
        self,
        work: "Callable[[Writer], T]",
        *,
        alone: bool = False,
        erases: bool = False,
        outside: bool = False,
    ) -> None:
        self.work = work
        self.alone = alone or outside
        """Whether it needs a transaction of its own."""
        self.outside = outside
        """Whether it stands outside of transactions."""
        self.erases = erases
        """Whether it counts only once nothing of what it deleted is left in the log."""


class Writer:
    """The connection that writes. Every method runs in the writer thread."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._connection: sqlite3.Connection | None = None
        self._appender: Appender | None = None
        self.commits = 0
        """How many transactions were made durable."""
        self.truncate_due = False
        """Whether the write-ahead log may still hold what was erased."""

    # what operations use

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection."""
        if self._connection is None:
            self._connection = self._database.connect()
            self._appender = Appender(self._connection, self._now)
        return self._connection

    @property
    def appender(self) -> Appender:
        """The statements of appends on the open connection."""
        if self._appender is None:
            self._appender = Appender(self.connection, self._now)
        return self._appender

    # the thread's own

    def handle(self, jobs: Sequence[Job]) -> None:
        """Do jobs; see the module."""
        for group in _groups(jobs):
            try:
                self._commit(group)
            except StoreUnavailable as error:
                _fail(group, error)
                self._give_up()
            except sqlite3.Error as error:
                _fail(group, unavailable(error, self._database.path))
                self._give_up(harmless=error_code(error) in _HARMLESS)
            if self.truncate_due:
                self._truncate(group)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._appender = None

    def _commit(self, group: Sequence[Job]) -> None:
        first = _operation(group[0])
        if first is not None and first.outside:
            self._operate(group[0])
            return
        try:
            self._transaction(group, self._all_together)
        except (Refused, *_UNWRITABLE):
            self.appender.forget_streams()
            self._transaction(group, self._one_by_one)

    def _transaction(self, group: Sequence[Job], write: Callable[[Sequence[Job]], None]) -> None:
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            write(group)
            self._database.check_identity()
            connection.execute("COMMIT")
            self.commits += 1
        finally:
            roll_back(connection)

    def _all_together(self, group: Sequence[Job]) -> None:
        batches: list[Append] = []
        for job in group:
            if isinstance(job.work, Append):
                batches.append(job.work)
                continue
            if batches:
                self.appender.append_together(batches)
                batches = []
            self._operate(job)
        if batches:
            self.appender.append_together(batches)

    def _one_by_one(self, group: Sequence[Job]) -> None:
        connection = self.connection
        for job in group:
            job.result = job.error = None
            connection.execute("SAVEPOINT one")
            try:
                if isinstance(job.work, Append):
                    self.appender.append_alone(job.work)
                else:
                    self._operate(job)
            except Refused as refused:
                job.error = refused.conflict
            except _UNWRITABLE as error:
                job.error = AppendConflict("This cannot be written.", detail=repr(error))
            if job.error is not None:
                self.appender.forget_streams()
                connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")

    def _operate(self, job: Job) -> None:
        job.result = job.error = None
        operation = _operation(job)
        if operation is None:
            raise TypeError(f"this is no work for the writer: {job.work!r}")
        try:
            job.result = operation.work(self)
        except StoreUnavailable:
            raise
        except CattlegridError as error:
            job.error = error

    def _give_up(self, *, harmless: bool = False) -> None:
        if self._appender is not None:
            self._appender.forget_streams()
        if not harmless:
            self.close()

    def _truncate(self, group: Sequence[Job]) -> None:
        """Cut the write-ahead log, which may hold an erased key; the erasure counts only once this is done."""
        first = _operation(group[0])
        erasures = group if first is not None and first.erases else ()
        try:
            connection = self.connection
            if not erasures:  # an earlier one could not: try again, without keeping anybody waiting
                connection.execute("PRAGMA busy_timeout=0")
            try:
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.execute(f"PRAGMA busy_timeout={self._database.busy_ms}")
            if busy:
                raise sqlite3.OperationalError("another process is reading")
            self.truncate_due = False
        except (sqlite3.Error, StoreUnavailable) as error:
            for job in erasures:
                detail = f"erased, but the log could not be cut yet: {error}"
                job.error = job.error or StoreUnavailable("The journal is not available.", detail=detail)


def _operation(job: Job) -> Operation[object] | None:
    return cast("Operation[object]", job.work) if isinstance(job.work, Operation) else None


def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    group: list[Job] = []
    for job in jobs:
        operation = _operation(job)
        if operation is not None and operation.alone:
            if group:
                yield group
            yield [job]
            group = []
        else:
            group.append(job)
    if group:
        yield group


def _fail(group: Sequence[Job], error: StoreUnavailable) -> None:
    for job in group:
        job.result = None
        job.error = StoreUnavailable(error.message, detail=error.detail)  # one for each: tracebacks grow
