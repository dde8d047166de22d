//! The master that sentinels watch over: asked for when it is first needed, and again when a
//! connection to it was lost or it turned out to be a replica.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConfig;

use super::codec::Reply;
use super::handshake::Purpose;
use super::options::{Address, Options};
use super::pool::Pool;
use super::refusal;
use super::tls;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::ProcessLocal;
use crate::runtime;
use crate::store::ConnectionCount;

/// The sentinels of one master.
pub(super) struct Sentinels {
    master_name: String,
    options: Arc<Options>,
    tls: Option<Arc<ClientConfig>>,
    sentinels: Vec<Pool>,
    current: ProcessLocal<Mutex<Current>>,
}

#[derive(Default)]
struct Current {
    master: Option<Arc<Pool>>,
    // The sentinel that answered last is asked first.
    first_asked: usize,
}

impl Sentinels {
    /// The sentinels at the nodes of `options`; `tls` is for the master's connections.
    pub(super) fn new(
        master_name: &str,
        options: Arc<Options>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self> {
        let own = match &options.sentinels {
            Some(own) => Arc::new(own.as_ref().clone()),
            None => options.clone(),
        };
        let own_tls = own.tls.as_ref().map(tls::client_config).transpose()?;
        let pool = |address: &Address| {
            Pool::new(address.clone(), own.clone(), own_tls.clone(), Purpose::Sentinel)
        };
        Ok(Sentinels {
            master_name: master_name.to_owned(),
            sentinels: own.nodes.iter().map(pool).collect(),
            options,
            tls,
            current: ProcessLocal::new(),
        })
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The connections to the master.
    pub(super) fn master(&self, call: &Call<'_>) -> Result<Arc<Pool>> {
        if let Some(master) = &self.current().master {
            return Ok(master.clone());
        }
        self.current_master(call)
    }

    /// The same, though a master be known: as the sentinels tell it now.
    pub(super) fn current_master(&self, call: &Call<'_>) -> Result<Arc<Pool>> {
        // Not under the lock: whoever else comes meanwhile asks for himself.
        let address = self.ask(call)?;
        let mut current = self.current();
        if let Some(master) = &current.master
            && *master.address() == address
        {
            return Ok(master.clone());
        }
        let (options, tls) = (self.options.clone(), self.tls.clone());
        let master = Arc::new(Pool::new(address, options, tls, Purpose::Master));
        current.master = Some(master.clone());
        Ok(master)
    }

    /// The same, awaited.
    pub(super) async fn master_async(&self) -> Result<Arc<Pool>> {
        let known = self.current().master.clone();
        match known {
            Some(master) => Ok(master),
            // Rare, and short where the sentinels answer: it may block a thread.
            None => runtime::block(|| self.master(&Call::unlimited())).await?,
        }
    }

    /// How many connections are open, those to sentinels among them.
    pub(super) fn connections(&self) -> ConnectionCount {
        let master = self.current().master.clone();
        let sentinels = self.sentinels.iter().map(Pool::connections);
        master.iter().map(|master| master.connections()).chain(sentinels).sum()
    }

    /// Closes all connections that nobody uses at the moment.
    pub(super) fn close(&self) {
        let master = self.current().master.take();
        master.iter().for_each(|master| master.close());
        self.sentinels.iter().for_each(Pool::close);
    }

    /// The sentinels are asked again before the master is next used.
    pub(super) fn doubt(&self, master: &Arc<Pool>) {
        let mut current = self.current();
        if current.master.as_ref().is_some_and(|known| Arc::ptr_eq(known, master)) {
            current.master = None;
        }
    }

    /// Asks each sentinel until one knows.
    fn ask(&self, call: &Call<'_>) -> Result<Address> {
        let (count, first) = (self.sentinels.len(), self.current().first_asked);
        let mut failure = None;
        for index in (0..count).map(|offset| (first + offset) % count) {
            let Some(sentinel) = self.sentinels.get(index) else { continue };
            match self.ask_one(sentinel, call) {
                Ok(address) => {
                    self.current().first_asked = index;
                    return Ok(address);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => failure = Some(error),
            }
            call.check()?;
        }
        let names: Vec<&str> = self.sentinels.iter().map(|pool| pool.node().as_ref()).collect();
        let what = format!(
            "no sentinel tells the master '{}' (sentinel_master); asked were {}",
            self.master_name,
            names.join(", ")
        );
        Err(match failure {
            Some(error) => error.context(what),
            None => Error::new(ErrorKind::StoreUnavailable, what),
        })
    }

    fn ask_one(&self, sentinel: &Pool, call: &Call<'_>) -> Result<Address> {
        const COMMAND: &str = "SENTINEL GET-MASTER-ADDR-BY-NAME";
        let mut lease = sentinel.take(call)?;
        let connection = &mut lease.connection;
        connection.set_doing(COMMAND);
        let name = self.master_name.as_bytes();
        connection.commands().command(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name]);
        connection.send(call)?;
        let reply = connection.receive(call)?;
        if let Some(text) = reply.error() {
            return Err(refusal::refused(sentinel.node(), COMMAND, text));
        }
        let is_unknown = reply.is_nil();
        let text = |part: Option<Reply<'_>>| {
            part.and_then(|part| part.text()).and_then(|text| String::from_utf8(text.into()).ok())
        };
        let (host, port) = (text(reply.elements().next()), text(reply.elements().nth(1)));
        lease.give_back();
        let port = port.and_then(|port| port.parse().ok());
        match (host, port) {
            (Some(host), Some(port)) => {
                let host = self.options.force_master_ip.clone().unwrap_or(host);
                Ok(Address::Tcp { host, port })
            }
            _ if is_unknown => Err(Error::new(
                ErrorKind::StoreRefused,
                format!("{} knows no master of that name", sentinel.node()),
            )),
            _ => Err(Error::new(
                ErrorKind::StoreInvalid,
                format!("{} answered {COMMAND} with no address", sentinel.node()),
            )),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}
