"""Stop strings over a stream of text: found across token boundaries, never sent."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Holds back text that may be the beginning of a stop string.

    Args:
        stops: not empty strings; with none, all text passes through.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False
        """Whether a stop string has come; the text before it has been given out."""

    def push(self, text: str, *, may_stop: bool = True) -> str:
        """Return what can be sent now that `text` has come.

        Args:
            may_stop: whether a stop string may end in this text; one that does not count here is
                text for good.
        """
        if not self._stops:
            return text
        text, known = self._held + text, len(self._held)
        # The one that completes first wins, so that it never matters how tokens cut the text.
        starts = [(stop, text.find(stop, max(0, known + 1 - len(stop)))) for stop in self._stops]
        ends = [(i + len(stop), i) for stop, i in starts if i >= 0]
        if ends and may_stop:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back, at the end of a text in which no stop string came."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop` without completing it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
