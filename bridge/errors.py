"""Errors, named by what whoever catches them should do."""


class BridgeError(Exception):
    """Everything that the bridge itself raises; its text says what was seen and what would be right, and no secret."""


class FixSettingsError(BridgeError):
    """Fix the settings: trying again changes nothing until somebody has.

    `code` is the service's error code where the service said so (protocol.md 7), else None.
    """

    def __init__(self, text: str, *, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


class TryAgainError(BridgeError):
    """Try again after a pause that grows: nothing arrived, or the other side had trouble.

    `answer_lost` tells that the request may have had its effect and the answer never came whole: a poll may have taken messages
    that nobody sees before their lease ends.
    """

    def __init__(self, text: str, *, answer_lost: bool = False) -> None:
        super().__init__(text)
        self.answer_lost = answer_lost


class ThrottledError(TryAgainError):
    """Slow the whole process down: the service counts every request of the account (`QpsLimitExceeded`)."""


class BrokenAnswerError(TryAgainError):
    """The other side broke the protocol: HTML, nothing, too much, or XML that says something else. Try again, slowly."""


class GiveUpError(BridgeError):
    """Give up on this one request or message: it will never be taken as it is. Others are not affected."""


class SinkDownError(BridgeError):
    """The sink has trouble that isn't about one event: no connection, not authorised, no such topic.

    A sink raises it from `open`, `probe` or `send`; nothing of what was handed over counts as confirmed, polling pauses, and
    the sink is tried again with growing pauses. The text tells the person what to do.
    """


class SinkGoneError(BridgeError):
    """The sink has ended for good, and the bridge ends with it (exit code 1): stdout's reader has closed the pipe."""


class MissingExtraError(FixSettingsError):
    """An optional feature was asked for whose packages are not installed; the text names the extra."""
