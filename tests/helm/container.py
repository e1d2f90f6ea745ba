"""The container of a pod, as a kubelet would start it: its arguments, its environment, and the files of its volumes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from helm.chart import Manifest

Secrets = Mapping[str, Mapping[str, str]]
"""By name, and by key."""


def keys_of(access_key_id: str, access_key_secret: str) -> dict[str, str]:
    """What a Secret with an access key holds."""
    return {"BRIDGE_ROCKETMQ__ACCESS_KEY_ID": access_key_id, "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": access_key_secret}


class Container:
    """The only container of a pod; Secrets are those that are rendered with it, and those given."""

    def __init__(self, pod: Mapping[str, Any], found: Sequence[Manifest]) -> None:
        (self.spec,) = pod["containers"]
        self.args: list[str] = self.spec["args"]
        # A name and its text; valueFrom would need a cluster.
        self.env = {variable["name"]: variable["value"].replace("$$(", "$(") for variable in self.spec["env"]}
        self._volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        self._made = {each["metadata"]["name"]: each["stringData"] for each in found if each["kind"] == "Secret"}

    @property
    def ports(self) -> dict[str, int]:
        """By name."""
        return {port["name"]: port["containerPort"] for port in self.spec["ports"]}

    def environment(self, folder: Path, secrets: Secrets) -> dict[str, str]:
        """The environment, with the volumes' files in `folder`, and every path in a variable where it lies there."""
        env = dict(self.env)
        for number, mount in enumerate(self.spec.get("volumeMounts", ())):
            volume = folder / f"volume-{number}"
            _fill(volume, dict(self._files(self._volumes[mount["name"]], {**secrets, **self._made})))
            for name, text in env.items():
                env[name] = re.sub(rf"^{re.escape(mount['mountPath'])}(?=/|$)", str(volume), text)
        return env

    @staticmethod
    def _files(volume: Mapping[str, Any], secrets: Secrets) -> Iterator[tuple[str, str]]:
        for source in volume["projected"]["sources"]:
            keys = secrets[source["secret"]["name"]]
            items = source["secret"].get("items") or [{"key": key, "path": key} for key in keys]
            for item in items:
                yield item["path"], keys[item["key"]]


def _fill(volume: Path, files: Mapping[str, str]) -> None:
    """As a kubelet does, so that all files change at once: links to a link to a folder."""
    data = volume / "..2026_01_01"
    data.mkdir(parents=True)
    (volume / "..data").symlink_to(data.name)
    for name, text in files.items():
        (data / name).write_text(text, encoding="utf-8")
        (volume / name).symlink_to(f"..data/{name}")
