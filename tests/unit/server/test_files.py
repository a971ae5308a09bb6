"""Files at the doors: as base64 with a run, as parts of responses and chats; and nothing is ever fetched."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest

from cattlegrid.app.render import run_tree
from cattlegrid.app.views import Run
from cattlegrid.testing.models import answer
from tests.unit.server.site import Site, open_site

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("attachments:kinds")]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
CSV = b"order,price\n17,79.90\n"


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def address(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64(data)}"


RUN = {
    "agent": "support",
    "input": "What is the price?",
    "attachments": [
        {"name": "orders.csv", "media_type": "text/csv", "data": base64(CSV)},
        {"name": "photo.png", "media_type": "image/png", "data": base64(PNG)},
    ],
}
RESPONSE = {
    "model": "support",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is the price?"},
                {"type": "input_file", "filename": "orders.csv", "file_data": address("text/csv", CSV)},
                {"type": "input_image", "image_url": address("image/png", PNG), "detail": "auto"},
            ],
        }
    ],
}
CHAT = {
    "model": "support",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is the price?"},
                {"type": "file", "file": {"filename": "orders.csv", "file_data": address("text/csv", CSV)}},
                {"type": "image_url", "image_url": {"url": address("image/png", PNG)}},
            ],
        }
    ],
}
DOORS: dict[str, dict[str, Any]] = {"/runs": RUN, "/v1/responses": RESPONSE, "/v1/chat/completions": CHAT}


@pytest.mark.parametrize("path", DOORS)
async def test_files_reach_the_model_and_are_shown_as_references(path: str) -> None:
    site = await open_site(model=[answer("It is 79.90.")])
    answered = await site.post(path, DOORS[path])
    assert answered.status_code == 200, answered.text
    request = site.world.model.requests[0]
    message = request.messages[-1]
    assert "17,79.90" in message.text
    assert [request.images[image.ref] for image in message.images] == [PNG]
    [run] = (await site.get("/runs")).json()["items"]
    assert run["input"] == "What is the price?"
    assert [(one["media_type"], one["size_bytes"]) for one in run["files"]] == [
        ("text/csv", len(CSV)),
        ("image/png", len(PNG)),
    ]
    assert "79.90\\n" not in str(run)


async def test_what_people_read_of_a_run_names_its_files() -> None:
    site = await open_site(model=[answer("It is 79.90.")])
    run = msgspec.json.decode((await site.post("/runs", RUN)).content, type=Run)
    tree = run_tree(run)
    [line] = [
        str(leaf.label) for branch in tree.children for leaf in branch.children if "orders" in str(leaf.label)
    ]
    assert "text/csv, 21 bytes" in line


@pytest.mark.requirement("attachments:hostile")
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.png",
        "file:///etc/passwd",
        "https://example.com/x.png",
        "data:image/png,x",
        "",
        "data:;base64",
    ],
)
async def test_nothing_is_fetched_for_a_client(url: str) -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    part = {"type": "input_image", "image_url": url}
    text = {"type": "input_text", "text": "Look."}
    body = {"model": "support", "input": [{"role": "user", "content": [text, part]}]}
    assert await refused(site, "/v1/responses", body) == (400, "input")
    assert not site.world.model.requests


@pytest.mark.requirement("attachments:hostile")
@pytest.mark.parametrize(
    ("file", "status"),
    [
        ({"name": "a.png", "media_type": "image/png", "data": base64(b"<svg/>")}, 400),
        ({"name": "a.txt", "media_type": "text/plain", "data": "%%%"}, 400),
        ({"name": "a.txt", "media_type": "text/plain", "data": base64(b"\xff")}, 400),
        ({"name": "a.exe", "media_type": "application/octet-stream", "data": "AA=="}, 422),
        ({"name": "a\nb", "media_type": "text/plain", "data": "AA=="}, 422),
        ({"name": "a.txt", "media_type": "text/plain", "data": base64(b"x" * 600_000)}, 413),
        ({"name": "a.txt", "media_type": "text/plain", "data": base64(b"x" * 17_000)}, 413),
    ],
)
async def test_files_that_do_not_fit_are_refused_before_anything_runs(
    file: dict[str, str], status: int
) -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    assert (await refused(site, "/runs", {**RUN, "attachments": [file]}))[0] == status
    assert (await site.get("/runs")).json()["items"] == []


@pytest.mark.requirement("door:roles")
async def test_files_of_earlier_messages_are_named_and_not_read_again() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    messages = [
        *CHAT["messages"],
        {"role": "assistant", "content": "79.90"},
        {"role": "user", "content": "Sure?"},
    ]
    await site.post("/v1/chat/completions", {"model": "support", "messages": messages})
    message = site.world.model.requests[0].messages[-1]
    assert not message.images
    assert "(attached: orders.csv, image)" in message.text
    assert "79.90\\n" not in message.text


async def refused(site: Site, path: str, body: dict[str, Any]) -> tuple[int, str | None]:
    answered = await site.post(path, body)
    return answered.status_code, answered.json()["error"]["param"]
