//! A real Redis Cluster for one test, and sentinels with a master and its replicas: made of
//! servers on free ports, with timeouts so short that failures pass quickly.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use feastrs::config::{RedisConfig, RedisType};
use feastrs::store::StoredView;

use crate::redis_server::{Client, RedisServer, Reply, config};

const NODE_TIMEOUT_MS: &str = "800";
const SLOTS: u32 = 16_384;

/// Waits until `is_so`, but not for ever.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running cluster: the masters first, then the replicas.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    ids: Vec<String>,
    masters: usize,
    clients: RefCell<HashMap<u16, Client>>,
}

impl RedisCluster {
    /// Masters that share the slots evenly, each with `replicas` replicas.
    pub fn start(masters: usize, replicas: usize) -> Self {
        Self::start_with(masters, replicas, &[])
    }

    /// One master that loads scripts and then knows none: what it answers to SCRIPT LOAD is the
    /// name of a script that it was never told.
    pub fn start_forgetful() -> Self {
        let renamed = ["--rename-command", "SCRIPT", "OLDSCRIPT"];
        let instead = ["--rename-command", "HGET", "SCRIPT"];
        let cluster = Self::start_with(1, 0, &[renamed, instead].concat());
        let script = include_bytes!("../../src/store/redis/compare_and_write.lua");
        cluster.call(&[b"HSET", b"LOAD", script, &[b'f'; 40]]).integer();
        cluster
    }

    fn start_with(masters: usize, replicas: usize, further: &[&str]) -> Self {
        let count = masters * (1 + replicas);
        let nodes: Vec<RedisServer> = (0..count)
            .map(|_| {
                let arguments = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-config-file",
                    "nodes.conf",
                    "--cluster-node-timeout",
                    NODE_TIMEOUT_MS,
                    "--cluster-replica-validity-factor",
                    "0",
                    "--repl-diskless-sync-delay",
                    "0",
                    // Replicas are told of once they have heard something.
                    "--repl-ping-replica-period",
                    "1",
                ];
                RedisServer::start_with(&[&arguments[..], further].concat(), None)
            })
            .collect();
        let ids = nodes.iter().map(|node| node.call(&[b"CLUSTER", b"MYID"]).text()).collect();
        let cluster = RedisCluster { nodes, ids, masters, clients: RefCell::default() };
        cluster.assign_slots();
        cluster.meet();
        for replica in masters..count {
            let master = cluster.ids[replica % masters].as_bytes();
            eventually("a replica knows its master", || {
                cluster.nodes[replica].call(&[b"CLUSTER", b"REPLICATE", master]).text() == "OK"
            });
        }
        for node in &cluster.nodes {
            eventually("the cluster is whole", || {
                let info = node.call(&[b"CLUSTER", b"INFO"]).text();
                let Reply::Array(shards) = node.call(&[b"CLUSTER", b"SLOTS"]) else { return false };
                let is_whole = |shard: &Reply| matches!(shard, Reply::Array(parts) if parts.len() == 3 + replicas);
                info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_ok:16384")
                    && shards.len() == masters
                    && shards.iter().all(is_whole)
            });
        }
        for replica in &cluster.nodes[masters..] {
            eventually("a replica is in step", || {
                let info = replica.call(&[b"INFO", b"replication"]).text();
                info.contains("master_link_status:up")
            });
        }
        cluster
    }

    fn assign_slots(&self) {
        for master in 0..self.masters {
            let (first, last) = (self.first_slot(master), self.first_slot(master + 1));
            let mut command = vec![b"CLUSTER".to_vec(), b"ADDSLOTS".to_vec()];
            command.extend((first..last).map(|slot| slot.to_string().into_bytes()));
            let command: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            assert_eq!(self.nodes[master].call(&command).text(), "OK");
            let epoch = (master + 1).to_string();
            self.nodes[master].call(&[b"CLUSTER", b"SET-CONFIG-EPOCH", epoch.as_bytes()]);
        }
    }

    fn first_slot(&self, master: usize) -> u32 {
        SLOTS * master as u32 / self.masters as u32
    }

    fn meet(&self) {
        for node in &self.nodes[1..] {
            let port = node.port.to_string();
            self.nodes[0].call(&[b"CLUSTER", b"MEET", b"127.0.0.1", port.as_bytes()]);
        }
        for node in &self.nodes {
            eventually("the nodes know each other", || {
                let known = node.call(&[b"CLUSTER", b"NODES"]).text();
                known.lines().count() == self.nodes.len() && !known.contains("handshake")
            });
        }
    }

    /// Settings of a store on this cluster, which is told of one of its nodes.
    pub fn config(&self) -> RedisConfig {
        self.config_with("")
    }

    /// The same with further parameters in the connection string.
    pub fn config_with(&self, parameters: &str) -> RedisConfig {
        let last = self.nodes.last().expect("a node").connection_string();
        RedisConfig { redis_type: RedisType::Cluster, ..config(&format!("{last}{parameters}")) }
    }

    /// Runs a command on the node that has the key, which is its second argument.
    pub fn call(&self, arguments: &[&[u8]]) -> Reply {
        let mut port = self.nodes[0].port;
        for _ in 0..9 {
            let mut clients = self.clients.borrow_mut();
            let client = clients.entry(port).or_insert_with(|| Client::new(port));
            match client.call(arguments) {
                Reply::Text(text) if text.starts_with("MOVED") => {
                    port = text.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
                }
                reply => return reply,
            }
        }
        panic!("sent in circles");
    }

    /// Writes `value` into every feature of the view for each key, at `seconds`.
    pub fn write(
        &self,
        view: &StoredView,
        keys: &[String],
        seconds: u8,
        value: impl Fn(&str) -> Vec<u8>,
    ) {
        // A serialized Timestamp, of less than 128 seconds.
        let timestamp = [8, seconds];
        for key in keys {
            let (stored, value) = (format!("{key}proj"), value(key));
            let mut command: Vec<&[u8]> = vec![b"HSET", stored.as_bytes()];
            command.extend([&view.timestamp_field[..], &timestamp[..]]);
            for feature in &view.features {
                command.extend([&feature.field[..], &value[..]]);
            }
            self.call(&command).integer();
        }
    }

    /// The index of the master that serves `slot`, as the first node that lives sees it.
    pub fn slot_of(&self, key: &str) -> u32 {
        let key = format!("{key}proj");
        self.nodes[0].call(&[b"CLUSTER", b"KEYSLOT", key.as_bytes()]).integer() as u32
    }

    /// Says that `slot` is on its way from one master to another: its keys may be at either.
    pub fn begin_move(&self, slot: u32, from: usize, to: usize) {
        let slot = slot.to_string();
        let set = |node: usize, state: &[u8], other: usize| {
            let other = self.ids[other].as_bytes();
            let reply =
                self.nodes[node].call(&[b"CLUSTER", b"SETSLOT", slot.as_bytes(), state, other]);
            assert_eq!(reply.text(), "OK");
        };
        set(to, b"IMPORTING", from);
        set(from, b"MIGRATING", to);
    }

    /// The same, but the other master is not told.
    pub fn begin_move_one_sided(&self, slot: u32, from: usize, to: usize) {
        let (slot, other) = (slot.to_string(), self.ids[to].as_bytes());
        let command: [&[u8]; 5] = [b"CLUSTER", b"SETSLOT", slot.as_bytes(), b"MIGRATING", other];
        assert_eq!(self.nodes[from].call(&command).text(), "OK");
    }

    /// Moves up to `count` keys of the slot; how many there were.
    pub fn move_keys(&self, slot: u32, from: usize, to: usize, count: usize) -> usize {
        let (slot, count) = (slot.to_string(), count.to_string());
        let found = self.nodes[from].call(&[
            b"CLUSTER",
            b"GETKEYSINSLOT",
            slot.as_bytes(),
            count.as_bytes(),
        ]);
        let Reply::Array(keys) = found else { panic!("no keys: {found:?}") };
        let port = self.nodes[to].port.to_string();
        for key in &keys {
            let Reply::Bytes(key) = key else { panic!("no key: {key:?}") };
            let command: [&[u8]; 6] =
                [b"MIGRATE", b"127.0.0.1", port.as_bytes(), key, b"0", b"5000"];
            // One that was deleted meanwhile is no key any more.
            let moved = self.nodes[from].call(&command).text();
            assert!(moved == "OK" || moved == "NOKEY", "{moved}");
        }
        keys.len()
    }

    /// Makes a replica a master that has no slots yet.
    pub fn make_newcomer(&self, replica: usize) {
        let port = self.nodes[replica].port.to_string();
        self.nodes[replica].call(&[b"CLUSTER", b"RESET", b"SOFT"]);
        self.nodes[0].call(&[b"CLUSTER", b"MEET", b"127.0.0.1", port.as_bytes()]);
        for node in &self.nodes {
            eventually("all know it as a master", || {
                let info = node.call(&[b"CLUSTER", b"INFO"]).text();
                let known = node.call(&[b"CLUSTER", b"NODES"]).text();
                let line = known.lines().find(|line| line.starts_with(&self.ids[replica]));
                info.contains("cluster_state:ok")
                    && known.lines().count() == self.nodes.len()
                    && line
                        .is_some_and(|line| line.contains("master") && line.contains("connected"))
            });
        }
    }

    /// Gives the slot to its new master for good.
    pub fn end_move(&self, slot: u32, to: usize) {
        let (slot, id) = (slot.to_string(), self.ids[to].as_bytes());
        for master in [to].into_iter().chain((0..self.masters).filter(|master| *master != to)) {
            self.nodes[master].call(&[b"CLUSTER", b"SETSLOT", slot.as_bytes(), b"NODE", id]);
        }
    }

    /// Waits until all nodes tell the same of all, and that the slot is with `owner`. A slot that
    /// moves on before may end up with nobody: two masters that take one each, unaware of each
    /// other, claim the same epoch.
    pub fn agree(&self, slot: u32, owner: usize) {
        eventually("the nodes agree", || {
            let told = |node: &RedisServer| {
                let nodes = node.call(&[b"CLUSTER", b"NODES"]).text();
                let mut told: Vec<(String, String, Vec<String>)> = nodes
                    .lines()
                    .map(|line| {
                        let words: Vec<&str> = line.split(' ').collect();
                        let slots = words[8..].iter().filter(|slots| !slots.starts_with('['));
                        (words[0].into(), words[6].into(), slots.map(|s| s.to_string()).collect())
                    })
                    .collect();
                told.sort();
                told
            };
            let first = told(&self.nodes[0]);
            let epochs: HashSet<&String> = first.iter().map(|(_, epoch, _)| epoch).collect();
            let has = |range: &String| {
                let (start, end) = range.split_once('-').unwrap_or((range, range));
                (start.parse().unwrap()..=end.parse().unwrap()).contains(&slot)
            };
            let mut lines = first.iter();
            lines.any(|(id, _, slots)| *id == self.ids[owner] && slots.iter().any(has))
                && epochs.len() == self.nodes.len()
                && self.nodes.iter().all(|node| told(node) == first)
        });
    }

    /// The master that serves `slot` at first.
    pub fn home_of(&self, slot: u32) -> usize {
        (0..self.masters).find(|master| slot < self.first_slot(master + 1)).expect("a slot")
    }
}

/// A master, its replicas, and sentinels that watch over them under the name `primary`.
pub struct Watched {
    pub servers: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
}

impl Watched {
    /// One master with a replica, and three sentinels, who want `password` if it is not empty.
    pub fn start(password: &str) -> Self {
        let servers: Vec<RedisServer> = (0..2)
            .map(|_| RedisServer::start_with(&["--repl-diskless-sync-delay", "0"], None))
            .collect();
        let port = servers[0].port.to_string();
        servers[1].call(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]);
        eventually("the replica is in step", || {
            servers[1].call(&[b"INFO", b"replication"]).text().contains("master_link_status:up")
        });
        let sentinels = (0..3).map(|_| RedisServer::start_sentinel(&port, password)).collect();
        let watched = Watched { servers, sentinels };
        for sentinel in &watched.sentinels {
            eventually("the sentinels know each other and the replica", || {
                let shown = format!("{:?}", sentinel.call(&[b"SENTINEL", b"MASTERS"]));
                let told = |name: &str, number: &str| {
                    let bytes = |text: &str| format!("{:?}", text.as_bytes());
                    shown.contains(&format!("Bytes({}), Bytes({})", bytes(name), bytes(number)))
                };
                told("num-other-sentinels", "2") && told("num-slaves", "1")
            });
        }
        watched
    }

    /// Settings of a store on this master, found by its sentinels.
    pub fn config_with(&self, parameters: &str) -> RedisConfig {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        RedisConfig {
            redis_type: RedisType::Sentinel,
            sentinel_master: "primary".to_owned(),
            ..config(&format!("{}{parameters}", hosts.join(",")))
        }
    }
}
