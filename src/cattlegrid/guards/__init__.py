"""Decides what may cross: pure checks at six crossings, outside the model. Begin with `chain.py`.

May import `core` and `journal`; calls nothing. A guard is one small class with `name`, `version`, `crossings` and
`judge`; the composition root puts the chain together.
"""
