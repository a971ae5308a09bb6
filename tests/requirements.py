"""What Cattlegrid promises, as data: each promise has a stable id and at least one test that shows it.

A test names the promises it shows with `@pytest.mark.requirement("area:feature")`;
`tests/architecture/test_requirements.py` holds both directions. Ids are never reused for something else.
"""

from typing import Final

import msgspec


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One promise; `id` is `area:feature`."""

    id: str
    text: str


def _area(area: str, promises: dict[str, str]) -> tuple[Requirement, ...]:
    return tuple(Requirement(id=f"{area}:{name}", text=text) for name, text in promises.items())


_NEWCOMER: Final = _area(
    "newcomer",
    {
        "demo-acts": "The demo plays its acts, or one of them, and ends with a table computed from what was recorded.",
        "demo-kill": "In the demo a server is killed inside a refund; afterwards one refund was made, no event lost.",
        "demo-why": "The demo shows the tree of a run and replays its session as identical.",
        "demo-json": "The demo prints one JSON document for machines when asked to.",
        "demo-fails": "A broken promise makes the demo exit non-zero.",
        "own-agent": "From `init` to `runs show last`: lint, serve, chat, a held refund, its approval, the refund once.",
        "scripted-or-real": "An API key in the environment chooses a real model, its absence the scripted one.",
    },
)

_SKELETON: Final = _area(
    "skeleton",
    {
        "rooms": "Every room exists, says what it is for, and imports downwards only.",
        "code-rules": "Modules are short, documented, without `global`, pass-through keywords or hidden imports.",
        "one-door": "Only the guard chain makes cleared requests, and `calls.perform` takes nothing else.",
        "words": "Identifiers use the project's words and none of the refused ones.",
        "locks": "Lock files hold a hash for every package and no address; they satisfy what is declared.",
        "no-traces": "No file names a path of a machine or the host of a package registry.",
        "docs": "Every link in the documents leads somewhere.",
        "decisions": "Choices and dependencies have their reasons on record.",
        "surface": "The public names of the package are few, sorted and as listed.",
    },
)

_BUNDLE: Final = _area(
    "bundle",
    {
        "load": "A folder with an agent becomes a bundle with its prompts, tools, models, limits and policy.",
        "problems": "What is wrong in a file is said with file, line, key and what to do.",
        "schema": "Editors get a JSON Schema of both configuration files.",
        "hash": "Everything that defines a version changes the content hash, the dependency lock too; nothing else does.",
        "numbers": "Bundles are numbered per agent; the same content keeps its number.",
        "provenance": "A bundle records the commit it was built from and whether files differed from it.",
        "files-kept": "The files of a bundle are kept, so that a pinned session finds its code after the folder changed.",
        "side-by-side": "Two versions of one agent's code are loaded at the same time and do not see each other.",
        "lint": "`cattlegrid lint` prints name, number, hash, tools, what needs a person, and limits.",
        "diff": "Two bundles are compared part by part, line by line.",
        "portable": "A bundle that was exported is imported elsewhere with the same hash, and a changed file is refused.",
    },
)

_JOURNAL: Final = _area(
    "journal",
    {
        "streams": "Events of one stream are read back in order with their sequence numbers and hashes.",
        "closed-union": "Event types are a closed union; an unknown one is an error.",
        "upcasters": "A stored fixture of every old event version is read as the current one.",
        "bodies": "Text lives in compressed bodies, stored once per owner; events hold references.",
        "keys": "A user's bodies are encrypted with the user's key; the store notices a missing or foreign master key.",
        "keyed-digests": "Digests of what a user wrote are keyed, so that equal words of two users do not match.",
        "deltas": "A model request is stored as what it adds to the request before, and is rebuilt exactly.",
        "writer": "One writer per session gives events their place, also those of tool calls that run in parallel.",
        "inbox": "What others post to a session is folded in once by its writer, or by the poster when there is none.",
        "lease": "A session has one leaseholder; a later epoch fences the one before.",
        "compare-and-set": "An append against a head that has moved writes nothing and fails nobody else of its batch.",
        "group-commit": "Appends of several sessions share a transaction.",
        "barrier": "A barrier returns only when everything appended before it is durable.",
        "poisoned": "After a failed append the writer takes nothing more.",
        "seals": "Heads of streams are sealed regularly by a keyed signature.",
        "feed": "The feed gives all events of all streams in commit order and skips none.",
        "feed-late": "An event of a transaction that ends late is not passed over by the feed, and stops nobody.",
        "sharing": "Several processes may use one database; a schema of another version is refused with what to do.",
        "notices": "What one process writes, others hear of soon.",
        "pooler": "Behind a pooler that hands out connections by transaction the store keeps its whole contract.",
        "settled": "A connection that is cut in the middle of a write leaves neither a loss nor a doubled event.",
        "refusals": "A database that cannot be used is refused with the reason and what to do, and no secret.",
        "copy": "A journal is copied between SQLite and PostgreSQL whole, and verifies there.",
        "contract": "The stores in memory, in SQLite and in PostgreSQL pass the same suite.",
        "verify": "`verify` finds a rewritten chain and a cut tail, and passes an honest store.",
        "erase": "Erasing a user removes their key and words everywhere, ends their runs, and the chain still verifies.",
        "erase-again": "Erasures are kept in a ledger that is applied again after a restore.",
        "retention": "Sessions older than the configured age are removed with their bodies.",
        "state-machine": "A random sequence of writers, leases, appends and reads never breaks the journal's invariants.",
    },
)

_RUNTIME: Final = _area(
    "runtime",
    {
        "outcome": "A session closes when idle, with the outcome that the agent's rule gives.",
        "serial": "Runs of one session are serial: a second request is queued, refused or interrupts.",
        "join": "The same text sent again while its run is open joins that run.",
        "loop": "The native loop is a pure function of the recorded events.",
        "parallel-tools": "Independent tool calls of one turn run at the same time and are recorded in order.",
        "context-window": "A conversation that grows too long is cut to a window, and the cut is recorded.",
        "context-summary": "A conversation that grows too long is summarised, and the summary is a recorded step.",
        "limits": "A run that meets a limit ends in time with an honest partial answer.",
        "cancel": "A run that is cancelled stops, and what it did is on record.",
        "hold": "A call that meets an approve line waits for a person, through restarts, and runs once approved.",
        "approval-exact": "An approval holds for the exact call it was given for.",
        "approval-reject": "A rejected or expired call never runs, and the model is told.",
        "hold-time": "Time on hold counts against no limit.",
        "effects": "An intent is durable before any side effect, and carries the idempotency key of every attempt.",
        "retry": "After an unknown outcome `free` and `keyed` tools run again, `once` tools do not.",
        "in-doubt": "A `once` call in doubt is answered by its `reconcile` tool, else by a person.",
        "undo": "A run that fails undoes its undoable steps in reverse order.",
        "recovery": "A run whose process died is folded from its events and goes on.",
        "exact-replay": "A replay drives the real loop with transports that raise, and calls nothing.",
        "replay-difference": "One changed prompt character or tool result is reported at its exact step.",
        "upgrade": "A hold taken by one version of the code is resumed by another.",
        "state-machine": "Random requests, crashes, decisions and cancels never break what runs promise.",
    },
)

_MODEL: Final = _area(
    "model",
    {
        "only-way": "A call leaves through `calls.perform` with a cleared request, or not at all.",
        "streaming": "A streamed answer is put together whatever the pieces it comes in.",
        "parallel-calls": "Tool calls streamed in parallel are neither merged nor dropped.",
        "usage": "Usage with cached tokens is read from the last piece, and estimated and marked where absent.",
        "refusal": "A refusal is told from an answer.",
        "reasoning": "Reasoning items are kept and sent back unchanged.",
        "wires": "Each wire format comes to the same answers, errors and counts over one table of streams.",
        "images": "An image in a message reaches the model in the provider's own form.",
        "providers": "A model is chosen by provider, address and the name of a variable; a mistake is said with its fix.",
        "official-clients": "The providers' own clients read our recorded streams as our codecs do.",
        "cache-marks": "The prefixes that stay the same are marked for the provider's prompt cache.",
        "errors": "Errors of the provider become errors of the tree.",
        "prices": "Cost is integer nano-dollars from the table or from declared prices; an unknown price is refused.",
        "timeouts": "Connecting and waiting have time-outs of their own, within the deadline of the run.",
        "retries": "Another attempt comes with jitter, after Retry-After, and only where it may help.",
    },
)

_TOOLS: Final = _area(
    "tools",
    {
        "schema": "The schema of a tool comes from its signature and docstring.",
        "arguments": "Wrong arguments are refused before the call in words that a model can act on.",
        "threads": "A plain function runs in a thread and does not stop the loop.",
        "context": "Principal, idempotency key, deadline and logger come from the runtime, never from the model.",
        "results": "A result of another shape than declared is recorded with the difference and not passed on.",
    },
)

_SCRIPTED: Final = _area(
    "scripted",
    {
        "server": "The scripted model is an HTTP server of the common format, streamed and not, and says what it is.",
        "deterministic": "The same conversation and seed get the same answer.",
        "personas": "Careful, gullible, looping, inventive and flaky behave as named.",
    },
)

_SUPPORT: Final = _area(
    "support",
    {
        "shop": "The shop is a real database with its customers, orders, products and knowledge base, the same each time.",
        "tools": "Each tool of the reference agent does what it says, and refuses what the shop's rules refuse.",
        "own-orders": "Tools act for the authenticated customer only.",
        "snapshot": "A run records the snapshot id of the knowledge base.",
        "conversation": "Customers' usual requests end as they should, through the whole stack.",
    },
)

_SERVER: Final = _area(
    "server",
    {
        "sessions-runs": "Sessions and runs are made, read and continued over HTTP, with answers as JSON.",
        "idempotency": "The same key with the same body gets the same answer and no second run.",
        "events": "A run's progress comes as server-sent events and is resumed with Last-Event-ID.",
        "provisional": "Streamed text is provisional: after a recovery the stream restarts and sends the answer again.",
        "cancel": "A run is cancelled over HTTP.",
        "approvals": "Approvals are listed, shown and decided over HTTP by those who may.",
        "feedback": "A thumb, a score or a text about a run is recorded.",
        "replay": "An operator replays a session of the own tenant; nobody else does.",
        "probes": "Health, readiness, liveness, metrics and info answer truthfully.",
        "keys": "API keys are stored hashed, can be revoked, carry roles and are bound to a user or may act for users.",
        "bind": "Serving on other than loopback without authentication is refused.",
        "errors": "An error is a stable code, a sentence and a correlation id, and tells nothing from inside.",
        "schemathesis": "The server keeps what its OpenAPI document says for generated requests.",
    },
)

_IDENTITY: Final = _area(
    "identity",
    {
        "tokens": "A token of the configured issuer lets its user in while signature, issuer, audience and times hold.",
        "algorithms": "Signatures count by declared algorithms and public keys of their kind only, never by a shared secret.",
        "mutations": "No token that was changed in any way authenticates.",
        "claims": "Claims become tenant, user and roles as declared, and what is not declared grants nothing.",
        "rotation": "A rotated key of the issuer counts without a restart, and nonsense does not make us ask it often.",
        "stale": "While the issuer is away, kept keys serve for a bounded time; then tokens are refused and keys go on.",
        "issuer": "Keys are found by the issuer's discovery document, and nothing of it is followed elsewhere.",
        "permissions": "One table says what each role may do; a route without an entry lets nobody in.",
        "tenants": "Nothing of another tenant is seen, touched, or told from what does not exist.",
        "audit": "Every operator action is on record with who, what, when and credential before it is done.",
    },
)

_DOOR: Final = _area(
    "door",
    {
        "responses": "The official openai client creates, streams, reads and cancels responses of an agent.",
        "chat": "The official openai client completes chats with an agent, streamed and not, with usage.",
        "models": "Agents are listed as models, those only that the key may talk to.",
        "threads": "A conversation goes on by a response, by a session, or by a name that the client has chosen.",
        "idempotency": "An idempotency key is unique for its user and door; another request with it is a 409.",
        "roles": "What a client sends under any role is material in the user's turn, framed so that it cannot be forged.",
        "tools": "A client's own tools, and other wishes that would change what the agent is, are refused by name.",
        "holds": "A hold is a typed item; the same response goes on once somebody else has decided.",
        "usage": "Answers carry tokens, cost, run, session and version.",
        "errors": "Refusals are read by official clients as their own errors, with our stable code.",
        "provisional": "Streamed words that came to nothing are told from the answer; nothing cut looks complete.",
        "foreign": "Other users' responses, conversations and approvals are as if they did not exist.",
        "invocations": "The container contract of managed agent platforms is served: invocations with sessions, ping.",
        "agui": "A run is told as AG-UI events that the protocol's own types accept and whose order its rules allow.",
    },
)

_TELEMETRY: Final = _area(
    "telemetry",
    {
        "trace": "The trace of a run has a span for it and one for each of its steps, as the journal says.",
        "export": "Traces are sent from a kept place of the feed, once, by one process; nothing waits for it.",
        "otlp": "A collector gets traces by OTLP: ids, parents, times, tokens and cost are those of the journal.",
        "variables": "OpenTelemetry's own variables say where traces go; what does not fit is said with what to do.",
        "privacy": "No word of a user, a model or a tool leaves with a trace unless somebody has opted in.",
    },
)

_ATTACHMENTS: Final = _area(
    "attachments",
    {
        "kinds": "Text, tables, PDF text and pictures come with a request, at every door that takes files.",
        "limits": "Size, text, row, column, cell, page and count limits are declared, and what exceeds one is refused.",
        "framed": "What is in a file is material in the user's turn, in a frame that no content can leave.",
        "stored": "Files are bodies of their user, shown as references, there after a restart and gone with the user.",
        "hostile": "Files that lie, are broken, loop or bomb are refused, and cost bounded time and memory.",
    },
)

_CLI: Final = _area(
    "cli",
    {
        "commands": "Every command of the list exists and explains itself with an example.",
        "json": "Every command that prints data prints it as JSON when asked to.",
        "init": "`init` makes an agent that lints, answers and refuses to overwrite.",
        "dev": "`dev --detach` starts a server in the background and says where it is; it is stopped by name.",
        "inspect": "Sessions, runs and approvals are shown; `last` and short ids are understood.",
        "errors": "A mistake on the command line exits non-zero with one sentence and no traceback.",
    },
)

_INPUT: Final = _area(
    "input",
    {
        "yaml": "Malformed YAML and unknown keys are errors with their place.",
        "prompt": "A missing prompt is an error that names the file.",
        "signature": "A tool signature that cannot be a schema is an error that names the parameter.",
        "json": "A body that is not the JSON expected is refused with what was expected.",
        "size": "Ten megabytes of input are refused before they are read whole.",
        "text": "Invalid UTF-8 and control characters are refused or cleaned; emoji pass unchanged.",
        "foreign": "An unknown session and somebody else's get the same 404.",
        "concurrent": "Two requests at once to one session lose nothing and mix nothing.",
        "mismatch": "The same idempotency key with another body is a 409.",
    },
)

_FAULT: Final = _area(
    "fault",
    {
        "model-down": "A model that is down, slow, cut or talking nonsense leads to a retry or an honest sentence.",
        "tool": "A tool that raises, hangs or returns another shape is recorded and told to the model.",
        "disk-full": "A full disk stops runs with a clear error and loses nothing that was acknowledged.",
        "database": "A database that is locked or gone turns readiness red and answers 503.",
        "key-file": "A missing or foreign key file stops the start with what to do.",
        "sigterm": "SIGTERM drains: open runs end or are left to recovery, then the process stops.",
        "crash-points": "SIGKILL at every named crash point: no doubled effect, nothing acknowledged is lost.",
        "random-kill": "SIGKILL at random moments: no doubled effect, nothing acknowledged is lost.",
        "fdatasync": "An fdatasync precedes what every barrier lets through.",
        "zombie": "A process stopped beyond its lease and continued writes nothing and doubles no effect.",
        "during-run": "A thumb, an approval and a cancel that come during a run are not lost.",
    },
)

_REPLICA: Final = _area(
    "replica",
    {
        "elsewhere": "A request for a session that runs in another process is answered, in order, and its events arrive.",
        "dead-letter": "A run that kills process after process is parked, listed, and goes on when somebody retries it.",
        "kill-storm": "Three processes on PostgreSQL, one killed every other second: nothing lost, nothing doubled.",
        "rolling": "Three processes restarted one after the other fail no request.",
        "partition": "A store whose connections are cut turns readiness red, answers 503, loses nothing and recovers.",
        "zombie": "A process on PostgreSQL stopped beyond its lease and continued writes nothing.",
    },
)

_JOBS: Final = _area(
    "jobs",
    {
        "contract": "Rounds, timers and batches keep one contract in this process and in PostgreSQL.",
        "killed": "The job of a worker that was killed or stalls is done by another, with the effects of one.",
        "one-round": "Two processes never make the same round, and rounds go on when the one that makes them dies.",
        "stop": "What a stopped worker has not ended is done by another at once.",
        "spread": "Thousands of tasks are put at once, each once, and shared by all workers.",
        "outage": "Workers outlive the loss of their connections and lose no task.",
        "worker": "`cattlegrid worker` does what servers leave to it; a server alone does all of it; a file needs none.",
        "pooler": "Jobs are shared behind PgBouncer in transaction mode, where nobody listens.",
        "schema": "The tables of the jobs are made once, in a namespace of their own, and never changed by a server.",
    },
)

_PRIVACY: Final = _area(
    "privacy",
    {
        "erase-files": "After an erasure in mid-run none of the user's words is in any file, logs and WAL included.",
        "isolation": "Of 200 sessions of 50 users at once, no secret word appears anywhere but with its owner.",
    },
)

_BENCH: Final = _area(
    "bench",
    {
        "json-line": "The last line of every benchmark is one JSON object with the promised keys.",
        "start": "Importing the core, printing help and becoming ready stay within their times.",
        "growth": "Stored bytes per turn do not grow with the length of a session.",
    },
)

REQUIREMENTS: Final = (
    *_NEWCOMER,
    *_SKELETON,
    *_BUNDLE,
    *_JOURNAL,
    *_RUNTIME,
    *_MODEL,
    *_TOOLS,
    *_SCRIPTED,
    *_SUPPORT,
    *_SERVER,
    *_IDENTITY,
    *_TELEMETRY,
    *_DOOR,
    *_ATTACHMENTS,
    *_CLI,
    *_INPUT,
    *_FAULT,
    *_REPLICA,
    *_JOBS,
    *_PRIVACY,
    *_BENCH,
)

PENDING: Final = frozenset[str]()
"""Promises that no test shows yet. An id leaves this set with its first test, and the set only shrinks."""
