import os

import pytest

from sdks.install import Sdk, SdkMissingError, launch_command
from sdks.skipping import skipped_without_sdk


@pytest.mark.parametrize("sdk", ["node", "java"])
def test_a_missing_program_is_named(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(SdkMissingError, match=f"`{sdk}` isn't installed: install "):
        launch_command(sdk)


def test_a_missing_sdk_skips_a_test_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install Node"), skipped_without_sdk():
        raise SdkMissingError("install Node.js")


def test_a_missing_sdk_fails_a_test_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install Node"), skipped_without_sdk():
        raise SdkMissingError("install Node.js")
