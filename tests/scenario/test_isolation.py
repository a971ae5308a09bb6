"""200 sessions of 50 users at once, each with a secret word: none appears anywhere but in its own session."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from cattlegrid.app.scaffold import write_scaffold
from tests.scenario.server import Server

USERS = 50
SESSIONS = 4

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.mark.requirement("isolation:secret-words")
async def test_no_secret_word_appears_outside_its_own_session(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    write_scaffold(root, "shop")
    server = Server(root)
    key = server.key("--act-as")
    server.start()
    try:
        limits = httpx2.Limits(max_connections=40)
        async with httpx2.AsyncClient(base_url=server.url, limits=limits, timeout=90) as http:
            everything = await asyncio.gather(
                *(_talk(http, key, user, session) for user in range(USERS) for session in range(SESSIONS))
            )
    finally:
        server.stop()
    words = {word for word, _ in everything}
    assert len(words) == USERS * SESSIONS
    for own, heard in everything:
        assert own in heard
        assert {word for word in words if word in heard} == {own}
    for path in (root / ".cattlegrid").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(word.encode() in content for word in words), path


async def _talk(http: httpx2.AsyncClient, key: str, user: int, session: int) -> tuple[str, str]:
    """Tell a word, ask something else, ask for the word; everything that the user heard and can list."""
    word = f"zq{user:02d}x{session}kw"
    headers = {"Authorization": f"Bearer {key}", "X-Cattlegrid-User": f"user{user}@example.com"}

    async def ask(path: str, body: dict[str, str]) -> httpx2.Response:
        answer = await http.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    first = await ask("/runs", {"agent": "shop", "input": f"My secret word is {word}."})
    path = f"/sessions/{first.json()['session_id']}/runs"
    second = await ask(path, {"input": "Do you sell kettles?"})
    third = await ask(path, {"input": "What is my secret word?"})
    assert word in third.json()["output"]
    listed = await http.get(f"/runs/{third.json()['id']}", headers=headers)
    return word, first.text + second.text + third.text + listed.text
