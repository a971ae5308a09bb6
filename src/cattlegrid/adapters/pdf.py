"""Reads the text of PDF files in a child process that is ended when it takes too long: they come from strangers."""

import asyncio
import contextlib
import sys
from typing import Final

import msgspec

from cattlegrid.core.bundle import AttachmentLimits
from cattlegrid.core.errors import InvalidRequest, TooLarge

_AT_ONCE: Final = 2
_WAIT_S: Final = 15.0
_CHILD: Final = "cattlegrid.adapters.pdf_child"


class ChildPdfTexts:
    """A `runtime.attachments.PdfTexts`."""

    def __init__(self, *, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def text(self, data: bytes, limits: AttachmentLimits) -> str:
        """The text of all pages, a line feed between two of them.

        Raises:
            InvalidRequest: broken or encrypted.
            TooLarge: more pages, text or work than allowed.
        """
        async with self._slots:
            said = await self._ask(data, limits)
        match said:
            case {"text": str() as text}:
                return text
            case {"problem": "pages"}:
                raise _too_large(f"A PDF file has more than {limits.pages} pages.")
            case {"problem": "text"}:
                raise _too_large(f"A PDF file has more than {limits.text_bytes} bytes of text.")
            case _:
                raise InvalidRequest("A PDF file cannot be read.", param="attachments")

    async def _ask(self, data: bytes, limits: AttachmentLimits) -> object:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", _CHILD, str(limits.pages), str(limits.text_bytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
        try:
            async with asyncio.timeout(self._wait_s):
                output, _ = await child.communicate(data)
        except TimeoutError:
            raise _too_large("A PDF file takes too long to read.") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        try:
            return msgspec.json.decode(output)
        except msgspec.DecodeError:
            return None


def _too_large(message: str) -> TooLarge:
    return TooLarge(message, param="attachments")
