"""A wire between servers and their database that can be cut: a proxy on a loopback port, in the test's own process."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

_CHUNK_BYTES: Final = 65_536


class Cutter:
    """Passes connections on to PostgreSQL's socket; `cut` breaks them off, and while `closed` nobody gets through."""

    def __init__(self, database: str) -> None:
        parts = urlsplit(database)
        self._target = str(Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        host, port = self._listener.getsockname()[:2]
        self.url: Final = f"postgresql://{parts.username}@{host}:{port}{parts.path}?sslmode=disable"
        """The same database by way of the wire."""
        self.closed = False
        self.cuts = 0
        """How many connections were broken off."""
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._carriers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def cut(self) -> None:
        """Break off every connection there is."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self.cuts += 1
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        # A listener that is only closed leaves its `accept` waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in (self._thread, *self._carriers):
            thread.join(timeout=10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            carrier = threading.Thread(target=self._carry, args=pair, daemon=True)
            self._carriers.append(carrier)
            carrier.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Both directions of one connection, until it ends."""
        with client, server:
            back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            self._pass(client, server)
            back.join()
        with self._lock:
            self._pairs.discard((client, server))

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                target.sendall(chunk)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
