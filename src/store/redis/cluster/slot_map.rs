//! Which node serves which slot, as CLUSTER SLOTS tells it. Pure.

use super::super::codec::Reply;
use super::super::options::Address;
use super::slot::SLOTS;

/// No node serves the slot.
const NONE: u16 = u16::MAX;

/// A snapshot of a cluster.
#[derive(Clone, Debug)]
pub(in super::super) struct SlotMap {
    shards: Vec<Shard>,
    // For each slot the index of its shard.
    slots: Vec<u16>,
}

/// A master and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Shard {
    pub(in super::super) master: Address,
    pub(in super::super) replicas: Vec<Address>,
}

impl SlotMap {
    /// Reads the answer of the node at `asked` to CLUSTER SLOTS; `None` if it is none.
    pub(in super::super) fn parse(reply: Reply<'_>, asked: &Address) -> Option<Self> {
        reply.array_len()?;
        let mut map = SlotMap { shards: Vec::new(), slots: vec![NONE; usize::from(SLOTS)] };
        for range in reply.elements() {
            let mut elements = range.elements();
            let first = usize::try_from(elements.next()?.integer()?).ok()?;
            let last = usize::try_from(elements.next()?.integer()?).ok()?;
            let master = node(elements.next()?, asked)?;
            let replicas = elements.filter_map(|element| node(element, asked)).collect();
            let index = map.index_of(Shard { master, replicas });
            map.slots.get_mut(first..=last)?.fill(index);
        }
        Some(map)
    }

    fn index_of(&mut self, shard: Shard) -> u16 {
        // A cluster has at most a thousand masters or so, and each comes once for each range.
        let known = self.shards.iter().position(|known| known.master == shard.master);
        let index = known.unwrap_or_else(|| {
            self.shards.push(shard);
            self.shards.len() - 1
        });
        u16::try_from(index).unwrap_or(NONE)
    }

    /// Which of [`shards`](Self::shards) serves `slot`; `None` if nobody does.
    pub(in super::super) fn shard_index(&self, slot: u16) -> Option<usize> {
        self.slots.get(usize::from(slot)).filter(|index| **index != NONE).map(|i| usize::from(*i))
    }

    /// Every shard.
    pub(in super::super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Whether the map has `slot` at the master at `to`.
    pub(in super::super) fn is_at(&self, slot: u16, to: &Address) -> bool {
        let shard = self.shard_index(slot).and_then(|index| self.shards.get(index));
        shard.is_some_and(|shard| shard.master == *to)
    }

    /// The same cluster after `slot` has moved to the master at `to`.
    pub(in super::super) fn with_moved(&self, slot: u16, to: &Address) -> Self {
        let mut map = self.clone();
        let index = map.index_of(Shard { master: to.clone(), replicas: Vec::new() });
        if let Some(entry) = map.slots.get_mut(usize::from(slot)) {
            *entry = index;
        }
        map
    }
}

/// `[host, port, id, …]`. A host that is null or empty is the one that was asked; `?` is
/// unknown to the cluster itself.
fn node(element: Reply<'_>, asked: &Address) -> Option<Address> {
    let mut parts = element.elements();
    let (host, port) = (parts.next()?, parts.next()?.integer()?);
    let host = match host.text().map(std::str::from_utf8) {
        None if host.is_nil() => asked.host()?,
        Some(Ok("")) => asked.host()?,
        None | Some(Err(_) | Ok("?")) => return None,
        Some(Ok(host)) => host,
    };
    Some(Address::Tcp { host: host.to_owned(), port: u16::try_from(port).ok()? })
}

#[cfg(test)]
mod tests {
    use super::super::super::codec::ReplyParser;
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    fn parse(reply: &str) -> Option<SlotMap> {
        let mut parser = ReplyParser::default();
        assert_eq!(parser.advance(reply.as_bytes()), Ok(Some(reply.len())));
        SlotMap::parse(parser.reply(reply.as_bytes()), &tcp("asked", 1))
    }

    impl SlotMap {
        fn shard(&self, slot: u16) -> Option<&Shard> {
            self.shard_index(slot).and_then(|index| self.shards.get(index))
        }
    }

    const NODE: &str = "*3\r\n$1\r\na\r\n:7000\r\n$2\r\nid\r\n";

    #[test]
    fn ranges_masters_and_replicas() {
        // As Redis 6.2 and 7.0 answer: the latter with metadata behind the id.
        let replica = "*4\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nx\r\n";
        let other = "*4\r\n$-1\r\n:7002\r\n$2\r\nid\r\n*0\r\n";
        let lost = "*3\r\n$1\r\n?\r\n:7003\r\n$2\r\nid\r\n";
        let map = parse(&format!(
            "*3\r\n*4\r\n:0\r\n:5460\r\n{NODE}{replica}*4\r\n:5461\r\n:5461\r\n{other}{lost}\
             *4\r\n:16000\r\n:16383\r\n{NODE}{replica}"
        ))
        .unwrap();

        let first = Shard { master: tcp("a", 7000), replicas: vec![tcp("asked", 7001)] };
        assert_eq!(map.shard(0), Some(&first));
        assert_eq!(map.shard(5460), Some(&first));
        let second = Shard { master: tcp("asked", 7002), replicas: Vec::new() };
        assert_eq!(map.shard(5461), Some(&second));
        assert_eq!(map.shard(5462), None);
        assert_eq!(map.shard(16_383), Some(&first));
        assert_eq!(map.shards().len(), 2);
    }

    #[test]
    fn a_slot_that_moved() {
        let map = parse(&format!("*1\r\n*3\r\n:0\r\n:16383\r\n{NODE}")).unwrap();

        let moved = map.with_moved(7, &tcp("b", 1)).with_moved(8, &tcp("a", 7000));

        assert_eq!(moved.shard(7).unwrap().master, tcp("b", 1));
        assert_eq!(moved.shard(8).unwrap().master, tcp("a", 7000));
        assert_eq!(moved.shards().len(), 2);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for reply in [
            "+OK\r\n".to_owned(),
            "*1\r\n:1\r\n".to_owned(),
            format!("*1\r\n*3\r\n:0\r\n:16384\r\n{NODE}"),
            format!("*1\r\n*3\r\n:9\r\n:7\r\n{NODE}"),
            format!("*1\r\n*3\r\n:-1\r\n:7\r\n{NODE}"),
            "*1\r\n*2\r\n:0\r\n:1\r\n".to_owned(),
            "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n:1\r\n:70000\r\n".to_owned(),
        ] {
            assert!(parse(&reply).is_none(), "{reply}");
        }
    }
}
