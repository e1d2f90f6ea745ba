"""The image itself. Building it takes minutes, so pytest doesn't collect this file by its name: `make test-image` does."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import __version__
from image.containers import ROOT, Containers, build_base, build_image, containers, needs
from server_process import free_port

pytestmark = pytest.mark.timeout(1200)

EMULATOR = "bridge-test-emulator"
BRIDGE = "bridge-test-bridge"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Containers:
    needs("buildah", "mmdebstrap", "podman", "runc", install="apt-get install buildah mmdebstrap podman runc, and be root")
    return containers(tmp_path_factory.mktemp("containers"))


@pytest.fixture(scope="module")
def base(store: Containers) -> str:
    return build_base(store)


@pytest.fixture(scope="module")
def image(store: Containers, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_image(store, base, tmp_path_factory.mktemp("build"))


def _python(store: Containers, image: str, program: str, *, python: str = "python") -> Any:
    """What a program in the image prints as JSON."""
    done = store.run(image, "-c", program, options=(f"--entrypoint={python}",))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_demo_delivers_where_nothing_can_be_written_and_nothing_is_allowed(store: Containers, image: str) -> None:
    done = store.run(image, "demo", "--messages", "100")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({event["id"] for event in events}) == len(events) == 100


def test_it_runs_as_a_user_by_number_who_has_no_capability_and_writes_nowhere(store: Containers, image: str) -> None:
    program = """
import errno, json, os, re
status = open("/proc/self/status").read()
refused = []
for folder, *_ in os.walk("/", onerror=None):
    if folder.startswith(("/proc", "/sys", "/dev")):
        continue
    try:
        open(os.path.join(folder, "written"), "w")
    except OSError as problem:
        refused.append(errno.errorcode[problem.errno])
    else:
        refused.append(folder)
print(json.dumps([os.getuid(), os.getgid(), re.findall(r"Cap(?:Prm|Eff|Bnd):\\t(\\S+)", status), sorted(set(refused))]))
"""
    user, group, capabilities, refused = _python(store, image, program)
    assert (user, group) == (10001, 10001)
    assert {int(mask, 16) for mask in capabilities} == {0}
    assert refused == ["EROFS"]


def test_neither_pip_nor_a_compiler_nor_tests_are_in_it(store: Containers, image: str, base: str) -> None:
    program = """
import glob, importlib.util, json, shutil
programs = ["pip", "pip3", "gcc", "cc", "c++", "clang", "ld", "as", "make", "strip"]
print(json.dumps([
    [name for name in programs if shutil.which(name)],
    [name for name in ("pip", "ensurepip", "setuptools", "hatchling", "pytest") if importlib.util.find_spec(name)],
    glob.glob("/opt/bridge/**/tests", recursive=True),
    [name for ending in ("c", "h", "pyx") for name in glob.glob(f"/opt/bridge/lib/**/*.{ending}", recursive=True)],
]))
"""
    for python in ("python", "/usr/bin/python3"):
        assert _python(store, image, program, python=python) == [[], [], [], []]
    assert _python(store, base, program, python="/usr/bin/python3")[1] == ["ensurepip"], "the base has what is to be removed"


def test_everything_has_its_bytecode_down_to_the_standard_library(store: Containers, image: str) -> None:
    program = """
import glob, importlib.util, json, os, sys
import bridge.check, bridge.cli, bridge.demo, bridge.service, bridge.sinks.kafka, bridge.sinks.webhook, http.client
loaded = [module.__file__ for module in sys.modules.values() if (getattr(module, "__file__", None) or "").endswith(".py")]
ours = glob.glob("/opt/bridge/lib/**/*.py", recursive=True)
print(json.dumps([
    [name for name in {*ours, *loaded} if not os.path.exists(importlib.util.cache_from_source(name))],
    len(ours), len([name for name in loaded if not name.startswith("/opt/bridge")]),
]))
"""
    missing, ours, standard = _python(store, image, program)
    assert missing == []
    assert ours > 1000
    assert standard > 100


def test_each_extension_module_can_be_imported_though_it_was_stripped(store: Containers, image: str) -> None:
    program = """
import glob, importlib, json, sys
root = sys.prefix + "/lib/python%d.%d/site-packages/" % sys.version_info[:2]
modules = [name.removeprefix(root).partition(".")[0].replace("/", ".") for name in glob.glob(root + "**/*.so", recursive=True)]
for module in modules:
    importlib.import_module(module)
print(json.dumps(modules))
"""
    modules = _python(store, image, program)
    assert {"lxml.etree", "uvloop.loop", "orjson.orjson", "cryptography.hazmat.bindings._rust"} <= set(modules)


def test_it_says_what_it_is(store: Containers, image: str) -> None:
    facts = store.inspect(image)
    revision = store.output("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in facts["Config"]["Labels"].items()}
    assert labels["title"] == "rocketmq-bridge"
    assert labels["version"] == __version__
    assert labels["revision"].removesuffix("-dirty") == revision.removesuffix("-dirty")
    assert (facts["Config"]["Entrypoint"], facts["Config"]["Cmd"]) == (["bridge"], ["run"])
    assert facts["Config"]["User"] == "10001:10001", "numeric, or a kubelet can't tell that it isn't root"


def test_it_adds_less_than_120_mb_to_its_base(store: Containers, image: str, base: str) -> None:
    added = store.inspect(image)["Size"] - store.inspect(base)["Size"]
    print(f"the image adds {added / 1e6:.1f} MB to its base")  # noqa: T201 - for docs/releasing.md; pytest -s shows it
    assert 0 < added < 120e6


@pytest.fixture
def endpoint(store: Containers, image: str) -> Iterator[str]:
    """Of an emulator in a container of its own."""
    settings = {"BRIDGE_EMULATOR__HOST": "127.0.0.1", "BRIDGE_EMULATOR__PORT": "0", "BRIDGE_HTTP__PORT": str(free_port())}
    with store.running(EMULATOR, image, "emulator", env=settings) as process:
        yield _line(process, "the emulator listens on").split()[-1]


def test_it_runs_is_healthy_and_drains_upon_sigterm(store: Containers, image: str, endpoint: str) -> None:
    settings = {
        "BRIDGE_ROCKETMQ__ENDPOINT": endpoint,
        "BRIDGE_ROCKETMQ__TOPIC": "orders",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET",
    }
    consuming = {"BRIDGE_ROCKETMQ__GROUP_ID": "GID_orders", "BRIDGE_ROCKETMQ__WAIT_SECONDS": "1"}
    serving = {"BRIDGE_HTTP__HOST": "127.0.0.1", "BRIDGE_HTTP__PORT": str(free_port())}
    with store.running(BRIDGE, image, env=settings | consuming | serving) as process:
        _line(process, '"started"')
        published = store.run(
            image, "publish", "hello", options=tuple(f"--env={name}={text}" for name, text in settings.items())
        )
        assert process.stdout
        event = json.loads(process.stdout.readline())
        assert (event["id"], event["data"]) == (published.stdout.strip(), "hello")

        assert _is_healthy(store, BRIDGE)
        assert not _is_healthy(store, EMULATOR), "no bridge is there: its health check has to fail"

        store.output("podman", "kill", "--signal=TERM", BRIDGE)
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0, rest


def _is_healthy(store: Containers, name: str) -> bool:
    """Whether the image's own HEALTHCHECK passes in a container."""
    check = ["podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "healthcheck", "run", name]
    done = subprocess.run(check, env=store.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode == 0


def _line(process: "subprocess.Popen[str]", wanted: str) -> str:
    """The first line of stderr with this in it."""
    assert process.stderr
    seen = []
    for line in process.stderr:
        seen.append(line)
        if wanted in line:
            return line
    raise AssertionError("".join(seen))


COMPOSE = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
"""What docker compose itself reads its files with."""


def test_compose_reads_the_compose_file(tmp_path: Path) -> None:
    needs("go", install="a Go toolchain")
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(re.sub("stop_grace_period", "stop_grace_time", text), encoding="utf-8")
    assert _compose(ROOT / "compose.yaml").returncode == 0
    assert "stop_grace_time" in _compose(wrong).stderr


def _compose(file: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["go", "run", COMPOSE, str(file)], cwd=ROOT, capture_output=True, text=True, check=False)
