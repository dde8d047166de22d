//! What a node answers instead of a row when the key is elsewhere, or nowhere for the moment.
//! Pure.

use super::super::options::Address;

/// An error reply that does not end a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Redirect {
    /// The slot belongs to another node from now on.
    Moved { slot: u16, to: Address },
    /// The slot is on its way to another node: this key, once, is to be asked for there, after
    /// ASKING.
    Ask { to: Address },
    /// The cluster or the node can't tell now: to be asked again a little later.
    Later,
}

impl Redirect {
    /// Reads an error reply of the node at `asked`; `None` if it is of another kind.
    pub(in super::super) fn parse(text: &[u8], asked: &Address) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split(' ');
        match words.next()? {
            "MOVED" => {
                let slot = words.next()?.parse().ok()?;
                Some(Redirect::Moved { slot, to: address(words.next()?, asked)? })
            }
            "ASK" => {
                words.next()?;
                Some(Redirect::Ask { to: address(words.next()?, asked)? })
            }
            "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" => Some(Redirect::Later),
            _ => None,
        }
    }
}

/// `host:port`, where the host may be an IPv6 address, and empty if the node does not know how
/// it is reached: by the host that was just used.
fn address(text: &str, asked: &Address) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { asked.host()? } else { host };
    Some(Address::Tcp { host: host.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn where_to_and_how() {
        let asked = tcp("here", 7000);
        let moved = |slot, to| Some(Redirect::Moved { slot, to });
        for (text, redirect) in [
            ("MOVED 3999 127.0.0.1:6381", moved(3999, tcp("127.0.0.1", 6381))),
            ("MOVED 0 :6381", moved(0, tcp("here", 6381))),
            ("MOVED 1 fe80::1:6381", moved(1, tcp("fe80::1", 6381))),
            ("MOVED 1 redis-2.example:6381", moved(1, tcp("redis-2.example", 6381))),
            ("ASK 3999 127.0.0.1:6381", Some(Redirect::Ask { to: tcp("127.0.0.1", 6381) })),
            ("TRYAGAIN Multiple keys", Some(Redirect::Later)),
            ("CLUSTERDOWN Hash slot not served", Some(Redirect::Later)),
            ("LOADING Redis is loading", Some(Redirect::Later)),
            ("MASTERDOWN Link with MASTER is down", Some(Redirect::Later)),
            ("MOVED", None),
            ("MOVED x 1:2", None),
            ("MOVED 1 nowhere", None),
            ("MOVED 1 host:99999", None),
            ("WRONGTYPE Operation", None),
        ] {
            assert_eq!(Redirect::parse(text.as_bytes(), &asked), redirect, "{text}");
        }
    }
}
