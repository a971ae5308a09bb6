"""Full-text search over products and knowledge base: plain words in, best matches out."""

import re
import sqlite3

# Words that stand in every question and tell nothing.
STOP_WORDS = frozenset(
    "a about an and any are at can could did do does for from have how i in is it long me my of on or our please"  # noqa: SIM905
    " sell some tell that the there this to we what when where which with would you your".split()
)


def find(db: sqlite3.Connection, query: str, *, limit: int) -> list[tuple[str, str]]:
    """(kind, id) of the best matches: what holds all words of the query comes before what holds some of them."""
    words = [word for word in re.findall(r"\w+", query.lower()) if word not in STOP_WORDS]
    # Quoted words are data to FTS5, never operators.
    quoted = [f'"{word}"' for word in dict.fromkeys(words)]
    found: dict[tuple[str, str], None] = {}
    for expression in (" AND ".join(quoted), " OR ".join(quoted)):
        if expression:
            rows = db.execute(
                "SELECT kind, ref FROM search_index WHERE search_index MATCH ? ORDER BY bm25(search_index, 0, 0, 4, 1)"
                " LIMIT ?",
                (expression, limit),
            )
            found.update(dict.fromkeys((str(kind), str(ref)) for kind, ref in rows))
    return list(found)[:limit]
