"""Turns an image of a message into what providers take: base64 text (RFC 4648) or a data URL (RFC 2397)."""

from base64 import b64encode
from collections.abc import Mapping

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.core.errors import ModelRejected
from cattlegrid.core.messages import Image


def base64_text(image: Image, images: Mapping[str, bytes]) -> str:
    """The bytes of an image as base64. Raises ModelRejected when the request does not bring them."""
    data = images.get(image.ref)
    if data is None:
        raise model_error(ModelRejected, f"the bytes of the image {image.ref} are missing")
    return b64encode(data).decode("ascii")


def data_url(image: Image, images: Mapping[str, bytes]) -> str:
    """An image as a URL that holds it. Raises ModelRejected when the request does not bring its bytes."""
    return f"data:{image.media_type};base64,{base64_text(image, images)}"
