"""Settings as the environment gives them, and what is said of wrong ones."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
from pydantic import ValidationError

from bridge.errors import FixSettingsError
from bridge.sinks.webhook import WebhookSink
from bridge.sinks.webhook.settings import WebhookSettings
from bridge.sinks.webhook.signing import Signer, keys_of
from webhook.receiver import SECRET, text_of

URL = "https://example.com/hook"


def settings(**given: object) -> WebhookSettings:
    return WebhookSettings.model_validate({"url": URL, **given})


def mistake(**given: object) -> str:
    """What is said of settings, all of them; the secret ones among those given hold `hush`."""
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    assert "hush" not in str(caught.value)
    for error in caught.value.errors():
        assert "hush" not in error["msg"]
    return "; ".join(error["msg"] for error in caught.value.errors())


def headers_of(given: object) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in (settings(headers=given).headers or {}).items()}


def test_every_setting_is_described_and_only_the_url_is_required() -> None:
    assert all(field.description for field in WebhookSettings.model_fields.values())
    assert [name for name, field in WebhookSettings.model_fields.items() if field.is_required()] == ["url"]
    assert WebhookSink.destination == ("url",)


def test_headers_are_json_or_lines_or_pairs() -> None:
    expected = {"X-Key": "a: b, c", "Accept": "*/*"}
    assert headers_of(json.dumps(expected)) == expected
    assert headers_of("X-Key: a: b, c\nAccept:*/*\n\n") == expected
    assert headers_of("  X-Key : a: b, c \r\n Accept:  */* ") == expected
    assert headers_of(expected) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"X": hush}', "is no JSON"),
        ('{"X": ["hush"]}', "strings as values"),
        ("X=hush", "lines of the form"),
        ("X hush: 1\n", "a name that no header can have"),
        (": hush", "a name that no header can have"),
        ({"X": "hush\r\nY: 1"}, "one line"),
        ('{"X": "hush\\nY: 1"}', "one line"),
        ('{"X": "hüsh hush"}', "one line of ASCII"),
        ("X: hush\nX: hush", "twice"),
        ("X: hush\nx: hush", "twice"),
        ('{"X": "hush", "X": "hush"}', "twice"),
        ("Content-Type: hush", "Content-Type is the sink's own"),
        ("Webhook-Id: hush", "sink's own"),
        ("ce-id: hush", "sink's own"),
        ("Transfer-Encoding: hush", "sink's own"),
    ],
)
def test_wrong_headers_are_told_without_repeating_them(given: object, said: str) -> None:
    assert said in mistake(headers=given)


@pytest.mark.parametrize(
    "secret",
    ["hush!", "whsk_aHVzaA==", "whsec_", "whsec_hush hush!", f"{SECRET} whsec_", "härte-hush", "whsec_whsec_aHVzaA"],
)
def test_a_secret_that_is_no_base64_is_told_without_repeating_it(secret: str) -> None:
    assert "should be whsec_ and then Base64" in mistake(signing_secret=secret)


def test_secrets_are_read_with_and_without_prefix_and_padding() -> None:
    keys = [b"one key of several bytes", b"another", b"x"]
    texts = [b64encode(key).decode() for key in keys]
    assert keys_of(f"whsec_{texts[0]}, {texts[1].rstrip('=')}\n whsec_{texts[2]} ") == tuple(keys)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("example.com", "http:// or https://"),
        ("ftp://hush@example.com", "http:// or https://"),
        ("https://user:hush@/x", "host"),
        ("https://user:hush@example.com:port/", "valid host and port"),
        ("https://user:hush@example.com/a b", "http:// or https://"),
        ("https://example.com/#hush", "fragment"),
        ("", "http:// or https://"),
    ],
)
def test_a_wrong_url_is_told_without_repeating_it(url: str, said: str) -> None:
    for name in ("url", "probe_url", "auth_token_url"):
        assert said in mistake(**{name: url})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"auth_username": "u", "auth_token": "hush"}, "more than one way to authenticate is set: AUTH_USERNAME, AUTH_TOKEN;"),
        ({"url": "https://u:hush@example.com/", "auth_token": "hush"}, "user information in URL, AUTH_TOKEN;"),
        ({"headers": "authorization: hush", "auth_token": "hush"}, "AUTH_TOKEN, Authorization among HEADERS;"),
        ({"auth_password": "hush"}, "AUTH_PASSWORD is set without AUTH_USERNAME"),
        ({"auth_client_id": "c", "auth_client_secret": "hush"}, "all of AUTH_TOKEN_URL, AUTH_CLIENT_ID and AUTH_CLIENT_SECRET"),
        ({"auth_token_url": URL}, "all of AUTH_TOKEN_URL"),
        ({"auth_token": "hush\r\nX: 1"}, "one word of visible ASCII"),
        ({"auth_token": "hüsh hush"}, "one word of visible ASCII"),
        ({"auth_username": "a:b"}, "match pattern"),
        ({"auth_token_file": "/nowhere"}, "path of a file"),
        ({"ca_file": "/nowhere"}, "path of a file"),
        ({"mode": "stream"}, "'structured', 'binary' or 'batch'"),
        ({"batch_max": "0"}, "greater than or equal to 1"),
        ({"timeout_seconds": "0"}, "greater than 0"),
        ({"max_connections": "none"}, "valid integer"),
        ({"retries": "3"}, "not permitted"),
    ],
)
def test_what_is_wrong_is_told_with_what_would_be_right(given: dict[str, object], said: str) -> None:
    assert said in mistake(**given)


def test_certificates_need_each_other_and_https(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    assert "CLIENT_KEY_FILE is set without CLIENT_CERT_FILE" in mistake(client_key_file=file)
    assert "URL begins with http://" in mistake(url="http://example.com/", client_cert_file=file)


def test_printed_settings_show_no_secret() -> None:
    given = settings(
        signing_secret="aHVzaA==", headers="X: hush", auth_client_id="c", auth_client_secret="hush", auth_token_url=URL
    )
    for secret in ("hush", "aHVzaA"):
        assert secret not in text_of(given)


def test_signing_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "standardwebhooks.webhooks", None)
    with pytest.raises(FixSettingsError, match=r"pip install 'rocketmq-bridge\[webhook\]'"):
        Signer([b"key"])
