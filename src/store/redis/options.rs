//! Feast's connection string, `host:port,name=value,…`, with the names of redis-py's
//! parameters. Must not know sockets. What it holds is never printed: it may hold a password.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

const DEFAULT_PORT: u16 = 6379;
/// redis-py waits for ever unless told otherwise; a caller of ours never does.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_MAX_IDLE: usize = 64;

const SUPPORTED: &str = "db, username, password, ssl, ssl_ca_certs, ssl_ca_path, ssl_certfile, \
     ssl_keyfile, ssl_cert_reqs, ssl_check_hostname, socket_timeout, socket_connect_timeout, \
     socket_keepalive, unix_socket_path, client_name, max_connections, health_check_interval, \
     retry_on_timeout, protocol";

/// How to reach a Redis server, and as whom.
pub(super) struct Options {
    pub(super) address: Address,
    pub(super) database: u32,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    /// `None`: no TLS.
    pub(super) tls: Option<TlsOptions>,
    pub(super) connect_timeout: Duration,
    /// How long to wait for bytes of a reply, or for room to send.
    pub(super) io_timeout: Duration,
    pub(super) client_name: Option<String>,
    /// How many connections are kept for reuse.
    pub(super) max_idle: usize,
    /// A connection that was idle for longer is not used again.
    pub(super) max_idle_time: Option<Duration>,
    /// Whether a read that got no answer in time is tried once more.
    pub(super) retry_on_timeout: bool,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verification {
    /// Signed by an authority that is trusted, and made for this host.
    Full,
    /// Signed by an authority that is trusted.
    AuthorityOnly,
    /// Nothing: any server is believed.
    None,
}

/// TLS, with redis-py's `ssl_…` parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsOptions {
    pub(super) verification: Verification,
    pub(super) ca_certs: Option<PathBuf>,
    pub(super) ca_path: Option<PathBuf>,
    /// The client's own certificate and key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl Address {
    /// The address as messages show it.
    pub(super) fn node(&self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => path.display().to_string(),
        }
    }
}

#[derive(Default)]
struct TlsFields {
    enabled: bool,
    check_hostname: Option<bool>,
    cert_reqs: Option<String>,
    ca_certs: Option<PathBuf>,
    ca_path: Option<PathBuf>,
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
}

impl Options {
    /// Parses a connection string. Values are read as JSON where they are JSON, else as text,
    /// as Feast reads them (`feast/infra/online_stores/redis.py::_parse_connection_string`).
    pub(super) fn parse(connection_string: &Secret) -> Result<Self> {
        let parts = || connection_string.reveal().split(',').map(str::trim);
        let node = parts().find(|part| !part.contains('='));
        let mut options = Options::unset();
        let (mut tls, mut connect_timeout) = (TlsFields::default(), None);
        for part in parts() {
            let Some((name, text)) = part.split_once('=') else { continue };
            let parameter = Parameter { name, text, json: serde_json::from_str(text).ok() };
            if parameter.json == Some(Json::Null) {
                continue;
            }
            if !options.set(&parameter, &mut connect_timeout)? && !tls.set(&parameter)? {
                return Err(invalid(format!(
                    "connection_string has the parameter '{name}', which is not supported; \
                     supported are {SUPPORTED}"
                )));
            }
        }
        if !matches!(options.address, Address::Unix(_)) {
            options.address = parse_node(node.unwrap_or_default())?;
        }
        options.connect_timeout = connect_timeout.unwrap_or(options.io_timeout);
        options.tls = tls.finish()?;
        Ok(options)
    }

    fn unset() -> Self {
        Options {
            address: Address::Tcp { host: String::new(), port: DEFAULT_PORT },
            database: 0,
            username: None,
            password: None,
            tls: None,
            connect_timeout: DEFAULT_TIMEOUT,
            io_timeout: DEFAULT_TIMEOUT,
            client_name: None,
            max_idle: DEFAULT_MAX_IDLE,
            max_idle_time: None,
            retry_on_timeout: false,
        }
    }

    /// Whether the parameter is one of these. A long flat table: one line for each name.
    fn set(
        &mut self,
        parameter: &Parameter<'_>,
        connect_timeout: &mut Option<Duration>,
    ) -> Result<bool> {
        match parameter.name {
            "db" => self.database = parameter.number()?,
            "username" => self.username = Some(parameter.string()),
            "password" => self.password = Some(Secret::new(parameter.string())),
            "socket_timeout" => self.io_timeout = parameter.seconds()?,
            "socket_connect_timeout" => *connect_timeout = Some(parameter.seconds()?),
            "unix_socket_path" => self.address = Address::Unix(parameter.string().into()),
            "client_name" => self.client_name = Some(parameter.string()),
            "max_connections" => self.max_idle = parameter.number::<u32>()?.max(1) as usize,
            "health_check_interval" => {
                let seconds: u32 = parameter.number()?;
                self.max_idle_time = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
            }
            "retry_on_timeout" => self.retry_on_timeout = parameter.boolean()?,
            // Known to redis-py, without a counterpart here: a peer that is gone is noticed by
            // the timeouts, and what comes back is bytes in either protocol.
            "socket_keepalive" => drop(parameter.boolean()?),
            "protocol" => drop(parameter.number::<u8>()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl TlsFields {
    fn set(&mut self, parameter: &Parameter<'_>) -> Result<bool> {
        match parameter.name {
            "ssl" => self.enabled = parameter.boolean()?,
            "ssl_check_hostname" => self.check_hostname = Some(parameter.boolean()?),
            "ssl_cert_reqs" => self.cert_reqs = Some(parameter.string()),
            "ssl_ca_certs" => self.ca_certs = Some(parameter.string().into()),
            "ssl_ca_path" => self.ca_path = Some(parameter.string().into()),
            "ssl_certfile" => self.certfile = Some(parameter.string().into()),
            "ssl_keyfile" => self.keyfile = Some(parameter.string().into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(self) -> Result<Option<TlsOptions>> {
        let verification = match self.cert_reqs.as_deref().unwrap_or("required") {
            "none" => Verification::None,
            "optional" | "required" if self.check_hostname == Some(false) => {
                Verification::AuthorityOnly
            }
            // A server always shows a certificate, so "optional" asks as much as "required".
            "optional" | "required" => Verification::Full,
            other => {
                return Err(invalid(format!(
                    "connection_string has ssl_cert_reqs='{other}'; use none, optional or required"
                )));
            }
        };
        let identity = match (self.certfile, self.keyfile) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            // One file may hold both, as for Python's ssl module.
            (Some(both), None) => Some((both.clone(), both)),
            (None, Some(_)) => {
                return Err(invalid("connection_string has ssl_keyfile without ssl_certfile"));
            }
            (None, None) => None,
        };
        let options =
            TlsOptions { verification, ca_certs: self.ca_certs, ca_path: self.ca_path, identity };
        Ok(self.enabled.then_some(options))
    }
}

fn parse_node(node: &str) -> Result<Address> {
    let (host, port) = match node.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse().map_err(|_| {
                invalid(format!(
                    "connection_string has the port '{port}', which is no number up to 65535"
                ))
            })?;
            (host, port)
        }
        None => (node, DEFAULT_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(invalid(
            "connection_string names no host; write it as host:port,parameter=value,…",
        ));
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

struct Parameter<'a> {
    name: &'a str,
    text: &'a str,
    json: Option<Json>,
}

impl Parameter<'_> {
    fn string(&self) -> String {
        match &self.json {
            Some(Json::String(text)) => text.clone(),
            _ => self.text.to_owned(),
        }
    }

    fn number<T: TryFrom<u64>>(&self) -> Result<T> {
        let number = match &self.json {
            Some(Json::Number(number)) => number.as_u64(),
            Some(Json::String(text)) => text.parse().ok(),
            _ => None,
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.wrong("a whole number that is not negative"))
    }

    fn boolean(&self) -> Result<bool> {
        match self.string().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn seconds(&self) -> Result<Duration> {
        let seconds: Option<f64> = self.string().parse().ok();
        seconds
            .filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0)
            .map(Duration::from_secs_f64)
            .ok_or_else(|| self.wrong("a number of seconds above 0, at most 86400"))
    }

    fn wrong(&self, wanted: &str) -> Error {
        invalid(format!(
            "connection_string has {}='{}', where {wanted} is wanted",
            self.name, self.text
        ))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&Secret::new(text))
    }

    #[test]
    fn every_parameter_finds_its_place() {
        let options = parse(
            "redis.example:6380,db=3,username=app,password=12=3\"4,socket_timeout=0.5,\
             client_name=svc,max_connections=7,health_check_interval=30,socket_keepalive=true,\
             protocol=2,retry_on_timeout=true",
        )
        .unwrap();

        assert_eq!(options.address.node(), "redis.example:6380");
        assert_eq!((options.database, options.username.as_deref()), (3, Some("app")));
        assert_eq!(options.password.unwrap().reveal(), "12=3\"4");
        assert_eq!(options.io_timeout, Duration::from_millis(500));
        assert_eq!(options.connect_timeout, Duration::from_millis(500));
        assert_eq!((options.max_idle, options.client_name.as_deref()), (7, Some("svc")));
        assert!(options.retry_on_timeout && options.tls.is_none());
    }

    #[test]
    fn json_strings_and_numbers_as_feast_reads_them() {
        let options = parse("h,password=\"quoted\",username=1234,db=null").unwrap();

        assert_eq!(options.password.unwrap().reveal(), "quoted");
        assert_eq!((options.username.as_deref(), options.database), (Some("1234"), 0));
        assert_eq!(options.address.node(), "h:6379");
        assert_eq!(parse("[::1]:7000").unwrap().address.node(), "[::1]:7000");
    }

    #[test]
    fn timeouts_are_never_none() {
        let options = parse("localhost:6379,socket_timeout=null").unwrap();

        assert_eq!(
            (options.io_timeout, options.connect_timeout),
            (DEFAULT_TIMEOUT, DEFAULT_TIMEOUT)
        );
    }

    #[test]
    fn tls_verification() {
        for (text, verification) in [
            ("h:1,ssl=true", Verification::Full),
            ("h:1,ssl=true,ssl_cert_reqs=optional", Verification::Full),
            ("h:1,ssl=true,ssl_check_hostname=false", Verification::AuthorityOnly),
            ("h:1,ssl=true,ssl_cert_reqs=none", Verification::None),
        ] {
            assert_eq!(parse(text).unwrap().tls.unwrap().verification, verification, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (text, named) in [
            ("h:1,password=hunter2,sleepy=1", "'sleepy'"),
            ("h:1,password=hunter2,db=x", "db='x'"),
            ("h:port,password=hunter2", "'port'"),
            ("h:1,password=hunter2,socket_timeout=0", "socket_timeout='0'"),
            ("h:1,password=hunter2,ssl=true,ssl_cert_reqs=maybe", "'maybe'"),
            ("password=hunter2", "no host"),
        ] {
            let error = parse(text).err().expect(text).to_string();
            assert!(error.contains(named) && !error.contains("hunter2"), "{error}");
        }
    }
}
