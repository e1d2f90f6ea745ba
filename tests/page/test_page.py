"""The page in a real Chromium. What it looks like in each state lies in `.cache/page` afterwards."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, expect

from bridge.emulator.server import Emulator
from bridge.watch.facts import Facts
from outside.command import PATIENCE_SECONDS, TOPIC, said, settings_for, started
from page import staging
from page.axe import Axe
from page.serving import served
from server_process import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

PICTURES = Path(__file__).resolve().parents[2] / ".cache" / "page"
LOOKS: dict[Literal["light", "dark"], tuple[int, int]] = {"light": (1180, 900), "dark": (360, 780)}
"""Width and height, in pixels."""


@asynccontextmanager
async def opened(chromium: Browser, url: str, *, reduced_motion: bool = False) -> AsyncIterator[Page]:
    """The page, once it shows something; nothing may have gone wrong in it in the end."""
    wrong: list[str] = []
    async with await chromium.new_page(reduced_motion="reduce" if reduced_motion else "no-preference") as page:
        page.on("pageerror", lambda problem: wrong.append(str(problem)))
        page.on("console", lambda message: wrong.append(message.text))
        await page.goto(url)
        await expect(page.locator("#rest")).to_be_visible()
        yield page
    assert [problem for problem in wrong if not problem.startswith("Failed to load resource: ")] == []


async def ask_now(page: Page) -> None:
    """Have it look at once, as it does when it comes to the front."""
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


STATES: dict[str, tuple[Callable[[], Facts], str]] = {
    "flowing": (staging.flowing, "Flowing: 1,"),
    "idle": (staging.idle, "Idle: connected, and nothing to deliver since "),
    "sink down": (staging.sink_down, "Paused: the sink kafka is down, and webhook waits for it since "),
    "not connected": (staging.not_connected, "Not connected: the broker can't be polled since "),
    "draining": (staging.draining, "Draining: 12 messages in hand "),
    "stuck": (staging.stuck, "Stuck: the event loop has not turned since "),
}


@pytest.mark.parametrize("state", STATES)
async def test_it_says_in_words_how_the_bridge_is_and_anybody_can_read_it(chromium: Browser, axe: Axe, state: str) -> None:
    """Light and on a screen, dark and on a phone: axe-core finds nothing, and nothing sticks out at the side."""
    stage, text = STATES[state]
    async with served(stage(), turning=state != "stuck") as url, opened(chromium, url) as page:
        await expect(page.locator("h1")).to_contain_text(text)
        for scheme, (width, height) in LOOKS.items():
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": width, "height": height})
            assert await axe.complaints(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth") == width
            await page.screenshot(path=PICTURES / f"{state.replace(' ', '-')}-{scheme}-{width}.png", full_page=True)


async def test_the_picture_can_be_read_too(chromium: Browser) -> None:
    """Its colours, which axe-core doesn't look at, have the contrast that WCAG asks for; and it is told in words."""
    async with served(staging.flowing()) as url, opened(chromium, url) as page:
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            for foreground, background, ratio in (
                ("ink", "raised", 4.5), ("soft", "raised", 4.5), ("soft", "page", 4.5),
                ("go", "raised", 3), ("bad", "raised", 3), ("bad", "page", 3), ("go", "page", 3), ("warn", "page", 3),
                ("calm", "page", 3), ("wane", "page", 3),
            ):  # fmt: skip
                colours = [await page.evaluate(_COLOUR, f"--{name}") for name in (foreground, background)]
                assert _contrast(*colours) >= ratio, (scheme, foreground, background)
        told = await page.locator("#flow").get_attribute("aria-label")
        assert told
        assert re.match(r"From the topic orders: connected, 12,345 waiting; to the bridge 1,\d+ a minute, 1,\d+ acked\. ", told)
        assert "Bridge: 32 in hand, 3 pollers." in told
        assert re.search(r"To kafka: works, [\d,]+ confirmed; webhook: works, [\d,]+ confirmed; dead letters: works, 3 ", told)


_COLOUR = "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"


def _contrast(*colours: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""
    darker, lighter = sorted(map(_luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


async def test_no_request_leaves_the_host(chromium: Browser) -> None:
    async with served(staging.flowing()) as url, opened(chromium, url) as page:
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url))
        await page.reload()
        await expect(page.locator("#rest")).to_be_visible()
        await ask_now(page)
        await page.locator("summary").click()
        await page.wait_for_load_state("networkidle")
        assert {address for address in asked if not address.startswith("data:")} == {url, f"{url}page.json"}


async def test_texts_from_outside_stay_texts(chromium: Browser) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script> </script> 'quoted' \"twice\" \u202e and back"
    facts = staging.sink_down()
    facts.sinks["kafka"].fails(hostile)
    async with served(facts) as url, opened(chromium, url) as page:
        await expect(page.locator("#why .error")).to_have_text(hostile)
        await expect(page.locator("#parts .error")).to_have_text(hostile)
        assert await page.evaluate("document.images.length + document.scripts.length") == 1


async def test_everything_is_reached_with_the_keyboard_and_stays_as_it_was_left(chromium: Browser) -> None:
    async with served(staging.flowing()) as url, opened(chromium, url) as page:
        reached = []
        for _ in range(6):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert reached == ["connections", "All others, as they are by default", "/healthz", "/readyz", "/livez", "/metrics"]
        await page.locator("summary").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("BRIDGE_ROCKETMQ__WAIT_SECONDS")).to_be_visible()
        async with page.expect_response("**/page.json"):
            await ask_now(page)
        await expect(page.get_by_text("BRIDGE_ROCKETMQ__WAIT_SECONDS")).to_be_visible()
        await expect(page.locator("summary")).to_be_focused()


async def test_nothing_moves_for_whom_movement_is_too_much(chromium: Browser) -> None:
    async with served(staging.flowing()) as url:
        async with opened(chromium, url) as page:
            assert await page.evaluate("document.getAnimations().length") > 0
        async with opened(chromium, url, reduced_motion=True) as page:
            assert await page.evaluate("document.getAnimations().length") == 0


async def test_a_bridge_that_stops_answering_is_said_to_since_when_and_is_shown_again_when_it_is_back(
    chromium: Browser, axe: Axe
) -> None:
    facts, port = staging.flowing(), free_port()
    async with AsyncExitStack() as alive:
        url = await alive.enter_async_context(served(facts, port=port))
        async with opened(chromium, url) as page:
            await alive.aclose()
            await ask_now(page)
            await expect(page.locator("h1")).to_contain_text("No answer: the bridge can't be reached since ")
            await expect(page.locator("#why")).to_contain_text("All else on this page is as it was then.")
            await expect(page.locator("#flow")).to_be_visible()
            assert await axe.complaints(page) == []
            await page.screenshot(path=PICTURES / "no-answer-light-1180.png")
            async with served(facts, port=port):
                await ask_now(page)
                await expect(page.locator("h1")).to_contain_text("Flowing: ")


@pytest.mark.parametrize(
    ("answer", "text", "error"),
    [
        ({"status": 502, "body": "<html>"}, "No answer: the bridge can't be reached since ", "502 Bad Gateway"),
        ({"json": {"headline": {}}}, "Not understood: the bridge answers, and this page can't read it", "undefined"),
    ],
    ids=["a proxy's error", "another version's answer"],
)
async def test_an_answer_that_is_none_is_said_to_be_none(
    chromium: Browser, answer: dict[str, Any], text: str, error: str
) -> None:
    async with served(staging.idle()) as url, opened(chromium, url) as page:
        await page.route("**/page.json", lambda route: route.fulfill(**answer))
        await ask_now(page)
        await expect(page.locator("h1")).to_contain_text(text)
        await expect(page.locator("#why .error")).to_contain_text(error)


async def test_the_whole_way(chromium: Browser, tmp_path: Path) -> None:
    """A person's first minutes: the demo names the page's address, the page says that it flows, and at last that it is gone."""
    async with started("demo", folder=tmp_path) as process:
        line = await said(process, "see how it goes: ")
        async with opened(chromium, line.rpartition(" ")[2].strip()) as page:
            await expect(page.locator("h1")).to_contain_text("Flowing: ")
            await expect(page.locator("#flow")).to_have_attribute("aria-label", re.compile("stdout: works"))
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await process.communicate()
            await ask_now(page)
            await expect(page.locator("h1")).to_contain_text("No answer: the bridge can't be reached since ")


async def test_a_real_sink_that_is_down_is_said_with_its_error_and_what_it_means(chromium: Browser, tmp_path: Path) -> None:
    sink = {"BRIDGE_SINK": "webhook", "BRIDGE_WEBHOOK__URL": "http://127.0.0.1:9/orders", "BRIDGE_LOG__FORMAT": "json"}
    async with Emulator() as emulator, started("run", folder=tmp_path, settings=settings_for(emulator) | sink) as process:
        line = await said(process, '"health_port"')
        port = re.search(r'"health_port": ?(\d+)', line)
        assert port
        async with opened(chromium, f"http://127.0.0.1:{port[1]}/") as page:
            await expect(page.locator("h1")).to_contain_text("Idle: ")
            emulator.publish(TOPIC, "hello")
            await expect(page.locator("h1")).to_contain_text("Paused: the sink webhook is down since ")
            await expect(page.locator("#why .error")).to_contain_text("127.0.0.1:9")
            await expect(page.locator("#why")).to_contain_text("messages wait with the broker")
