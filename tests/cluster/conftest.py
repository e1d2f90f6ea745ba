from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import programs
from cluster.control_plane import ControlPlane, running_control_plane
from cluster.releases import Helm
from missing import skip_without


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One for each worker."""
    try:
        with running_control_plane(tmp_path_factory.mktemp("cluster")) as running:
            yield running
    except programs.ProgramMissingError as missing:
        skip_without(missing)


@pytest.fixture
def namespace(cluster: ControlPlane) -> str:
    return cluster.make_namespace()


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest, cluster: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Helm]:
    """A client, in a namespace of the test's own. It had nothing to remark, and the API server neither."""
    try:
        client = Helm(programs.built(request.param), cluster, namespace, tmp_path)
    except programs.ProgramMissingError as missing:
        skip_without(missing)
    yield client
    assert not client.remarks
