"""Bodies are readable by their owner's key only, stored once, and gone with the key."""

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.errors import IntegrityError, KeyMissing, SessionEnded
from cattlegrid.journal.bodies import BundleBox, OwnerBox, UserBox, Zstd
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.vault import Vault
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal

pytestmark = pytest.mark.anyio

SECRET = bytes(range(32))
ANN = UserBox("usr_ann", bytes(32), Zstd())
BOB = UserBox("usr_bob", bytes(32), Zstd())
BUNDLE = BundleBox("bundle:3f", Zstd())


def vault() -> tuple[Vault, MemoryJournal]:
    clock = ManualClock()
    store = MemoryJournal(clock)
    return Vault(store, Kek(SECRET), clock), store


@pytest.mark.parametrize("box", [ANN, BUNDLE], ids=lambda box: box.owner)
@given(text=st.text() | st.binary() | st.sampled_from(["word " * 1000, "x" * 160, "x" * 159]))
@pytest.mark.requirement("journal:bodies")
def test_a_text_comes_back_as_it_was(box: OwnerBox, text: str | bytes) -> None:
    body = box.seal(text)
    assert box.open(body) == (text.encode() if isinstance(text, str) else text)
    assert body.digest == box.digest(text)


@pytest.mark.parametrize("box", [ANN, BUNDLE], ids=lambda box: box.owner)
@pytest.mark.parametrize("text", [b"short", b"a long text that repeats itself. " * 50], ids=["raw", "zstd"])
def test_a_body_that_was_changed_anywhere_is_refused(box: OwnerBox, text: bytes) -> None:
    body = box.seal(text)
    for place in range(len(body.sealed)):
        changed = bytearray(body.sealed)
        changed[place] ^= 7
        with pytest.raises(IntegrityError):
            box.open(msgspec.structs.replace(body, sealed=bytes(changed)))
    for length in range(len(body.sealed)):
        with pytest.raises(IntegrityError):
            box.open(msgspec.structs.replace(body, sealed=body.sealed[:length]))


@pytest.mark.parametrize("box", [ANN, BUNDLE], ids=lambda box: box.owner)
def test_a_body_under_the_name_of_another_one_is_refused(box: OwnerBox) -> None:
    body = box.seal("the refund was 10")
    other = box.seal("the refund was 90")
    with pytest.raises(IntegrityError):
        box.open(msgspec.structs.replace(other, digest=body.digest))


def test_a_body_of_another_owner_is_refused_even_under_the_same_key() -> None:
    body = ANN.seal("secret")
    with pytest.raises(IntegrityError):
        BOB.open(body)
    with pytest.raises(IntegrityError):
        BOB.open(msgspec.structs.replace(body, owner=BOB.owner))


@pytest.mark.requirement("journal:bodies", "journal:keys")
def test_nothing_of_a_users_text_shows_in_what_is_stored() -> None:
    body = ANN.seal("the secret word is marmalade, " * 20)
    assert b"marmalade" not in body.sealed
    assert len(body.digest) == 32
    assert body.digest != BUNDLE.digest("the secret word is marmalade, " * 20)[:32]


@pytest.mark.requirement("journal:keyed-digests")
def test_equal_texts_of_two_owners_have_unlike_digests() -> None:
    assert UserBox("usr_ann", b"a" * 32, Zstd()).digest("yes") != UserBox(
        "usr_bob", b"b" * 32, Zstd()
    ).digest("yes")


def test_a_keyed_value_is_bound_to_its_purpose_and_to_where_its_parts_begin_and_end() -> None:
    digests = {
        ANN.keyed("call", "ab", "c"),
        ANN.keyed("call", "a", "bc"),
        ANN.keyed("call", "abc"),
        ANN.keyed("key", "ab", "c"),
        ANN.digest('["call","ab","c"]'),
    }
    assert len(digests) == 5
    assert ANN.keyed("call", "ab", "c") in digests


def test_a_bundle_body_that_claims_to_be_huge_is_not_unpacked() -> None:
    huge = Zstd().squeeze(bytes(65 * 1024 * 1024))
    assert huge is not None
    body = msgspec.structs.replace(BUNDLE.seal("x"), sealed=b"\x04" + huge)
    with pytest.raises(IntegrityError):
        BUNDLE.open(body)


def test_a_pseudonym_depends_on_key_tenant_and_user_alone() -> None:
    kek = Kek(SECRET)
    assert kek.pseudonym("acme", "ann") == Kek(SECRET).pseudonym("acme", "ann")
    names = {
        kek.pseudonym("acme", "ann"),
        kek.pseudonym("acm", "eann"),
        Kek(os.urandom(32)).pseudonym("acme", "ann"),
    }
    assert len(names) == 3
    assert all(len(name) == 36 and name.startswith("usr_") and "ann" not in name for name in names)


def test_a_key_of_another_length_is_refused_and_no_key_is_ever_shown() -> None:
    with pytest.raises(KeyMissing):
        Kek(b"short")
    assert repr(Kek(SECRET)) == f"Kek({Kek(SECRET).id})"
    assert SECRET.hex() not in repr(vars(Kek(SECRET)))


def test_a_wrapped_key_opens_for_its_owner_only() -> None:
    kek = Kek(SECRET)
    wrapped = kek.wrap("usr_ann", b"k" * 32)
    assert kek.unwrap("usr_ann", wrapped) == b"k" * 32
    for owner, sealed in (
        ("usr_bob", wrapped),
        ("usr_ann", wrapped[:-1]),
        ("usr_ann", b""),
        ("usr_ann", b"\x02" + wrapped[1:]),
    ):
        with pytest.raises(IntegrityError):
            kek.unwrap(owner, sealed)
    with pytest.raises(IntegrityError):
        Kek(bytes(32)).unwrap("usr_ann", wrapped)


async def test_an_owner_keeps_one_key_over_restarts() -> None:
    first, store = vault()
    body = (await first.create_owner("usr_ann")).seal("hello")
    again = Vault(store, Kek(SECRET), ManualClock())
    assert (await again.open_owner("usr_ann")).open(body) == b"hello"
    assert (await again.create_owner("usr_ann")).open(body) == b"hello"


async def test_an_unknown_user_has_no_box_and_a_bundle_always_has_one() -> None:
    subject, store = vault()
    with pytest.raises(SessionEnded):
        await subject.open_owner("usr_ann")
    assert (await subject.open_owner("bundle:3f")).owner == "bundle:3f"
    assert await store.owner_key("bundle:3f") is None


async def test_bodies_are_read_by_digest_and_missing_ones_are_left_out() -> None:
    subject, store = vault()
    box = await subject.create_owner("usr_ann")
    body = box.seal("hello")
    await store.put_bodies([body])
    assert await subject.read("usr_ann", [body.digest, body.digest, "0" * 32]) == {body.digest: b"hello"}
    assert await subject.read("usr_nobody", []) == {}


async def test_an_erased_user_is_gone_and_starts_anew_with_another_key() -> None:
    subject, store = vault()
    box = await subject.create_owner("usr_ann")
    body = box.seal("hello")
    await store.put_bodies([body])
    await subject.erase_owner("usr_ann")
    with pytest.raises(SessionEnded):
        await subject.open_owner("usr_ann")
    anew = await subject.create_owner("usr_ann")
    assert anew.digest("hello") != body.digest
    assert await store.bodies("usr_ann", [body.digest]) == []


async def test_a_key_that_another_process_made_anew_replaces_the_kept_box() -> None:
    here, store = vault()
    there = Vault(store, Kek(SECRET), ManualClock())
    before = await here.create_owner("usr_ann")
    await there.erase_owner("usr_ann")
    after = await there.create_owner("usr_ann")
    assert (await here.create_owner("usr_ann")).digest("x") == after.digest("x") != before.digest("x")


async def test_only_the_boxes_used_last_are_kept() -> None:
    subject, store = vault()
    for number in range(1_030):
        await subject.create_owner(f"usr_{number}")
    store.available = False
    assert (await subject.open_owner("usr_1029")).owner == "usr_1029"
    store.available = True
    assert (await subject.open_owner("usr_0")).owner == "usr_0"
