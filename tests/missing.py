"""What a test does where a component isn't on this machine."""

import os
from typing import NoReturn

import pytest


def skip_without(component: object) -> NoReturn:
    """Skip the running test, with a line that says what to install; under `CI=true`, where nothing may be missing, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(component))
    pytest.skip(str(component))
