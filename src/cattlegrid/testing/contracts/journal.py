"""The contract of `journal.store.JournalStore`: every promise of its docstrings, as a test.

    class TestMine(JournalContract): ...   # with a fixture `journal` that is a `JournalUnderTest`

The parts stand in four modules: leases and appends, reading, what belongs to owners, and what many writers share.
"""

from cattlegrid.testing.contracts.journal_owners import OwnersContract
from cattlegrid.testing.contracts.journal_reading import ReadingContract
from cattlegrid.testing.contracts.journal_sharing import SharingContract
from cattlegrid.testing.contracts.journal_writing import AppendsContract, LeasesContract
from cattlegrid.testing.contracts.support import JournalUnderTest

__all__ = ["JournalContract", "JournalUnderTest"]


class JournalContract(LeasesContract, AppendsContract, ReadingContract, OwnersContract, SharingContract):
    """All of it."""
