"""Images of a conversation: bodies of their user in the journal, bytes in the request, gone with the user."""

import base64
from typing import Final

import pytest
from msgspec.structs import replace

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.errors import IntegrityError
from cattlegrid.core.messages import Message, ModelRequest, Role
from cattlegrid.runtime import loop
from cattlegrid.runtime.plan import Desk
from cattlegrid.runtime.planner import Planner
from cattlegrid.runtime.state import MessageRef, Part
from cattlegrid.runtime.texts import IMAGE_SIZE_BYTES, Texts
from cattlegrid.testing.world import World
from tests.unit.runtime.recorded import BUNDLE, CHECKED, STARTED, folded

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("model:images")]

PICTURE: Final = b"\x89PNG " + bytes(range(256)) * 40


async def texts_of(world: World) -> Texts:
    """The texts of the one user, as another process would read them."""
    return Texts(await world.vault.create_owner(world.vault.owner_of("t", "ana")), world.store)


def request_of(world: World, texts: Texts, *messages: MessageRef) -> ModelRequest:
    """What the planner would send for a conversation of these messages."""
    session = replace(folded(STARTED, CHECKED), pending=messages)
    desk = Desk(bundle=BUNDLE, texts=texts, guards=world.guards, schemas=ToolSchemas(), user="ana")
    launch = Planner(desk).plan(session, loop.Chat(tools_allowed=True)).launches[0]
    request = launch.request.request
    assert isinstance(request, ModelRequest)
    return request


async def test_an_image_is_a_body_of_its_own_and_reaches_the_model_after_a_restart() -> None:
    world = World(BUNDLE, model=[])
    texts = await texts_of(world)
    image = texts.put_image(PICTURE, "image/png")
    message = Message(Role.USER, "What is this?", images=(image,))
    ref, size_bytes = texts.put_message(message)
    assert request_of(world, texts, MessageRef(ref, size_bytes, Part.INPUT)).images == {image.ref: PICTURE}
    bodies = texts.take_unwritten()
    assert [body.digest for body in bodies] == [image.ref, ref]
    assert size_bytes >= IMAGE_SIZE_BYTES
    assert len(next(body.sealed for body in bodies if body.digest == ref)) < 300, "the bytes are not in it"
    assert all(base64.b64encode(PICTURE[:30]) not in body.sealed for body in bodies)
    await world.store.put_bodies(bodies)

    later = await texts_of(world)
    await later.load([ref])
    await later.load_images([ref])
    request = request_of(world, later, MessageRef(ref, size_bytes, Part.INPUT))
    assert request.images == {image.ref: PICTURE}
    assert request.messages[-1] == message


async def test_an_image_is_at_hand_as_long_as_its_message_is_in_the_conversation() -> None:
    texts = await texts_of(World(BUNDLE, model=[]))
    image = texts.put_image(PICTURE, "image/png")
    shown = Message(Role.USER, "What is this?", images=(image,))
    ref, _ = texts.put_message(shown)
    other, _ = texts.put_message(Message(Role.USER, "And now?"))
    texts.keep_only([ref, other])
    assert texts.images([shown]) == {image.ref: PICTURE}
    texts.keep_only([other])
    assert texts.images([shown]) == {}
    assert texts.kept_bytes < 200


async def test_an_image_that_is_missing_is_a_record_that_does_not_add_up() -> None:
    world = World(BUNDLE, model=[])
    texts = await texts_of(world)
    image = texts.put_image(PICTURE, "image/png")
    ref, _ = texts.put_message(Message(Role.USER, "", images=(image,)))
    await world.store.put_bodies([body for body in texts.take_unwritten() if body.digest == ref])
    later = await texts_of(world)
    await later.load([ref])
    with pytest.raises(IntegrityError):
        await later.load_images([ref])
