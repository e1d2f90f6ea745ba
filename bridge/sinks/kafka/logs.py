"""What aiokafka says: it repeats itself ten times a second while a broker is away."""

import logging

REPEAT_SECONDS = 60.0
"""How often it may say the same thing."""


def log_sparingly() -> None:
    """Pass on of aiokafka's log only what it didn't say lately."""
    logger = logging.getLogger("aiokafka")
    if not any(isinstance(handler, _Sparing) for handler in logger.handlers):
        logger.addHandler(_Sparing())
        logger.propagate = False


class _Sparing(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.created >= self._said.get(record.msg, 0.0) + REPEAT_SECONDS:
            self._said[record.msg] = record.created
            logging.getLogger().handle(record)
