"""The image, built and run as by any user: buildah builds it on a Debian by mmdebstrap, podman and runc run it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from missing import skip_without

ROOT = Path(__file__).parents[2]
SUITE = "trixie"
"""The Debian whose Python is that of the Dockerfile's own base."""

CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))

# What a restricted pod gets, and less: nothing can be written to, /tmp neither.
CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--network=host",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
)


def needs(*programs: str, install: str) -> None:
    """Skip where a program is missing, with a line that says what to install; under `CI=true`, where none may be, fail."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        skip_without(f"{', '.join(missing)} is missing: {install}")


@dataclass(frozen=True)
class Containers:
    """Images and containers in a store of their own; `env` has the tools find it."""

    env: dict[str, str]

    def output(self, *command: str) -> str:
        """What a command prints, which has to succeed."""
        return subprocess.run(command, env=self.env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def inspect(self, image: str) -> dict[str, Any]:
        """What is said of an image."""
        facts: dict[str, Any] = json.loads(self.output("podman", "image", "inspect", image))[0]
        return facts

    def run(self, image: str, *arguments: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """A confined container from start to end."""
        return subprocess.run(
            [*_PODMAN_RUN, *CONFINED, *options, image, *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextmanager
    def running(self, name: str, image: str, *arguments: str, env: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
        """A confined container for the length of the block, its stdout and stderr in pipes."""
        settings = [f"--env={variable}={value}" for variable, value in env.items()]
        with subprocess.Popen(
            [*_PODMAN_RUN, *CONFINED, *settings, f"--name={name}", image, *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                subprocess.run(
                    ["podman", "rm", "--force", "--ignore", name], env=self.env, check=True, stdout=subprocess.DEVNULL
                )


# crun, podman's own choice, asks for a kernel with cgroups of one version only.
_PODMAN_RUN = ("podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "run", "--rm", "--log-driver=none")


def containers(folder: Path) -> Containers:
    """An empty store in a folder."""
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n', encoding="utf-8"
    )
    own = {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "BUILDAH_ISOLATION": "chroot", "BUILDER": "buildah"}
    return Containers({**os.environ, **own})


def build_base(store: Containers) -> str:
    """A Debian with Python, like the official image: pip can be had, and nothing has bytecode. Its archive is kept."""
    archive = ROOT / ".cache" / "image" / f"{SUITE}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        made = archive.with_suffix(".part.tar")
        bytecode = r'find "$1"/usr/lib/python3* -name __pycache__ -prune -exec rm -r {} +'
        packages = "--include=ca-certificates,python3-venv"
        store.output("mmdebstrap", "--quiet", "--variant=minbase", packages, f"--customize-hook={bytecode}", SUITE, str(made))
        made.rename(archive)
    store.output("podman", "import", "--quiet", str(archive), "localhost/base:test")
    return "localhost/base:test"


def build_image(store: Containers, base: str, folder: Path) -> str:
    """The image, by ops/image.sh; pip finds its index as it does here."""
    (folder / "pip.conf").write_text("\n".join(["[global]", *_pip_settings()]), encoding="utf-8")
    secrets = [f"--secret=id=pip.conf,src={folder}/pip.conf", f"--secret=id=ca.crt,src={CERTIFICATES}"]
    return f"localhost/{store.output('ops/image.sh', f'--build-arg=BASE={base}', *secrets)}"


def _pip_settings() -> Iterator[str]:
    yield "cert = /run/secrets/ca.crt"
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True).stdout
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in {"index-url", "extra-index-url", "trusted-host"}:
            unquoted = value.strip("'")
            yield f"{option} = {unquoted}"
