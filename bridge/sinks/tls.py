"""Certificates out of files, for sinks: who is trusted, and what is shown."""

import ssl
from pathlib import Path

from pydantic import SecretStr

from bridge.errors import FixSettingsError


def trusting(ca_file: Path | None, setting: str, *, others_too: bool = False) -> ssl.SSLContext:
    """A context that trusts a CA alone, or the machine's own CAs where there is none; or both.

    Raises FixSettingsError, under the name of the `setting`, for a file that holds no CA.
    """
    try:
        context = ssl.create_default_context(cafile=None if others_too else ca_file)
        if ca_file and others_too:
            context.load_verify_locations(cafile=ca_file)
    except OSError as problem:
        raise FixSettingsError(f"{setting}: {str(ca_file)!r} holds no CA in PEM: {problem}") from None
    return context


def show(context: ssl.SSLContext, certificate: Path, key: Path | None, password: SecretStr | None, settings: str) -> None:
    """Have connections show a certificate; its key may stand in the same file.

    Raises FixSettingsError, under the names of the `settings`, for files that don't hold them, or another password.
    """
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=password.get_secret_value() if password else "none")
    except OSError as problem:
        raise FixSettingsError(
            f"{settings}: {str(certificate)!r} and {str(key or certificate)!r} are no certificate with its key in PEM, "
            f"or the password isn't the key's: {problem}"
        ) from None
