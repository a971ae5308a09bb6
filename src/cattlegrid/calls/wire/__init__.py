"""Pure codecs of the formats that models speak: a request to bytes, bytes or streamed pieces to a response.

A codec does no I/O and keeps no state beyond one response. It is total: whatever a provider sends becomes a response
or an error of `core.errors`. One module for each format; nobody outside compares the names of providers.
"""
