"""One outbound call, made safely: deadline, retry, price and error mapping around a model or a tool.

`calls` takes only `Cleared` requests, which the guard chain alone makes, and is the only way out to a model or a
tool. The ports `ModelClient` and `ToolClient` are declared here and implemented in `adapters`. The formats that
models speak are pure codecs in `calls/wire`.

May import `journal` and `core`; knows nothing of its siblings `guards` and `telemetry`. Begin with `perform`.
"""
