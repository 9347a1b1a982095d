"""The words of a text that say something about its subject."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+(?:[-.:=/_]\w+)*")
_LITTLE_WORDS = """
a an and are as at be by can do does did for from has have how i if in is it its not of on or that
the their there this these they to was were what when where which who why will with you
"""
STOP_WORDS = frozenset(_LITTLE_WORDS.split())
"""English words that say nothing about the subject."""


def words(text: str) -> frozenset[str]:
    """Return the distinct words of `text`, lower case, little words left out.

    Identifiers stay whole: `sku=gpu:NoSchedule` is one word.
    """
    return frozenset(_WORD.findall(text.lower())) - STOP_WORDS
