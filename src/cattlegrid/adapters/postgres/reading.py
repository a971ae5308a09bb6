"""The queries of the port: SQL with its values, and from rows to frozen values."""

from collections.abc import Sequence
from typing import Final

from cattlegrid.adapters import rows
from cattlegrid.adapters.rows import Columns
from cattlegrid.journal.directory import LIVE_STATUSES
from cattlegrid.journal.store import BodyRow, EntryQuery, InboxItem, OwnerKey

Query = tuple[str, Sequence[object]]


HEAD: Final = f"SELECT {rows.HEAD} FROM cattlegrid.heads WHERE stream = $1"
ROWS: Final = (
    f"SELECT {rows.ROW} FROM cattlegrid.events "
    "WHERE stream_id = (SELECT id FROM cattlegrid.heads WHERE stream = $1) AND seq > $2 ORDER BY seq LIMIT $3"
)
FEED: Final = "SELECT * FROM cattlegrid.feed($1, $2)"
CHANGED: Final = "SELECT * FROM cattlegrid.heads_changed_since($1)"
BODIES: Final = (
    "SELECT digest, sealed FROM cattlegrid.bodies "
    "WHERE owner_id = (SELECT id FROM cattlegrid.owners WHERE owner = $1) AND digest = ANY ($2)"
)
ENTRY: Final = f"SELECT {rows.ENTRY} FROM cattlegrid.entries WHERE kind = $1 AND id = $2"
INBOX: Final = (
    "SELECT id, stream, key, data, at_us FROM cattlegrid.inbox "
    "WHERE stream = $1 AND data IS NOT NULL ORDER BY position"
)
STREAMS_WITH_INBOX: Final = (
    "SELECT DISTINCT stream FROM cattlegrid.inbox WHERE data IS NOT NULL ORDER BY stream"
)
OWNER_KEY: Final = (
    "SELECT owner, wrapped, created_us FROM cattlegrid.owners WHERE owner = $1 AND wrapped IS NOT NULL"
)
SETTING: Final = "SELECT value FROM cattlegrid.settings WHERE name = $1"


def entries(query: EntryQuery) -> Query:
    """The lines of the directory that a query asks for, newest first."""
    values: list[object] = []

    def value(given: object) -> str:
        values.append(given)
        return f"${len(values)}"

    conditions = [f"kind = {value(query.kind)}"]
    for column in ("tenant", "owner", "agent", "stream"):
        wanted = getattr(query, column)
        if wanted:
            conditions.append(f"{column} = {value(wanted)}")
    if query.stream and not query.owner:
        # The owner's index is the way to the entries of a stream: it has no index of its own.
        session = (
            f"SELECT owner FROM cattlegrid.entries WHERE kind = 'session' AND id = {value(query.stream)}"
        )
        conditions.append(f"owner = ({session})")
    if query.updated_before_us is not None:
        conditions.append(f"updated_us < {value(query.updated_before_us)}")
    if query.due_before_us is not None:
        conditions.append(f"due_us > 0 AND due_us < {value(query.due_before_us)}")
    if query.before_id:
        conditions.append(f"id < {value(query.before_id)}")
    if query.statuses:
        conditions.append(f"status = ANY ({value(list(query.statuses))})")
        if set(query.statuses) <= set(LIVE_STATUSES):
            conditions.append(rows.LIVE)  # the very words of the partial index
    where = " AND ".join(conditions)
    return (
        f"SELECT {rows.ENTRY} FROM cattlegrid.entries WHERE {where} ORDER BY id DESC LIMIT {value(query.limit)}",
        values,
    )


def body_of(owner: str, columns: Columns) -> BodyRow:
    """A body of an owner."""
    digest, sealed = columns
    return BodyRow(owner=owner, digest=digest, sealed=sealed)


def item_of(columns: Columns) -> InboxItem:
    """Something that waits in an inbox."""
    id_, stream, key, data, at_us = columns
    return InboxItem(id=id_, stream=stream, key=key, data=data, at_us=at_us)


def key_of(columns: Columns) -> OwnerKey:
    """The wrapped key of an owner."""
    owner, wrapped, created_us = columns
    return OwnerKey(owner=owner, wrapped=wrapped, created_us=created_us)
