"""Strategies for the texts that messages hold."""

from hypothesis import strategies as st

NASTY = "a<&>\"'{}[]\\;#x1: \r\n\t\x00\x01\x1f\x7f\x85\u2028\ud800\udbff\udc00\udfff\ufdd0\ufdd1\ufeff\ufffe\uffff😀\U0001ffff"
"""What XML, JSON, CloudEvents or our own repair of damage treat in a way of their own."""


def joined(text: str) -> str:
    """The text with the halves of its surrogate pairs put together, as whoever reads them from XML does."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def any_text(max_size: int = 30) -> st.SearchStrategy[str]:
    """Text of any code points there are, halves of surrogate pairs among them."""
    everything = st.characters(min_codepoint=0, max_codepoint=0x10FFFF, categories=None)
    return st.text(everything, max_size=max_size) | st.text(st.sampled_from(NASTY), max_size=max_size)
