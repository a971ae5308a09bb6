"""What is written can be read for ever, and nothing of it can be changed unseen."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.codec import (
    CURRENT_TYPES,
    GENESIS,
    check_chain,
    decode,
    encode,
    from_micros,
    hash_of,
    micros,
    references,
    type_of,
)
from cattlegrid.journal.events import CancelRequested, Data, FeedbackGiven, RunResumed, RunStarted
from cattlegrid.journal.store import Row
from cattlegrid.journal.upcasters import UPCASTERS, Upcaster
from tests.unit.journal.examples import AT, EXAMPLES, FIXTURES, event, ref

STORED = sorted(FIXTURES.glob("*.json"))


def row_of(path: Path) -> tuple[Row, Any]:
    stored = json.loads(path.read_text())
    row = Row(
        stream="ses_x",
        seq=1,
        run_id="",
        type=path.stem,
        at_us=micros(AT),
        data=bytes.fromhex(stored["data"]),
        prev_hash=GENESIS,
        hash=b"",
    )
    return row, stored["value"]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
@pytest.mark.requirement("journal:upcasters")
def test_every_stored_event_still_reads_as_the_same_value(path: Path) -> None:
    row, value = row_of(path)
    assert json.loads(json.dumps(msgspec.to_builtins(decode(row).data))) == value


def test_every_current_type_has_a_stored_form_and_every_stored_form_is_readable() -> None:
    stored = {path.stem for path in STORED}
    assert stored >= CURRENT_TYPES
    assert stored - CURRENT_TYPES == set(UPCASTERS)


def test_every_type_has_an_example() -> None:
    assert {type_of(data) for data in EXAMPLES} == CURRENT_TYPES


@pytest.mark.parametrize("data", EXAMPLES, ids=type_of)
def test_an_event_comes_back_from_its_row_unchanged(data: Data) -> None:
    assert decode(encode(event(data))) == event(data)


@given(st.dictionaries(st.text(), st.text()), st.text(), st.integers(0, 2**63 - 1))
def test_equal_events_have_equal_bytes(flags: dict[str, str], text: str, seed: int) -> None:
    one = RunStarted(input_ref=text, seed=seed, flags=flags)
    other = RunStarted(input_ref=text, seed=seed, flags=dict(reversed(flags.items())))
    assert encode(event(one)) == encode(event(other))
    assert decode(encode(event(one))).data == other


@given(st.integers(0, 4_000_000_000_000_000))
def test_microseconds_survive_the_way_through_a_datetime(at_us: int) -> None:
    assert micros(from_micros(at_us)) == at_us


def chain(length: int) -> list[Row]:
    rows: list[Row] = []
    for seq in range(1, length + 1):
        before = rows[-1].hash if rows else GENESIS
        rows.append(encode(event(CancelRequested(by=f"u{seq}"), seq=seq, prev_hash=before)))
    return rows


def test_an_untouched_chain_verifies_from_any_place() -> None:
    rows = chain(4)
    assert check_chain(rows) == (4, rows[3].hash)
    assert check_chain(rows[2:], seq=2, hash=rows[1].hash) == (4, rows[3].hash)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", "ses_y"),
        ("seq", 9),
        ("run_id", "run_y"),
        ("type", "run_resumed.1"),
        ("at_us", 1),
        ("data", encode(event(CancelRequested(by="somebody else"))).data),
        ("prev_hash", bytes(31) + b"\x01"),
        ("hash", bytes(32)),
    ],
)
def test_a_change_to_any_field_is_found(field: str, value: object) -> None:
    rows = chain(3)
    rows[1] = msgspec.structs.replace(rows[1], **{field: value})
    with pytest.raises(IntegrityError):
        check_chain(rows)


def test_a_rewritten_row_with_a_fitting_hash_is_found_at_its_successor() -> None:
    rows = chain(3)
    forged = msgspec.structs.replace(rows[1], run_id="run_forged")
    rows[1] = msgspec.structs.replace(forged, hash=hash_of(forged))
    with pytest.raises(IntegrityError, match=r"ses_.* 3"):
        check_chain(rows)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_row_is_found(missing: int) -> None:
    rows = chain(3)
    del rows[missing]
    with pytest.raises(IntegrityError):
        check_chain(rows)


@pytest.mark.requirement("journal:upcasters")
def test_an_old_version_is_read_through_its_upcasters_one_after_the_other() -> None:
    raw = msgspec.msgpack.encode({"t": "run_resumed.-1", "number": 3})
    row = msgspec.structs.replace(
        encode(event(RunResumed(epoch=1, attempt=1))), type="run_resumed.-1", data=raw
    )
    upcasters: dict[str, Upcaster] = {
        "run_resumed.-1": lambda old: {"t": "run_resumed.0", "attempt": old["number"]},
        "run_resumed.0": lambda old: {**old, "t": "run_resumed.1", "epoch": 0},
    }
    assert decode(row, upcasters=upcasters).data == RunResumed(epoch=0, attempt=3)


@pytest.mark.requirement("journal:closed-union")
def test_an_unknown_type_is_an_integrity_error_that_names_it() -> None:
    raw = msgspec.msgpack.encode({"t": "teleported.1"})
    row = msgspec.structs.replace(
        encode(event(RunResumed(epoch=1, attempt=1))), type="teleported.1", data=raw
    )
    with pytest.raises(IntegrityError, match=r"teleported\.1"):
        decode(row)


def test_upcasters_that_lead_in_a_circle_are_refused() -> None:
    raw = msgspec.msgpack.encode({"t": "a.1"})
    row = msgspec.structs.replace(encode(event(RunResumed(epoch=1, attempt=1))), type="a.1", data=raw)
    with pytest.raises(IntegrityError):
        decode(
            row, upcasters={"a.1": lambda old: {**old, "t": "b.1"}, "b.1": lambda old: {**old, "t": "a.1"}}
        )


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode({"t": "run_resumed.1"})])
def test_damaged_data_is_an_integrity_error(data: bytes) -> None:
    row = msgspec.structs.replace(encode(event(RunResumed(epoch=1, attempt=1))), data=data)
    with pytest.raises(IntegrityError):
        decode(row)


def test_references_finds_every_body_that_an_event_refers_to() -> None:
    data = FeedbackGiven(run_id="run_1", by="usr_1", text_ref=ref(255))
    assert references(encode(event(data)).data) == {ref(255)}
    assert references(b'{"text_ref":"' + ref(3).encode() + b'"}') == {ref(3)}
