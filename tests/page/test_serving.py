"""What is served, without a browser."""

import base64
import hashlib
import json
import re

import aiohttp
from multidict import CIMultiDictProxy

from bridge.watch.facts import Facts
from page import staging
from page.serving import SECRET, served


async def _get(url: str) -> tuple[str, CIMultiDictProxy[str]]:
    async with aiohttp.request("GET", url) as response:
        assert response.status == 200
        return await response.text(), response.headers


async def test_the_page_is_one_file_that_names_no_other_place() -> None:
    async with served(Facts(["kafka"])) as url:
        text, headers = await _get(url)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert set(re.findall(r"""https?://[^\s"'`)]+""", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(?:script|link|img|iframe)[^>]*\ssrc=|@import|url\(", text)


async def test_nothing_but_its_own_script_and_style_is_allowed_and_they_are_allowed_by_what_is_in_them() -> None:
    async with served(Facts(["kafka"])) as url:
        text, headers = await _get(url)
    policy = dict(directive.strip().split(" ", 1) for directive in headers["Content-Security-Policy"].split(";"))
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert policy["require-trusted-types-for"] == "'script'", "no text can become HTML"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<[^>]*\s(?:on\w+|style)=", text), "an inline handler or style would not be run"


async def test_what_the_page_lives_on_holds_the_settings_and_no_secret() -> None:
    async with served(staging.flowing()) as url:
        text, headers = await _get(url + "page.json")
    assert headers["Cache-Control"] == "no-store"
    assert SECRET not in text
    settings = {setting["name"]: setting for setting in json.loads(text)["settings"]}
    secret, default = settings["BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET"], settings["BRIDGE_ROCKETMQ__WAIT_SECONDS"]
    assert (secret["value"], secret["default"]) == ("********", False)
    assert (default["value"], default["default"]) == ("30", True)
    assert settings["BRIDGE_WEBHOOK__URL"]["value"].startswith("https://…@")


async def test_who_opens_it_late_sees_the_last_minutes() -> None:
    async with served(staging.sink_down()) as url:
        state = json.loads((await _get(url + "page.json"))[0])
    history = state["history"]
    assert history[0]["seconds_ago"] > 800
    before = [point for point in history if point["seconds_ago"] > 330]
    after = [point for point in history if point["seconds_ago"] < 290]
    assert all(point["per_minute"] > 0 and point["latency_seconds"] == 0.04 for point in before)
    assert all(point["per_minute"] == 0 and point["latency_seconds"] is None for point in after)
    assert min(len(before), len(after)) > 50
