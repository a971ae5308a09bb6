"""The rules that the scripted model plays by: functions from a conversation to a reply, one set for each kind of agent.

The first set that fits answers; which one fits shows in the tools that the request offers.
"""

from collections.abc import Callable

from cattlegrid.testing.scripted.conversation import Conversation
from cattlegrid.testing.scripted.reply import Reply
from cattlegrid.testing.scripted.rules.generic import generic
from cattlegrid.testing.scripted.rules.shop import shop
from cattlegrid.testing.scripted.rules.summary import summary

Rules = Callable[[Conversation], Reply | None]
RULES: tuple[Rules, ...] = (summary, shop)


def careful(conversation: Conversation) -> Reply:
    """The right behaviour: what the first fitting set of rules says, or else the generic one."""
    fitting = (reply for rules in RULES if (reply := rules(conversation)) is not None)
    return next(fitting, None) or generic(conversation)
