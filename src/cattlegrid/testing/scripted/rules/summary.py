"""Answers a request to summarise a conversation: the sentences that hold its facts, shortened.

A request is one when it offers no tools and its system prompt asks for a summary of a conversation.
"""

import re

from cattlegrid.testing.scripted.conversation import Conversation
from cattlegrid.testing.scripted.reply import Reply

MAX_CHARS = 800
_ASKED = re.compile(r"\bsummar(?:y|ise|ize|ising|izing)\b", re.IGNORECASE)
_FACT = re.compile(r"\d|\bmy\b|\border\b|\brefund|\bcancel|\baddress\b|\bcalled\b|\bname\b|@", re.IGNORECASE)


def summary(conversation: Conversation) -> Reply | None:
    """A summary, or None when none was asked for."""
    if conversation.tools or not _ASKED.search(conversation.system):
        return None
    texts = [*(line.text for line in conversation.before), conversation.user]
    sentences = [part.strip() for text in texts for part in re.split(r"(?<=[.?!])\s+|\n+", text)]
    facts = dict.fromkeys(sentence for sentence in sentences if _FACT.search(sentence))
    chosen = list(facts) or [sentence for sentence in sentences if sentence]
    kept: list[str] = []
    # The latest facts matter most; what does not fit is the oldest.
    for sentence in reversed(chosen):
        if sum(map(len, kept)) + len(sentence) > MAX_CHARS:
            break
        kept.append(sentence)
    return Reply(text="Summary of the conversation: " + " ".join(reversed(kept or [chosen[-1][:MAX_CHARS]])))
