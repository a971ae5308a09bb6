"""200 sessions of 50 users at once, each with a secret word: none appears anywhere but in its own session."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

import httpx2
import pytest

from cattlegrid.app.scaffold import write_scaffold
from tests.scenario.server import Server

USERS = 50
SESSIONS = 4

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.mark.requirement("privacy:isolation")
async def test_no_secret_word_appears_outside_its_own_session(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    write_scaffold(root, "shop")
    server = Server(root)
    server.start()
    key = (server.state / "dev-user.key").read_text().strip()
    try:
        limits = httpx2.Limits(max_connections=40)
        async with httpx2.AsyncClient(base_url=server.url, limits=limits, timeout=90) as http:
            everything = await asyncio.gather(
                *(_talk(http, key, user, session) for user in range(USERS) for session in range(SESSIONS))
            )
        words = {word for word, _ in everything}
        assert _files_with_any(root, words) == []
        assert (server.state / "journal.db-wal").stat().st_size > 0
        assert server.stop() == 0
    finally:
        server.end()
    assert len(words) == USERS * SESSIONS
    for own, heard in everything:
        assert own in heard
        assert {word for word in words if word in heard} == {own}
    assert _files_with_any(root, words) == []


def _files_with_any(root: Path, words: Iterable[str]) -> list[Path]:
    """Files with one of these words in them: of database, WAL, logs, bundles, and whatever else there is."""
    sought = re.compile(b"|".join(re.escape(word.encode()) for word in words))
    return [path for path in root.rglob("*") if path.is_file() and sought.search(path.read_bytes())]


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
