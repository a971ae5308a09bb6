"""Turns a PDF file on standard input into its text as JSON on standard output: the child process of `pdf.py`.

    python -I -m cattlegrid.adapters.pdf_child PAGES TEXT_BYTES  <file
    {"text": "..."}  or  {"problem": "pages" | "text" | "unreadable"}

It works for strangers' files, so it takes little: bounded memory and time of the processor, no files, no network.
"""

import io
import resource
import sys
from typing import Final

import msgspec
from pypdf import PdfReader

CPU_S: Final = 10
_MEMORY_BYTES: Final = 1_024 * 1024 * 1024


def main() -> None:
    """Read, and say what was found."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    pages, text_bytes = (int(word) for word in sys.argv[1:3])
    data = sys.stdin.buffer.read()
    try:
        found = _read(data, pages=pages, text_bytes=text_bytes)
    except Exception:  # noqa: BLE001 - whatever is wrong with a stranger's file, it cannot be read
        found = {"problem": "unreadable"}
    sys.stdout.buffer.write(msgspec.json.encode(found))


def _read(data: bytes, *, pages: int, text_bytes: int) -> dict[str, str]:
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted:
        return {"problem": "unreadable"}
    if len(reader.pages) > pages:
        return {"problem": "pages"}
    texts: list[str] = []
    left_bytes = text_bytes
    for page in reader.pages:
        text = page.extract_text().encode("utf-8", "replace").decode()
        left_bytes -= len(text.encode()) + 1
        if left_bytes < -1:
            return {"problem": "text"}
        texts.append(text)
    return {"text": "\n".join(texts)}


if __name__ == "__main__":
    main()
