"""The state folder: which server runs is believed only while it lives, and keys are private."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cattlegrid.app.state import RunningServer, StateFolder, nearest_state
from cattlegrid.core.errors import ConfigurationError

SERVER = RunningServer("http://127.0.0.1:8700", 4711)


def test_a_server_is_known_while_it_serves_and_forgotten_after(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    assert state.server() is None
    with state.serving():
        assert state.server() is None, "it has not said where yet"
        assert state.locked
        state.announce(SERVER)
        assert state.server() == SERVER
    assert state.server() is None
    assert not state.locked


def test_there_is_one_server_of_a_project_at_a_time(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with state.serving():
        state.announce(SERVER)
        with pytest.raises(ConfigurationError, match=r"already at http://127.0.0.1:8700 by process 4711"):
            state.serving().__enter__()
        assert state.server() == SERVER, "the refused one has changed nothing"


def test_what_a_killed_server_has_left_is_not_believed(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from cattlegrid.app.state import RunningServer, StateFolder
state = StateFolder(Path({str(tmp_path)!r}))
with state.serving():
    state.announce(RunningServer("http://127.0.0.1:8700", os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    assert (tmp_path / "server.json").exists()
    assert StateFolder(tmp_path).server() is None
    with StateFolder(tmp_path).serving():
        assert not (tmp_path / "server.json").exists()


@pytest.mark.parametrize("content", ["", "{", '{"url": 1}', "[]"])
def test_a_torn_announcement_is_none(tmp_path: Path, content: str) -> None:
    state = StateFolder(tmp_path)
    with state.serving():
        (tmp_path / "server.json").write_text(content)
        assert state.server() is None


def test_keys_of_development_are_for_this_account_alone(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    assert state.key("user") == ""
    state.keep_key("user", "cg_first")
    state.keep_key("user", "cg_second")
    assert state.key("user") == "cg_second"
    assert (tmp_path / "dev-user.key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["dev-user.key"]  # noqa: PTH208


def test_the_state_of_a_project_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CATTLEGRID_STATE", raising=False)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert nearest_state(below) is None
    (tmp_path / "cattlegrid.yaml").touch()
    found = nearest_state(below)
    assert found is not None
    assert found.path == tmp_path / ".cattlegrid"
    monkeypatch.setenv("CATTLEGRID_STATE", str(tmp_path / "elsewhere"))
    moved = nearest_state(below)
    assert moved is not None
    assert moved.path == tmp_path / "elsewhere"
