"""For the tests of whoever writes a sink, or develops against the bridge.

Here is what needs nothing else installed. The contract suite stands in `bridge.testing.contract`, which needs the extra
`testing`.
"""

from bridge.testing.events import make_event
from bridge.testing.memory import MemorySettings, MemorySink

__all__ = ["MemorySettings", "MemorySink", "make_event"]
