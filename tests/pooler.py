"""PgBouncer in transaction mode, in front of the tests' server: each transaction on whichever connection is free."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PROGRAM: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
"""Debian's package `pgbouncer`; `.ci/run` installs it where it may."""

_SETTINGS: Final = """
[databases]
* = host={server}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 5432
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
server_round_robin = 1
logfile = {folder}/log
{user}
"""


@contextmanager
def pooler(server: Path) -> Generator[Path]:
    """The folder of the pooler's socket, for as long as the block."""
    assert PROGRAM is not None
    folder = Path(tempfile.mkdtemp(prefix="cattlegrid-pool-"))
    account = pwd.getpwuid(server.stat().st_uid) if os.geteuid() == 0 else None
    (folder / "users").write_text('"postgres" ""\n')
    user = f"user = {account.pw_name}" if account else ""
    (folder / "settings.ini").write_text(_SETTINGS.format(server=server, folder=folder, user=user))
    if account:
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    process = subprocess.Popen(
        [PROGRAM, "-q", str(folder / "settings.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + 10
        while not (folder / ".s.PGSQL.5432").exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline_s, (folder / "log").read_text()
            time.sleep(0.02)
        yield folder
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)
