"""What keeps sessions going when nobody asks: leases, recovery, inboxes, expiry, closing, retention, erasure, the end.

Each method is one round, made again and again by `Jobs`; all of them are idempotent and may run in several processes.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import PurePath
from typing import Final

import msgspec

from cattlegrid.core.errors import AppendConflict, CattlegridError, LeaseHeld, SessionEnded
from cattlegrid.core.ports import Clock, Jobs
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import micros
from cattlegrid.journal.store import EntryQuery, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.runtime import inbox
from cattlegrid.runtime.engine import Engine
from cattlegrid.runtime.fold import fold_all
from cattlegrid.runtime.ports import Bundles
