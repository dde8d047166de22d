"""The same reads from stores of every kind: TLS, a cluster, SQLite; through an unchanged Feast;
and beside Feast's precomputed vectors."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Job, Rounds, in_turn, millis, say
from reads import WINDOW, Question, apply_views, wide

if TYPE_CHECKING:
    from testbed.repo import Applied, Repo

TLS = Path(__file__).parent.parent / "tests" / "rust" / "tls"


class Servers:
    """What `Reads` reads, elsewhere."""

    def __init__(self, folder: Path, applied: Applied, repo: Repo, rounds: Rounds) -> None:
        self.folder, self.applied, self.repo, self.rounds = folder, applied, repo, rounds
        self.jobs: list[Job] = []

    def run(self) -> None:
        self.sqlite()
        self.tls()
        self.cluster()
        self.unchanged_feast()
        self.precomputed()

    def compare(
        self,
        title: str,
        stock: Callable[[], Any],
        ours: Callable[[], Any],
        target: float | None = None,
    ) -> None:
        say(title)
        theirs, answer = stock(), ours()
        correct = theirs == answer and all(None not in column for column in answer.values())
        found = in_turn({"stock": stock, "ours": ours}, self.rounds)
        times = millis(found["stock"].wall), millis(found["ours"].wall)
        self.jobs.append(Job(title, *times, "ms", correct=correct, target=target))

    def both_doors(self, title: str, repo: Repo, question: Question) -> None:
        self.compare(title, question.to_dict(repo.stock()), question.to_dict(repo.ours()))

    def sqlite(self) -> None:
        repo = self.applied.open(self.folder / "sqlite")
        repo.ours().materialize(*WINDOW, feature_views=["wide"])
        for question in (wide(1, 10), wide(100, 50)):
            self.both_doors(f"`to_dict()`, {question.title}, SQLite", repo, question)

    def tls(self) -> None:
        with _tls_server() as (server, connection_string):
            # The server is filled without TLS, which costs the materialization more than it.
            repo = self.applied.open(self.folder / "tls", server)
            repo.config["online_store"]["connection_string"] = connection_string
            repo.write_config()
            repo.ours().materialize(*WINDOW, feature_views=["wide"])
            for question in (wide(1, 10), wide(100, 50)):
                self.both_doors(f"`to_dict()`, {question.title}, TLS", repo, question)

    def cluster(self) -> None:
        from testbed.redis_topologies import RedisCluster

        cluster = RedisCluster()
        try:
            online = {
                "type": "redis",
                "redis_type": "redis_cluster",
                "connection_string": cluster.connection_string,
            }
            repo = self.applied.open(self.folder / "cluster", online_store=online)
            repo.config["online_store"].pop("path")
            repo.write_config()
            say("filling the cluster")
            repo.stock().materialize(*WINDOW, feature_views=["wide"])
            repo.ours().refresh_registry()
            for question in (wide(1, 10), wide(100, 50)):
                title = f"`to_dict()`, {question.title}, cluster of 3"
                self.both_doors(title, repo, question)
        finally:
            cluster.close()

    def unchanged_feast(self) -> None:
        """Feast's own class, with `type: feastrs.feast.RedisOnlineStore` and without."""
        import feast
        import yaml

        folder = self.folder / "plug-in"
        folder.mkdir()
        online = self.repo.config["online_store"] | {"type": "feastrs.feast.RedisOnlineStore"}
        config = self.repo.config | {
            "registry": str(self.repo.registry_path),
            "online_store": online,
        }
        (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
        question = wide(100, 50)
        self.compare(
            f"`feast.FeatureStore`, {question.title}, with `feastrs.feast.RedisOnlineStore`",
            question.to_dict(self.repo.stock()),
            question.to_dict(feast.FeatureStore(repo_path=str(folder))),
            target=8,
        )

    def precomputed(self) -> None:
        """Feast reads one ready-made vector for each entity, which somebody has to write again
        after each materialization; we read the features."""
        say("precomputing vectors")
        applied = apply_views(self.folder / "to-precompute", is_precomputed=True)
        repo = applied.open(self.folder / "precomputed", self.repo.server)
        stock = repo.stock()
        stock.materialize(*WINDOW, feature_views=["wide"])
        stock.precompute_feature_service("wide_service")
        repo.ours().refresh_registry()
        service = stock.get_feature_service("wide_service")
        ours = repo.ours()
        for rows in (1, 10, 100, 1000):
            question = wide(rows, 50)
            features, entity_rows = list(question.features), question.entity_rows
            # Feast finds its vectors under full names alone.
            self.compare(
                f"`to_dict()`, {question.title}, Feast from its precomputed vectors",
                lambda rows=entity_rows: stock.get_online_features(service, rows, True).to_dict(),
                lambda features=features, rows=entity_rows: ours.get_online_features(
                    features, rows, True
                ).to_dict(),
                target=1,
            )


@contextlib.contextmanager
def _tls_server() -> Iterator[tuple[Any, str]]:
    from testbed.redis_server import RedisServer

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "tls-port": str(port),
        "tls-cert-file": str(TLS / "server.pem"),
        "tls-key-file": str(TLS / "server.key"),
        "tls-ca-cert-file": str(TLS / "ca.pem"),
        "tls-auth-clients": "no",
    }
    server = RedisServer("7.0", settings)
    try:
        yield server, f"localhost:{port},ssl=true,ssl_ca_certs={TLS / 'ca.pem'}"
    finally:
        server.close()
