"""Turns what commands ask for into HTTP requests, and answers back into the values that the server made them from.

The same for a server that runs and for one inside this process (`connect.py` chooses). Refusals become errors of the
tree again, so that a command fails with one sentence wherever the server is.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, TypeVar

import httpx2
import msgspec

from cattlegrid.app.views import Approval, Run, Session
from cattlegrid.core import errors
from cattlegrid.core.errors import CattlegridError, NotFound

T = TypeVar("T")
LAST: Final = "last"
WAITING: Final = ("pending", "in_doubt")

_KINDS: Final = {"ses": "session", "run": "run", "apr": "approval", "key": "key"}
_PAGE: Final = 200
_ANSWER_S: Final = 90.0
"""Longer than a server lets a request wait for its run."""


class ServerUnreachable(CattlegridError):
    """Nobody answers where a server should be."""

    code = "server_unreachable"


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a run as it happens; see `runtime.streams`."""

    type: str
    data: dict[str, object]


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    code: str = "internal"
    message: str = ""
    correlation_id: str = ""


class _Refused(msgspec.Struct, frozen=True, kw_only=True):
    error: _Refusal


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]


class Client:
    """One server and one key."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def get(
        self, path: str, *, timeout_s: float = _ANSWER_S, **query: str | int | Sequence[str]
    ) -> bytes:
        """The JSON text at a path; empty parameters are left out. Raises what the server refuses with."""
        asked: dict[str, str | int | list[str]] = {
            name: value if isinstance(value, str | int) else list(value)
            for name, value in query.items()
            if value
        }
        return await self._ask("GET", path, query=asked, timeout_s=timeout_s)

    async def post(
        self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The JSON text that answers a request with a JSON body."""
        return await self._ask("POST", path, body=body, headers=headers)

    async def events(self, path: str, body: object = None) -> AsyncGenerator[StreamEvent]:
        """What happens in a run, as it happens: of a new one with a `body`, else of the one that is named."""
        method = "GET" if body is None else "POST"
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
        try:
            async with self._http.stream(method, path, content=content, headers=headers) as response:
                if response.status_code >= 400:
                    raise refusal(response.status_code, await response.aread())
                async for event in httpx2.EventSource(response):
                    if not event.data:
                        continue
                    if event.event == "error":
                        raise _told(msgspec.json.decode(event.data, type=_Refusal), detail="")
                    yield StreamEvent(
                        type=event.event, data=msgspec.json.decode(event.data, type=dict[str, object])
                    )
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | list[str]] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _ANSWER_S,
    ) -> bytes:
        content = b"" if body is None else msgspec.json.encode(body)
        sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        try:
            response = await self._http.request(
                method, path, params=dict(query or {}), content=content, headers=sent, timeout=timeout_s
            )
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            raise refusal(response.status_code, response.content)
        return response.content

    def _unreachable(self, error: httpx2.TransportError) -> ServerUnreachable:
        where = str(self._http.base_url).rstrip("/")
        if isinstance(error, httpx2.TimeoutException):
            return ServerUnreachable(f"The server at {where} took too long to answer.")
        return ServerUnreachable(
            f"No server answers at {where}. Start one with `cattlegrid dev --detach`, or name another with --url."
        )

    # --- values -------------------------------------------------------------------------------------------------------

    async def runs(self, *, session_id: str = "", status: str = "", limit: int = 20) -> list[Run]:
        """Runs, newest first."""
        return many(await self.get("/runs", session_id=session_id, status=status, limit=limit), Run)

    async def run(self, run_id: str) -> Run:
        """One run with its steps."""
        return one(await self.get(f"/runs/{run_id}"), Run)

    async def sessions(self, *, limit: int = 20) -> list[Session]:
        """Sessions, newest first."""
        return many(await self.get("/sessions", limit=limit), Session)

    async def session(self, session_id: str) -> Session:
        """One session."""
        return one(await self.get(f"/sessions/{session_id}"), Session)

    async def approvals(self, *, status: Sequence[str] = (), limit: int = 20) -> list[Approval]:
        """Calls that wait or waited for a person, newest first."""
        return many(await self.get("/approvals", status=status, limit=limit), Approval)

    async def approval(self, approval_id: str) -> Approval:
        """One of them."""
        return one(await self.get(f"/approvals/{approval_id}"), Approval)

    async def id_of(self, kind: str, given: str) -> str:
        """The whole id for what somebody typed: an id, its beginning, or `last`.

        Args:
            kind: `session`, `run` or `approval`; `last` approval is the newest that waits.
            given: at least five characters of an id.

        Raises:
            NotFound: nothing or more than one thing is called so.
        """
        if given != LAST and _is_whole(kind, given):
            return given
        if given == LAST and kind == "approval":
            ids = [view.id for view in await self.approvals(status=WAITING, limit=1)]
        else:
            ids = await self._known(kind)
        if given == LAST:
            if not ids:
                raise NotFound(
                    f"There is no {kind} yet." if kind != "approval" else "No call waits for a person."
                )
            return ids[0]
        found = [id for id in ids if id.startswith(given)] if len(given) >= len("run_0") else []
        if len(found) != 1:
            raise NotFound(_no_match(kind, given, found))
        return found[0]

    async def _known(self, kind: str) -> Sequence[str]:
        match kind:
            case "session":
                return [view.id for view in await self.sessions(limit=_PAGE)]
            case "run":
                return [view.id for view in await self.runs(limit=_PAGE)]
            case _:
                return [view.id for view in await self.approvals(limit=_PAGE)]


def one(content: bytes, type_: type[T]) -> T:
    """A value out of an answer."""
    return msgspec.json.decode(content, type=type_)


def many(content: bytes, type_: type[T]) -> list[T]:
    """The values of one page of a list."""
    return [msgspec.json.decode(item, type=type_) for item in msgspec.json.decode(content, type=_Page).items]


def refusal(status: int, content: bytes) -> CattlegridError:
    """The error that a server has refused with."""
    try:
        told = msgspec.json.decode(content, type=_Refused).error
    except msgspec.DecodeError:
        return ServerUnreachable(f"What answers there is not Cattlegrid (HTTP status {status}).")
    if told.code == errors.Unauthenticated.code:
        return errors.Unauthenticated(f"{told.message} Name another one with --key or CATTLEGRID_KEY.")
    return _told(told, detail=f"correlation id {told.correlation_id}" if status >= 500 else "")


def _told(refusal: _Refusal, *, detail: str) -> CattlegridError:
    return _KNOWN.get(refusal.code, CattlegridError)(refusal.message, detail=detail)


def _simple_errors(root: type[CattlegridError]) -> dict[str, type[CattlegridError]]:
    """Every error below `root` that is made from a sentence, by its code."""
    known = {root.code: root}
    for kind in root.__subclasses__():
        if kind is not errors.BundleInvalid:
            known |= _simple_errors(kind)
    return known


_KNOWN: Final = _simple_errors(CattlegridError)


def _is_whole(kind: str, given: str) -> bool:
    prefix, _, rest = given.partition("_")
    return (
        _KINDS.get(prefix) == kind
        and len(rest.partition("_")[0]) == 26
        and (kind != "approval" or "_" in rest)
    )


def _no_match(kind: str, given: str, found: Sequence[str]) -> str:
    if found:
        return f"`{given}` can mean {len(found)} of them: {', '.join(found[:4])}."
    return f"There is no {kind} `{given}`. See them with `cattlegrid {kind}s list`."
