"""The small writes of the port, each as an operation of the writer thread; all of them check before they change."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cattlegrid.adapters.rows import head_of
from cattlegrid.adapters.sqlite import owners
from cattlegrid.adapters.sqlite.appending import Refused
from cattlegrid.adapters.sqlite.ledger import ErasureLedger
from cattlegrid.adapters.sqlite.writing import Operation, Writer
from cattlegrid.core.errors import AppendConflict, LeaseHeld, SessionEnded, StoreUnavailable
from cattlegrid.journal.codec import GENESIS, micros
from cattlegrid.journal.store import Append, BodyRow, Head, InboxItem, OwnerKey

_ACQUIRE: Final = (
    "INSERT INTO heads (stream, epoch, seq, hash, holder, lease_until_us) VALUES (?, 1, 0, ?, ?, ?) "
    "ON CONFLICT (stream) DO UPDATE SET epoch=epoch+1, holder=excluded.holder, lease_until_us=excluded.lease_until_us "
    "WHERE lease_until_us IS NULL OR lease_until_us<=? "
    "RETURNING stream, epoch, seq, hash, holder, lease_until_us"
)
_RENEW: Final = (
    "UPDATE heads SET lease_until_us=? WHERE stream=? AND epoch=? AND lease_until_us IS NOT NULL "
    "RETURNING stream, epoch, seq, hash, holder, lease_until_us"
)
_RELEASE: Final = "UPDATE heads SET holder='', lease_until_us=NULL WHERE stream=? AND epoch=?"
_POST: Final = "INSERT INTO inbox (id, stream, key, data, at_us) VALUES (?, ?, ?, ?, ?) ON CONFLICT (stream, key) DO NOTHING"
_CREATE_KEY: Final = (
    "INSERT INTO owners (owner, wrapped, created_us) VALUES (?, ?, ?) ON CONFLICT (owner) DO UPDATE "
    "SET wrapped=excluded.wrapped, created_us=excluded.created_us WHERE wrapped IS NULL"
)
_READ_KEY: Final = "SELECT wrapped, created_us FROM owners WHERE owner=?"
_SET: Final = (
    "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value=excluded.value"
)
_SET_FIRST: Final = "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value=value RETURNING value"


def acquire(stream: str, holder: str, *, lease_s: float, now: Callable[[], datetime]) -> Operation[Head]:
    """Take a lease; the time is that of the transaction, after any wait for it."""

    def work(writer: Writer) -> Head:
        at = now()
        until_us = micros(at + timedelta(seconds=lease_s))
        row = writer.connection.execute(_ACQUIRE, (stream, GENESIS, holder, until_us, micros(at))).fetchone()
        if row is not None:
            return head_of(row)
        held = writer.connection.execute(
            "SELECT lease_until_us FROM heads WHERE stream=?", (stream,)
        ).fetchone()
        left_s = max(0.0, (held[0] - micros(at)) / 1_000_000)
        raise LeaseHeld("Another writer holds this session.", detail=stream, retry_after_s=left_s)

    return Operation(work)


def renew(stream: str, epoch: int, *, lease_s: float, now: Callable[[], datetime]) -> Operation[Head]:
    """Lengthen a lease."""

    def work(writer: Writer) -> Head:
        until_us = micros(now() + timedelta(seconds=lease_s))
        row = writer.connection.execute(_RENEW, (until_us, stream, epoch)).fetchone()
        if row is None:
            raise AppendConflict("Another writer holds this session.", detail=f"lease {stream}")
        return head_of(row)

    return Operation(work)


def release(stream: str, epoch: int) -> Operation[None]:
    """End a lease."""

    def work(writer: Writer) -> None:
        writer.connection.execute(_RELEASE, (stream, epoch))

    return Operation(work)


def post(item: InboxItem) -> Operation[bool]:
    """Put something into an inbox."""

    def work(writer: Writer) -> bool:
        row = (item.id, item.stream, item.key, item.data, item.at_us)
        return writer.connection.execute(_POST, row).rowcount == 1

    return Operation(work)


def put_bodies(bodies: Sequence[BodyRow]) -> Operation[None]:
    """Store bodies that no event refers to yet."""

    def work(writer: Writer) -> None:
        try:
            writer.appender.put_bodies(bodies)
        except Refused as refused:
            raise SessionEnded("This user's data has been erased.", detail="owner") from refused

    return Operation(work)


def create_owner_key(key: OwnerKey) -> Operation[OwnerKey]:
    """Store a key unless there is one."""

    def work(writer: Writer) -> OwnerKey:
        writer.connection.execute(_CREATE_KEY, (key.owner, key.wrapped, key.created_us))
        wrapped, created_us = writer.connection.execute(_READ_KEY, (key.owner,)).fetchone()
        return OwnerKey(owner=key.owner, wrapped=wrapped, created_us=created_us)

    return Operation(work)


def put_setting(name: str, value: str) -> Operation[None]:
    """Keep a small setting."""

    def work(writer: Writer) -> None:
        writer.connection.execute(_SET, (name, value))

    return Operation(work)


def first_setting(name: str, value: str) -> Operation[str]:
    """Keep a small setting unless there is one."""

    def work(writer: Writer) -> str:
        return str(writer.connection.execute(_SET_FIRST, (name, value)).fetchone()[0])

    return Operation(work)


def erase_owner(owner: str, at_us: int, ledger: ErasureLedger) -> Operation[list[str]]:
    """Erase a user: first on the list, then in the database, then in its log."""

    def work(writer: Writer) -> list[str]:
        streams = owners.sessions_of(writer.connection, owner)
        if owners.has_anything(writer.connection, owner):
            try:
                ledger.record(owner, at_us)
            except OSError as error:
                detail = f"{ledger.path}: {error}"
                raise StoreUnavailable("The list of erasures cannot be written.", detail=detail) from error
            owners.erase(writer.connection, owner)
            writer.truncate_due = True
        return streams

    return Operation(work, alone=True, erases=True)


def erase_again(ledger: ErasureLedger) -> Operation[list[str]]:
    """Erase whom a restored backup has brought back: listed users whose key is not younger than their erasure."""

    def work(writer: Writer) -> list[str]:
        again: list[str] = []
        for owner, at_us in ledger.read().items():
            key = writer.connection.execute(_READ_KEY, (owner,)).fetchone()
            if key is not None and key[1] <= at_us:
                owners.erase(writer.connection, owner)
                again.append(owner)
        writer.truncate_due = writer.truncate_due or bool(again)
        return again

    return Operation(work, alone=True, erases=True)


def delete_stream(stream: str, audit: Append) -> Operation[None]:
    """Delete a stream and say so in another one. The audit goes first: its position is never used again."""

    def work(writer: Writer) -> None:
        writer.appender.append_alone(audit)
        owners.delete_stream(writer.connection, stream)
        writer.appender.forget_streams()

    return Operation(work, alone=True)
