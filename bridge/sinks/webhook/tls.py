"""Who is trusted, and what certificate is shown; both come from files that somebody renews while the bridge runs."""

import ssl
from pathlib import Path

import structlog

from bridge.errors import FixSettingsError
from bridge.sinks.tls import show, trusting
from bridge.sinks.webhook.settings import WebhookSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")


class ReceiverTls:
    """TLS with the receiver: its CA, and our certificate. Read again when a file changes; until that can be read, as before."""

    def __init__(self, settings: WebhookSettings) -> None:
        """Raises FixSettingsError for a file that isn't what it should be."""
        self._settings = settings
        files = (settings.ca_file, settings.client_cert_file, settings.client_key_file)
        self._files = [path for path in files if path]
        self._version = self._look()
        self._context = self._read()

    def context(self) -> ssl.SSLContext | bool:
        """The context for a new connection; True for the machine's own CAs and nothing else, which aiohttp has read already."""
        if (version := self._look()) != self._version:
            self._version = version
            try:
                self._context = self._read()
            except FixSettingsError as problem:  # perhaps half of it is written
                log.warning("certificates changed, and can't be used; the old ones stay", error=str(problem))
        return self._context

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What changes when any of the files does; renewed ones come by replaced links, as in Kubernetes, or written over."""
        return [_version_of(path) for path in self._files]

    def _read(self) -> ssl.SSLContext | bool:
        settings = self._settings
        if not self._files:
            return True
        context = trusting(settings.ca_file, "CA_FILE")
        if settings.client_cert_file:
            names = "CLIENT_CERT_FILE, CLIENT_KEY_FILE, CLIENT_KEY_PASSWORD"
            show(context, settings.client_cert_file, settings.client_key_file, settings.client_key_password, names)
        return context


def _version_of(path: Path) -> tuple[int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size
