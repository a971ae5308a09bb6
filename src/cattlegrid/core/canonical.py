"""Turns a value into the one byte string that digests are computed over: JSON with sorted keys, no white space."""

import msgspec

_encoder = msgspec.json.Encoder(order="deterministic")


def canonical_json(value: object) -> bytes:
    """Deterministic JSON: keys sorted, UTF-8, no insignificant white space; equal values give equal bytes."""
    return _encoder.encode(value)
