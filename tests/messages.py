"""Patterns for error messages: tests assert the facts of a message, not its sentence."""

import re


def one_line(*facts):
    """Return a pattern for `pytest.raises(match=...)`: a message of one line with these facts, in this order.

    A fact is a number, name, key, path or a word of the remedy. It matches as a whole: 4 is not in "40", "-4" or "0.4".
    """
    texts = [str(fact) for fact in facts]
    before = [r"(?<![\w.-])" if text[0].isdigit() else r"(?<!\w)" for text in texts]
    whole = (rf"{start}{re.escape(text)}(?!\w)(?!\.\d)" for start, text in zip(before, texts, strict=True))
    return r"\A[^\n]*" + r"[^\n]*".join(whole) + r"[^\n]*\Z"
