"""The codec of OpenAI chat completions, which most providers and local servers speak as well, in one place.

`ChatEncoder` makes the body of a request, `decode` reads a whole answer and `StreamDecoder` a streamed one;
`usage_bound` fixes, before a call is made, what stands in for usage that is not reported; `error_from_response` reads
everything that is no answer.
"""

from cattlegrid.calls.wire.errors import error_from_response, model_error
from cattlegrid.calls.wire.openai_chat_request import ChatEncoder, LimitField, encode_message
from cattlegrid.calls.wire.openai_chat_response import StreamDecoder, decode
from cattlegrid.calls.wire.usage import UsageBound, usage_bound

__all__ = [
    "ChatEncoder",
    "LimitField",
    "StreamDecoder",
    "UsageBound",
    "decode",
    "encode_message",
    "error_from_response",
    "model_error",
    "usage_bound",
]
