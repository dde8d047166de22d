"""Redis as it is run in production: a cluster with replicas, and a master that sentinels watch
over. Timeouts are short, so that failovers pass quickly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from testbed.redis_server import RedisServer

SLOTS = 16384


def eventually(what: str, is_so: Callable[[], Any], seconds: float = 30) -> None:
    """Polls until `is_so`; connections that are refused meanwhile are part of the game."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


class RedisCluster:
    """Three masters and three replicas; the masters come first in `nodes`."""

    MASTERS = 3

    def __init__(self) -> None:
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": "800",
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            # Replicas are told of once they have heard something.
            "repl-ping-replica-period": "1",
            "databases": "1",
        }
        self.nodes = [RedisServer("7.0", settings) for _ in range(2 * self.MASTERS)]
        self.ids = [self._run(node, "CLUSTER", "MYID").decode() for node in self.nodes]
        for index, master in enumerate(self.nodes[: self.MASTERS]):
            slots = range(index * SLOTS // self.MASTERS, (index + 1) * SLOTS // self.MASTERS)
            self._run(master, "CLUSTER", "ADDSLOTS", *slots)
            self._run(master, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in self.nodes[1:]:
            self._run(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port)
        for index, replica in enumerate(self.nodes[self.MASTERS :]):
            eventually("a replica knows its master", partial(self._replicate, replica, index))
        for node in self.nodes:
            eventually("the cluster is whole", partial(self._is_whole, node))
        for replica in self.nodes[self.MASTERS :]:
            eventually("a replica is in step", partial(self._is_in_step, replica))

    @staticmethod
    def _run(node: RedisServer, *command: Any) -> Any:
        with node.client() as client:
            return client.execute_command(*command)

    def _replicate(self, replica: RedisServer, master: int) -> bool:
        self._run(replica, "CLUSTER", "REPLICATE", self.ids[master])
        return True

    def _is_whole(self, node: RedisServer) -> bool:
        with node.client() as client:
            info, shards = client.cluster("info"), client.cluster("slots")
        # First slot, last slot, the master, and a replica.
        told = [len(shard) for shard in shards]
        return info["cluster_state"] == "ok" and told == [4] * self.MASTERS

    def _is_in_step(self, replica: RedisServer) -> bool:
        with replica.client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    @property
    def connection_string(self) -> str:
        """Feast's form, with two of the nodes."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def masters_keys(self, master: int) -> list[bytes]:
        """The keys on one master."""
        with self.nodes[master].client() as client:
            return list(client.scan_iter(count=1000))

    def hashes(self) -> dict[bytes, dict[bytes, bytes]]:
        """Every hash of the cluster."""
        found = {}
        for index in range(self.MASTERS):
            keys = self.masters_keys(index)
            with self.nodes[index].client() as client:
                found |= {key: client.hgetall(key) for key in keys}
        return found

    def flush(self) -> None:
        """Removes every key."""
        for master in self.nodes[: self.MASTERS]:
            self._run(master, "FLUSHALL")

    def move_slot(self, key: bytes, source: int, target: int, pause: Callable[[], None]) -> None:
        """Moves the slot of `key`; `pause` is called between the steps."""
        slot = self._run(self.nodes[source], "CLUSTER", "KEYSLOT", key)
        setslot = ("CLUSTER", "SETSLOT", slot)
        self._run(self.nodes[target], *setslot, "IMPORTING", self.ids[source])
        self._run(self.nodes[source], *setslot, "MIGRATING", self.ids[target])
        pause()
        for moving in self._run(self.nodes[source], "CLUSTER", "GETKEYSINSLOT", slot, 10_000):
            port = self.nodes[target].port
            self._run(self.nodes[source], "MIGRATE", "127.0.0.1", port, moving, 0, 5000)
            pause()
        order = [target, *(i for i in range(self.MASTERS) if i != target)]
        for index in order:
            self._run(self.nodes[index], *setslot, "NODE", self.ids[target])
            pause()

    def close(self) -> None:
        """Ends every node."""
        for node in self.nodes:
            node.close()


class Watched:
    """A master, a replica, and three sentinels that know the master as `primary`."""

    def __init__(self) -> None:
        settings = {"repl-diskless-sync-delay": "0"}
        self.servers = [RedisServer("7.0", settings) for _ in range(2)]
        with self.servers[1].client() as client:
            client.replicaof("127.0.0.1", self.servers[0].port)
        eventually("the replica is in step", self._is_in_step)
        self.sentinels = [RedisServer("7.0", sentinel_of=self.servers[0].port) for _ in range(3)]
        for sentinel in self.sentinels:
            eventually("the sentinels know each other", partial(self._knows_all, sentinel))

    def _is_in_step(self) -> bool:
        with self.servers[1].client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    @staticmethod
    def _knows_all(sentinel: RedisServer) -> bool:
        with sentinel.client() as client:
            state = client.sentinel_master("primary")
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)

    @property
    def connection_string(self) -> str:
        """Feast's form: the sentinels."""
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    def close(self) -> None:
        """Ends everybody."""
        for server in [*self.sentinels, *self.servers]:
            server.close()


def kill(server: RedisServer) -> None:
    """Ends a server as a crash would."""
    os.kill(server.pid, signal.SIGKILL)
