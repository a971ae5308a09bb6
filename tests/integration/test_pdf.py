"""PDF files are read in a child process that keeps to its limits, whatever is in the file."""

import asyncio
import zlib

import pytest
from msgspec.structs import replace

from cattlegrid.adapters.pdf import ChildPdfTexts
from cattlegrid.core.bundle import AttachmentLimits
from cattlegrid.core.errors import InvalidRequest, TooLarge

pytestmark = pytest.mark.anyio

LIMITS = AttachmentLimits()
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def pdf_of(*pages: bytes, packed: bool = False) -> bytes:
    """A PDF file with these content streams (ISO 32000-1, section 7.5)."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * place) for place in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%b]/Count %d>>" % (kids, len(pages)),
        FONT,
    ]
    for place, content in enumerate(pages):
        stream = zlib.compress(content, 9) if packed else content
        packing = b"/Filter/FlateDecode" if packed else b""
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % (5 + 2 * place)
        )
        objects.append(b"<</Length %d%b>>stream\n%b\nendstream" % (len(stream), packing, stream))
    file, places = b"%PDF-1.4\n", list[int]()
    for number, part in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (size, len(file))
    return file + b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table) + trailer


def saying(text: str) -> bytes:
    return b"BT /F1 12 Tf 72 720 Td (%b) Tj ET" % text.encode()


@pytest.mark.requirement("attachments:kinds")
async def test_the_text_of_all_pages_is_read_in_their_order() -> None:
    file = pdf_of(saying("Order 17"), saying("79.90 euros"), packed=True)
    assert (await ChildPdfTexts().text(file, LIMITS)).split("\n") == ["Order 17", "79.90 euros"]


@pytest.mark.requirement("attachments:limits")
async def test_more_pages_or_text_than_allowed_are_refused_by_that_limit() -> None:
    file = pdf_of(*[saying("word")] * 3)
    with pytest.raises(TooLarge, match="more than 2 pages"):
        await ChildPdfTexts().text(file, replace(LIMITS, pages=2))
    with pytest.raises(TooLarge, match="more than 13 bytes"):
        await ChildPdfTexts().text(file, replace(LIMITS, text_bytes=13))
    assert await ChildPdfTexts().text(file, replace(LIMITS, pages=3, text_bytes=14)) == "word\nword\nword"


@pytest.mark.requirement("attachments:hostile")
@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"not a PDF",
        b"%PDF-1.4\n" + bytes(1_000),
        pdf_of(saying("x"))[:200],
        pdf_of(saying("x")).replace(b"/Root 1 0 R", b"/Root 1 0 R/Encrypt 3 0 R"),
        pdf_of(saying("x")).replace(b"/Kids[4 0 R]", b"/Kids[2 0 R]"),
    ],
    ids=["empty", "text", "zeros", "cut", "encrypted", "loop"],
)
async def test_broken_encrypted_and_looping_files_cannot_be_read(file: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await ChildPdfTexts().text(file, LIMITS)


@pytest.mark.requirement("attachments:hostile")
async def test_a_small_file_that_unpacks_to_much_is_given_up_within_bounds() -> None:
    bomb = pdf_of(b" " * 300_000_000, packed=True)
    assert len(bomb) < LIMITS.file_bytes
    async with asyncio.timeout(20):
        with pytest.raises(InvalidRequest):
            await ChildPdfTexts().text(bomb, LIMITS)


@pytest.mark.requirement("attachments:hostile")
async def test_a_file_that_takes_too_long_is_given_up_and_its_child_is_ended() -> None:
    endless = pdf_of(b"BT /F1 12 Tf " + b"(x) Tj " * 2_000_000 + b"ET", packed=True)
    with pytest.raises(TooLarge, match="too long"):
        await ChildPdfTexts(wait_s=0.5).text(endless, LIMITS)
