"""Who is trusted, and what certificate is shown; both come from files that somebody renews while the bridge runs."""

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

import structlog
from pydantic import SecretStr

from bridge.errors import FixSettingsError
from bridge.sinks.webhook.settings import WebhookSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")


def version_of(paths: Sequence[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when any of the files does; renewed secrets come by replaced links, as in Kubernetes, or written over."""
    return tuple(_version_of_one(path) for path in paths)


def _version_of_one(path: Path) -> tuple[int, int, int] | None:
    try:
        about = os.stat(path)  # noqa: PTH116 - as in settings
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


class ReceiverTls:
    """TLS with the receiver: its CA, and our certificate. Read again when a file changes; until that can be read, as before."""

    def __init__(self, settings: WebhookSettings) -> None:
        """Raises FixSettingsError for a file that isn't what it should be."""
        self._settings = settings
        files = (settings.ca_file, settings.client_cert_file, settings.client_key_file)
        self._files = [path for path in files if path]
        self._version = version_of(self._files)
        self._context = self._read()

    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        if (version := version_of(self._files)) != self._version:
            self._version = version
            try:
                self._context = self._read()
            except FixSettingsError as problem:  # perhaps half of it is written
                log.warning("certificates changed, and can't be used; the old ones stay", error=str(problem))
        return self._context

    def _read(self) -> ssl.SSLContext:
        settings = self._settings
        context = trusting(settings.ca_file)
        if settings.client_cert_file:
            _show(context, settings.client_cert_file, settings.client_key_file, settings.client_key_password)
        return context


def trusting(ca_file: Path | None, *, others_too: bool = False) -> ssl.SSLContext:
    """A context that trusts a CA alone, or the machine's own CAs where there is none; or both.

    Raises FixSettingsError for a file that holds no CA.
    """
    try:
        context = ssl.create_default_context(cafile=None if others_too else ca_file)
        if ca_file and others_too:
            context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as problem:
        raise FixSettingsError(f"CA_FILE: {str(ca_file)!r} holds no CA in PEM: {problem}") from None
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None, password: SecretStr | None) -> None:
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=password.get_secret_value() if password else "none")
    except (OSError, ssl.SSLError) as problem:
        raise FixSettingsError(
            f"CLIENT_CERT_FILE, CLIENT_KEY_FILE: {str(certificate)!r} and {str(key or certificate)!r} are no certificate "
            f"with its key in PEM, or CLIENT_KEY_PASSWORD isn't the key's: {problem}"
        ) from None
