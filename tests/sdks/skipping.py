"""What a test does where an SDK can't be run."""

import contextlib
from collections.abc import Iterator

from missing import skip_without
from sdks.install import SdkMissingError


@contextlib.contextmanager
def skipped_without_sdk() -> Iterator[None]:
    """Skip the running test, with a line that says what to install; under `CI=true`, where nothing may be missing, fail."""
    try:
        yield
    except SdkMissingError as missing:
        skip_without(missing)
