"""The programs of a cluster: etcd from the system, and what Go builds into `.cache/cluster`, once for each state of its module.

To build what isn't there, which takes some ten minutes: `PYTHONPATH=tests python -m cluster.programs`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Built: TypeAlias = Literal["kube", "helm3", "helm4"]

BUILT: tuple[Built, ...] = get_args(Built)

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parents[1] / ".cache" / "cluster"
_PACKAGES = {"kube": ".", "helm3": "helm.sh/helm/v3/cmd/helm", "helm4": "helm.sh/helm/v4/cmd/helm"}
# What the server says of itself comes from the linker, and charts ask for it. It is that of k8s.io/kubernetes in go.mod.
_LINKED = {"kube": "-X k8s.io/component-base/version.gitVersion=v1.34.1"}


class ProgramMissingError(Exception):
    """A program isn't on this machine; the text says what to do."""


def etcd() -> Path:
    """Raises ProgramMissingError."""
    return _system("etcd", "install it (Debian: etcd-server)")


def built(name: Built) -> Path:
    """A program that was built before. Raises ProgramMissingError."""
    program = _built(name)
    if not program.exists():
        raise ProgramMissingError(f"{name} isn't built: `make test-cluster` does it, with Go")
    return program


def build(name: Built) -> None:
    """Build it, where that isn't done. Raises ProgramMissingError without Go, and CalledProcessError when Go fails."""
    program = _built(name)
    if program.exists():
        return
    go = _system("go", "install Go, 1.26 or newer")
    sys.stderr.write(f"building {name} with Go, which takes minutes …\n")
    # It appears under its name only when complete. The module's checksums are law: nothing is resolved anew.
    partial = program.with_suffix(f".{os.getpid()}")
    flags = ["-mod=readonly", "-buildvcs=false", "-trimpath", f"-ldflags=-s -w {_LINKED.get(name, '')}"]
    environment = os.environ | {"CGO_ENABLED": "0"}
    subprocess.run([go, "build", *flags, "-o", partial, _PACKAGES[name]], cwd=_HERE / name, env=environment, check=True)
    partial.rename(program)


def _built(name: Built) -> Path:
    sources = sorted(path for path in (_HERE / name).iterdir() if path.suffix in {".go", ".mod", ".sum"})
    contents = [*(path.read_bytes() for path in sources), _LINKED.get(name, "").encode()]
    state = hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]
    return _CACHE / f"{name}-{state}"


def _system(name: str, remedy: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise ProgramMissingError(f"`{name}` isn't installed: {remedy}")
    return Path(path)


def main() -> int:
    """Build all of them; where CI is set, it is a failure that a program is missing."""
    try:
        etcd()
        for name in BUILT:
            build(name)
    except ProgramMissingError as missing:
        sys.stderr.write(f"the tests in a cluster will be skipped: {missing}\n")
        return int(os.environ.get("CI") == "true")
    return 0


if __name__ == "__main__":
    sys.exit(main())
