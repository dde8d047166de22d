//! What a master says of its own slots, as CLUSTER NODES tells it: those it has, and those that
//! are on their way, which CLUSTER SLOTS keeps silent about.

use super::super::connection::Connection;
use super::super::options::Address;
use super::super::refusal;
use crate::call::Call;
use crate::error::Result;

const COMMAND: &str = "CLUSTER NODES";

/// The slots of one master.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OwnSlots {
    // Ranges, in the node's own words.
    served: Vec<String>,
    is_exporting: bool,
    is_importing: bool,
    newcomers: Vec<Address>,
}

impl OwnSlots {
    /// Asks a node. Of one that must not tell, everything is taken to be on its way.
    pub(super) fn ask(connection: &mut Connection, call: &Call<'_>) -> Result<Self> {
        connection.set_doing(COMMAND);
        connection.commands().command(&[b"CLUSTER", b"NODES"]);
        connection.send(call)?;
        let node = connection.node().clone();
        let reply = connection.receive(call)?;
        match reply.error() {
            Some(text) if refusal::is_command_withheld(text) => {
                Ok(OwnSlots { is_exporting: true, is_importing: true, ..OwnSlots::default() })
            }
            Some(text) => Err(refusal::refused(&node, COMMAND, text)),
            None => Ok(Self::parse(&String::from_utf8_lossy(reply.text().unwrap_or_default()))),
        }
    }

    fn parse(text: &str) -> Self {
        let nodes: Vec<Node<'_>> = text.lines().filter_map(Node::parse).collect();
        let mut own = OwnSlots::default();
        let Some(myself) = nodes.iter().find(|node| node.is_myself) else { return own };
        for slots in &myself.slots {
            if let Some((_, target)) = slots.split_once("->-") {
                own.is_exporting = true;
                let target = nodes.iter().find(|node| target.strip_suffix(']') == Some(node.id));
                let newcomer = target.filter(|node| !node.has_slots());
                own.newcomers.extend(newcomer.and_then(Node::address));
            } else if slots.contains("-<-") {
                own.is_importing = true;
            } else {
                own.served.push((*slots).to_owned());
            }
        }
        own
    }

    /// Whether `other` has the same slots for good.
    pub(super) fn has_same(&self, other: &OwnSlots) -> bool {
        self.served == other.served
    }

    /// Whether slots are on their way from or to the node.
    pub(super) fn is_moving(&self) -> bool {
        self.is_exporting || self.is_importing
    }

    /// Whether slots are on their way to the node.
    pub(super) fn is_importing(&self) -> bool {
        self.is_importing
    }

    /// Masters that have no slot yet, with slots on their way to them from here.
    pub(super) fn newcomers(&self) -> &[Address] {
        &self.newcomers
    }
}

/// A line: `id address flags master ping pong epoch link slot…`.
struct Node<'t> {
    id: &'t str,
    address: &'t str,
    is_myself: bool,
    slots: Vec<&'t str>,
}

impl<'t> Node<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
        let is_myself = flags.split(',').any(|flag| flag == "myself");
        Some(Node { id, address, is_myself, slots: words.skip(5).collect() })
    }

    fn has_slots(&self) -> bool {
        self.slots.iter().any(|slots| !slots.starts_with('['))
    }

    /// `host:port@bus-port,host-name`; without a host where the cluster does not know it.
    fn address(&self) -> Option<Address> {
        let (host, port) = self.address.split(['@', ',']).next()?.rsplit_once(':')?;
        let port = port.parse().ok()?;
        (!host.is_empty()).then(|| Address::Tcp { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        a1 10.0.0.1:7000@17000,a.example myself,master - 0 0 1 connected 0-99 101 [100->-c3] [7-<-b2]\n\
        b2 10.0.0.2:7000@17000 master - 0 0 2 connected 200-299\n\
        c3 ::1:7001@17001 master - 0 0 3 connected\n";

    #[test]
    fn what_is_on_its_way_and_who_gets_it() {
        let own = OwnSlots::parse(TEXT);

        assert_eq!(own.served, ["0-99", "101"]);
        assert!(own.is_exporting && own.is_importing && own.is_moving());
        assert_eq!(own.newcomers, [Address::Tcp { host: "::1".to_owned(), port: 7001 }]);
        let quiet = OwnSlots::parse(&TEXT.replace(" [100->-c3] [7-<-b2]", ""));
        assert!(!quiet.is_moving() && quiet.has_same(&own) && quiet.newcomers().is_empty());
        assert!(!OwnSlots::parse("no node").has_same(&own));
    }
}
