"""The settings of the webhook sink, read from `BRIDGE_WEBHOOK__…`."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from bridge.sinks.http import plausible_url, url_of
from bridge.sinks.webhook.signing import keys_of


def _is_a_file(value: Path) -> Path:
    if not os.path.isfile(value):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise ValueError("should be the path of a file")
    return value


def _is_one_word(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("should be one word of visible ASCII characters")
    return value


def _is_decodable(value: SecretStr) -> SecretStr:
    keys_of(value.get_secret_value())
    return value


Url = Annotated[str, AfterValidator(plausible_url)]
File = Annotated[Path, AfterValidator(_is_a_file)]
Word = Annotated[SecretStr, AfterValidator(_is_one_word)]

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_OURS = re.compile(
    "ce-.*|webhook-.*|idempotency-key|content-(type|length|encoding)|transfer-encoding|connection|keep-alive|te|trailer|upgrade"
    "|expect|accept-encoding",
    re.IGNORECASE,
)
"""Headers that the sink writes itself, or that say how the connection is used."""


class WebhookSettings(BaseModel):
    """Where events are posted, how they are written, and who the bridge is to the receiver."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # No repr shows a URL: its query, and what stands before the @, may be secrets.
    url: Url = Field(repr=False, description="where events are posted; user information in it is sent as basic authentication")
    mode: Literal["structured", "binary", "batch"] = Field(
        default="structured",
        description="how CloudEvents are written: structured, the whole event as the body; binary, its attributes as headers; "
        "batch, several as one JSON array, which the receiver must have asked for",
    )
    batch_max: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="how many events a batch holds at most; a poll brings 16 at most, so more never come",
    )
    signing_secret: Annotated[SecretStr, AfterValidator(_is_decodable)] | None = Field(
        default=None,
        description="a Standard Webhooks secret, whsec_ and Base64; several, with spaces or commas, while one replaces another",
    )
    headers: Mapping[str, SecretStr] | None = Field(
        default=None, description='headers to add to every request: JSON, {"Name": "value"}, or a line `Name: value` for each'
    )
    auth_username: str | None = Field(default=None, pattern=r"^[^:\x00-\x1f]+$", description="the user of basic authentication")
    auth_password: SecretStr | None = Field(default=None, description="and the password")
    auth_token: Word | None = Field(default=None, description="a bearer token")
    auth_token_file: File | None = Field(
        default=None, description="a file that holds a bearer token; it is read again when it changes"
    )
    auth_token_url: Url | None = Field(
        default=None,
        repr=False,
        description="where OAuth2 client credentials are exchanged for bearer tokens, renewed before they expire",
    )
    auth_client_id: str | None = Field(default=None, description="the OAuth2 client")
    auth_client_secret: SecretStr | None = Field(default=None, description="and its secret")
    auth_client_in: Literal["header", "body"] = Field(
        default="header", description="where the token request carries the OAuth2 client: header (basic), or body (post)"
    )
    auth_scope: str | None = Field(default=None, description="the OAuth2 scope to ask for; several with spaces")
    auth_audience: str | None = Field(default=None, description="the OAuth2 audience, for authorisation servers that want one")
    timeout_seconds: float = Field(
        default=15, gt=0, le=300, description="how long one attempt may take, from connecting to the end of the answer"
    )
    max_connections: int = Field(
        default=16, ge=1, le=256, description="how many requests are out at once at most, each on a connection of its own"
    )
    probe_url: Url | None = Field(
        default=None,
        repr=False,
        description="what is asked with GET at the start, and while the endpoint is down; a 2xx answer says that it is up",
    )
    ca_file: File | None = Field(
        default=None, description="a PEM file with the only CA that the endpoint's certificate is checked against"
    )
    client_cert_file: File | None = Field(
        default=None, description="the client certificate for mutual TLS, in PEM; it may hold the key too"
    )
    client_key_file: File | None = Field(default=None, description="the client certificate's key, in PEM")
    client_key_password: SecretStr | None = Field(default=None, description="the password of that key, if it has one")

    @field_validator("headers", mode="before")
    @classmethod
    def _reads_text(cls, value: Any) -> Any:
        return _read_headers(value) if isinstance(value, str) else value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: Mapping[str, SecretStr] | None) -> Mapping[str, SecretStr] | None:
        for name, text in (value or {}).items():
            if not re.fullmatch(_NAME, name):
                raise ValueError("holds a name that no header can have: letters, digits and - are right")
            if _OURS.fullmatch(name):
                raise ValueError(f"the header {name} is the sink's own to write")
            if not re.fullmatch(r"[ -~]*", text.get_secret_value()):
                raise ValueError(f"the value of {name} should be one line of ASCII characters")
        names = [name.lower() for name in value or ()]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the header {min(doubled)} is given twice")
        return value

    @model_validator(mode="after")
    def _authenticates_in_one_way(self) -> Self:
        client = (self.auth_client_id, self.auth_client_secret, self.auth_token_url)
        ways = {
            "user information in URL": bool(url_of(self.url).user),
            "AUTH_USERNAME": self.auth_username or self.auth_password,
            "AUTH_TOKEN": self.auth_token,
            "AUTH_TOKEN_FILE": self.auth_token_file,
            "AUTH_TOKEN_URL": any(client),
            "Authorization among HEADERS": any(name.lower() == "authorization" for name in self.headers or ()),
        }
        chosen = [way for way, given in ways.items() if given]
        if len(chosen) > 1:
            raise ValueError(f"more than one way to authenticate is set: {', '.join(chosen)}; keep one of them")
        if self.auth_password and not self.auth_username:
            raise ValueError("AUTH_PASSWORD is set without AUTH_USERNAME")
        if any(client) and not all(client):
            raise ValueError("OAuth2 needs all of AUTH_TOKEN_URL, AUTH_CLIENT_ID and AUTH_CLIENT_SECRET")
        return self

    @model_validator(mode="after")
    def _has_a_use_for_certificates(self) -> Self:
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("CLIENT_KEY_FILE is set without CLIENT_CERT_FILE")
        if self.client_cert_file and url_of(self.url).scheme != "https":
            raise ValueError("CLIENT_CERT_FILE is set, but URL begins with http://: only https:// shows a certificate")
        return self


def _read_headers(text: str) -> dict[str, str]:
    """Headers from JSON or from lines. Raises ValueError, which never repeats what is given: it may be a secret."""
    if text.lstrip().startswith("{"):
        try:
            headers = json.loads(text, object_pairs_hook=_once_each)
        except json.JSONDecodeError as problem:
            raise ValueError(f"is no JSON: {problem.msg} at character {problem.pos}") from None
        except RecursionError:
            raise ValueError("is JSON with too many levels") from None
        if not all(isinstance(value, str) for value in headers.values()):
            raise ValueError('should be a JSON object with strings as values: {"Name": "value"}')
        return dict(headers)
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in lines):
        raise ValueError("should be JSON, or lines of the form `Name: value`")
    return _once_each([(name.strip(), value.strip()) for name, _, value in lines])


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    headers = dict(pairs)
    if len(headers) < len(pairs):
        raise ValueError("a header is given twice")
    return headers
