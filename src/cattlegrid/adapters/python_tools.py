"""Calls the tools of bundles: a `calls.ports.ToolClient` over the Python functions of `tools.py`.

The code of a bundle is imported once, from the folder that the registry keeps for its digest, so sessions that are
pinned to different versions run side by side. JSON arguments become the annotated types, a parameter annotated
`Context` what the runtime knows, and the result JSON again, exactly as it is: `calls` compares it with the declared
shape. `tools.py` runs with the rights of this process; it is the team's own code.
"""

import asyncio
import inspect
import logging
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec
from pydantic import TypeAdapter, ValidationError

from cattlegrid.adapters.tool_threads import Returned, ToolThreads
from cattlegrid.core.bundle import Bundle
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import CattlegridError, ToolFailed, ToolResultInvalid, ToolTimeout
from cattlegrid.core.ports import Clock
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.tools import Context, NotExecuted
from cattlegrid.release.loader import Code, CodeBroken, load_code, package_name, unload_code
from cattlegrid.release.signature import RESULT, NoSignature, Signature, read_signature
from cattlegrid.release.toolschema import NoSchema, adapter

SNAPSHOT_TIMEOUT_S: Final = 10.0

_KEPT_BUNDLES: Final = 64
_MAX_DETAIL_CHARS: Final = 16_000
_ANYTHING: Final[TypeAdapter[object]] = TypeAdapter(object)
"""Writes values by what they are and not by what was declared."""
_HERE: Final = Path(__file__).parent


class CodeFolders(Protocol):
    """Where the code of bundles is; `release.registry.BundleRegistry` is one."""

    async def materialise(self, digest: str) -> Path:
        """The folder with exactly the files of a bundle."""
        ...


class _Function(msgspec.Struct, frozen=True):
    """A tool, ready to be called."""

    call: Callable[..., Any]
    signature: Signature
    adapters: Mapping[str, TypeAdapter[Any]]


class _Loaded(msgspec.Struct, frozen=True):
    code: Code
    functions: dict[str, _Function]
    """Tools that were called before."""


class PythonToolClient:
    """A `ToolClient`. For one event loop."""

    def __init__(self, folders: CodeFolders, *, clock: Clock, threads: ToolThreads | None = None) -> None:
        self._folders = folders
        self._clock = clock
        self._threads = threads or ToolThreads()
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._loading = asyncio.Lock()

    async def call(self, request: ToolRequest, *, deadline: Deadline) -> str:
        """See `ToolClient.call`.

        Raises:
            NotExecuted: also when the code cannot be loaded, or the arguments do not become the declared types.
            ToolTimeout: abandoned at the deadline; the effect may still happen.
            ToolFailed: the tool raised; `detail` has the traceback.
            ToolResultInvalid: the tool returned something that JSON cannot hold.
        """
        name = request.tool.name
        function = await self._function(request.bundle, name)
        key = f"{name}@{request.bundle[:8]}"  # a new version may mend what hangs in an old one
        timeout_s = deadline.remaining_s(self._clock)
        if function.signature.is_async:
            returned = await self._threads.run_async(
                key,
                lambda: self._call_async(function, request, deadline),
                timeout_s=timeout_s,
                call_key=request.idempotency_key,
            )
        else:
            returned = await self._threads.run(
                key,
                lambda: self._call(function, request, deadline),
                timeout_s=timeout_s,
                call_key=request.idempotency_key,
            )
        return _value(name, returned)

    async def over(self, idempotency_key: str, *, deadline: Deadline) -> bool:
        """See `ToolClient.over`: a thread that is late cannot be stopped, and may do its work yet."""
        return await self._threads.over(idempotency_key, within_s=deadline.remaining_s(self._clock))

    async def snapshot(self, bundle: Bundle) -> str:
        """See `ToolClient.snapshot`.

        Raises:
            ToolTimeout, ToolFailed, NotExecuted: the function is late, raised, returned no text, or is not there.
        """
        if bundle.snapshot is None:
            return ""
        name = bundle.snapshot
        loaded = await self._load(bundle.digest)
        function = loaded.code.plain_function(name)
        if function is None:
            raise NotExecuted("The agent's snapshot cannot be taken.", detail=f"there is no function {name}")
        returned = await self._threads.run(
            f"{name}@{bundle.digest[:8]}", function, timeout_s=SNAPSHOT_TIMEOUT_S
        )
        found = returned.value if returned is not None and returned.error is None else _value(name, returned)
        if not isinstance(found, str):
            raise ToolFailed(
                "The agent's snapshot cannot be taken.", detail=f"{name} returned no text: {found!r:.200}"
            )
        return found

    async def close(self) -> None:
        """Forget the imported code, end the idle threads. Calls that were abandoned end with the process."""
        self._threads.close()
        for digest in list(self._loaded):
            unload_code(self._loaded.pop(digest).code.package)

    def _call(self, function: _Function, request: ToolRequest, deadline: Deadline) -> str:
        return _as_json(request.tool.name, function.call(**self._arguments(function, request, deadline)))

    async def _call_async(self, function: _Function, request: ToolRequest, deadline: Deadline) -> str:
        return _as_json(
            request.tool.name, await function.call(**self._arguments(function, request, deadline))
        )

    def _arguments(self, function: _Function, request: ToolRequest, deadline: Deadline) -> dict[str, Any]:
        """What the function is called with: those of the given values that its signature names."""
        given = msgspec.json.decode(request.arguments, type=dict[str, Any])
        if request.undone_result:
            given[RESULT] = msgspec.json.decode(request.undone_result)
        found: dict[str, Any] = {}
        for name, parameter in function.signature.parameters.items():
            if name in given:
                try:
                    found[name] = function.adapters[name].validate_python(given[name])
                except ValidationError as error:
                    detail = f"{request.tool.name}: {name}: {error}"
                    raise NotExecuted(
                        f"The argument `{name}` does not fit the tool.", detail=detail
                    ) from error
            elif parameter.required:
                raise NotExecuted(f"The argument `{name}` is missing.", detail=request.tool.name)
        if function.signature.context is not None:
            found[function.signature.context] = Context(
                principal=request.principal,
                session_id=request.session_id,
                run_id=request.run_id,
                idempotency_key=request.idempotency_key,
                deadline_s=deadline.remaining_s(self._clock),
                log=logging.getLogger(f"cattlegrid.tools.{request.tool.name}"),
            )
        return found

    async def _function(self, digest: str, name: str) -> _Function:
        loaded = await self._load(digest)
        known = loaded.functions.get(name)
        if known is None:
            call = loaded.code.tools.get(name)
            if call is None:
                raise NotExecuted("The agent has no such tool.", detail=f"{name} in {digest[:8]}")
            try:
                signature = read_signature(call)
                adapters = {one.name: adapter(one.type) for one in signature.parameters.values()}
            except (NoSignature, NoSchema) as error:
                raise NotExecuted("The tool cannot be called.", detail=f"{name}: {error}") from error
            known = loaded.functions[name] = _Function(call, signature, adapters)
        return known

    async def _load(self, digest: str) -> _Loaded:
        """The imported code of a bundle, importing it in a thread when it is not there yet."""
        loaded = self._loaded.get(digest)
        if loaded is not None:
            self._loaded.move_to_end(digest)
            return loaded
        async with self._loading:
            if digest in self._loaded:
                return self._loaded[digest]
            try:
                folder = await self._folders.materialise(digest)
                code = await asyncio.to_thread(load_code, folder, package=package_name(digest))
            except (CodeBroken, CattlegridError) as error:
                raise NotExecuted("The code of the agent cannot be loaded.", detail=str(error)) from error
            loaded = self._loaded[digest] = _Loaded(code, {})
            if len(self._loaded) > _KEPT_BUNDLES:
                unload_code(self._loaded.popitem(last=False)[1].code.package)
        return loaded


def _value(name: str, returned: Returned | None) -> str:
    if returned is None:
        raise ToolTimeout("The tool did not answer in time.", detail=name)
    if returned.error is None:
        return cast(str, returned.value)
    if isinstance(returned.error, NotExecuted | _Unwritable):
        raise returned.error
    raise ToolFailed("The tool failed.", detail=_traceback(returned.error)) from returned.error


class _Unwritable(ToolResultInvalid):
    """Raised here and not by a tool: it ran to its end."""


def _as_json(name: str, value: object) -> str:
    """The value as JSON text, whatever was declared, so that a difference stays visible."""
    if inspect.iscoroutine(value):
        value.close()
        raise _Unwritable(
            "The tool returned no result.", detail=f"{name} returned a coroutine; declare it `async def`"
        )
    try:
        return _ANYTHING.dump_json(value, by_alias=True).decode()
    except (ValueError, TypeError, RecursionError) as error:
        message = "The tool returned something that cannot be written as JSON."
        raise _Unwritable(message, detail=f"{name}: {error}") from error


def _traceback(error: BaseException) -> str:
    """What the author of the tool needs: the frames from the tool's function on, at most its last 16,000 characters."""
    frames = error.__traceback__
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).parent == _HERE:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return text[-_MAX_DETAIL_CHARS:]
