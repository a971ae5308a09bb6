"""`make demo`: "That Friday night", the acts that exist so far, each kept promise one line in the final table.

`stage.py` starts and kills real servers on a state folder of the demo's own; `evidence.py` reads what is true from the
journal's and the shop's databases, never from the script; `acts.py` plays; `__main__.py` tells.
"""
