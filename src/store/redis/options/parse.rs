//! From a connection string to [`Options`]: each parameter to its place.

use std::time::Duration;

use super::connect::{Address, Options};
use super::invalid;
use super::parameter::Parameter;
use super::text::{Parts, no_host, take_apart};
use super::tls::TlsFields;
use crate::config::Secret;
use crate::error::Result;

const SUPPORTED: &str = "db, username, password, unix_socket_path, socket_timeout, \
     socket_connect_timeout, socket_keepalive, client_name, max_connections, timeout, \
     health_check_interval, retry_on_timeout, read_from_replicas, sentinel_kwargs, \
     force_master_ip, ssl, ssl_ca_certs, ssl_ca_path, ssl_ca_data, ssl_certfile, ssl_keyfile, \
     ssl_password, ssl_cert_reqs, ssl_check_hostname, ssl_min_version, busy_poll_us";

/// Known to redis-py, with nothing to set here: answers are bytes in either protocol, what is
/// safe to try again is tried until the timeout, and a cluster's nodes are always looked up.
const WITHOUT_EFFECT: &[&str] = &[
    "protocol",
    "encoding",
    "encoding_errors",
    "decode_responses",
    "single_connection_client",
    "socket_read_size",
    "lib_name",
    "lib_version",
    "retry_on_error",
    "cluster_error_retry_attempts",
    "reinitialize_steps",
    "require_full_coverage",
    "skip_full_coverage_check",
    "dynamic_startup_nodes",
];

impl Options {
    /// Parses Feast's connection string, or a URL.
    ///
    /// Errors: [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig); it names the
    /// parameter, never a secret.
    pub(in super::super) fn parse(connection_string: &Secret) -> Result<Self> {
        let Parts { nodes, parameters } = take_apart(connection_string.reveal())?;
        let mut draft = Draft::new(nodes);
        for parameter in &parameters {
            if !draft.set(parameter)? {
                return Err(invalid(format!(
                    "connection_string has the parameter '{}', which is not supported; supported \
                     are {SUPPORTED}",
                    parameter.name
                )));
            }
        }
        let sentinel_kwargs = draft.sentinel_kwargs.take().unwrap_or_default();
        let mut options = draft.finish()?;
        if options.nodes.is_empty() {
            return Err(no_host());
        }
        options.sentinels = Some(Box::new(sentinels(&options, &sentinel_kwargs)?));
        Ok(options)
    }
}

/// As in redis-py, sentinels are reached with `sentinel_kwargs` and nothing else; without
/// them, with the timeouts of the server's connections.
fn sentinels(options: &Options, kwargs: &[Parameter]) -> Result<Options> {
    let mut draft = Draft::new(options.nodes.clone());
    draft.options.io_timeout = options.io_timeout;
    draft.options.keepalive = options.keepalive;
    draft.connect_timeout = Some(options.connect_timeout);
    for parameter in kwargs {
        if !draft.set(parameter)? {
            return Err(invalid(format!(
                "sentinel_kwargs in connection_string has '{}', which is not supported",
                parameter.name
            )));
        }
    }
    draft.finish()
}

/// Options whose parameters are still being read.
struct Draft {
    options: Options,
    tls: TlsFields,
    connect_timeout: Option<Duration>,
    pool_timeout: Option<Duration>,
    sentinel_kwargs: Option<Vec<Parameter>>,
}

impl Draft {
    fn new(nodes: Vec<Address>) -> Self {
        Draft {
            options: Options::new(nodes),
            tls: TlsFields::default(),
            connect_timeout: None,
            pool_timeout: None,
            sentinel_kwargs: None,
        }
    }

    /// Whether the parameter is known. A long flat table: one line for each name.
    fn set(&mut self, parameter: &Parameter) -> Result<bool> {
        let options = &mut self.options;
        match parameter.name.as_str() {
            "db" => options.database = parameter.number()?,
            "username" => options.username = Some(parameter.string()),
            "password" => options.password = Some(parameter.secret()),
            "socket_timeout" => options.io_timeout = parameter.seconds()?,
            "socket_connect_timeout" => self.connect_timeout = Some(parameter.seconds()?),
            "timeout" => self.pool_timeout = Some(parameter.seconds()?),
            "socket_keepalive" => options.keepalive = parameter.boolean()?,
            "unix_socket_path" => options.nodes = vec![Address::Unix(parameter.string().into())],
            "client_name" => options.client_name = Some(parameter.string()),
            "max_connections" => {
                options.max_connections = parameter.number::<u32>()?.max(1) as usize;
            }
            "health_check_interval" => {
                let is_never = parameter.string().trim() == "0";
                options.health_check_interval =
                    if is_never { None } else { Some(parameter.seconds()?) };
            }
            "busy_poll_us" => {
                options.busy_poll = Duration::from_micros(parameter.number::<u16>()?.into());
            }
            "retry_on_timeout" => options.retry_on_timeout = parameter.boolean()?,
            "read_from_replicas" => options.read_from_replicas = parameter.boolean()?,
            "force_master_ip" => options.force_master_ip = Some(parameter.string()),
            "sentinel_kwargs" => self.sentinel_kwargs = Some(parameter.object()?),
            "min_other_sentinels" if parameter.number::<u32>()? > 0 => {
                return Err(invalid(
                    "connection_string has min_other_sentinels, which is not supported; any \
                     sentinel that knows the master is believed",
                ));
            }
            "min_other_sentinels" => {}
            name if WITHOUT_EFFECT.contains(&name) => {}
            _ => return self.tls.set(parameter),
        }
        Ok(true)
    }

    fn finish(self) -> Result<Options> {
        let mut options = self.options;
        options.connect_timeout = self.connect_timeout.unwrap_or(options.io_timeout);
        options.pool_timeout = self.pool_timeout.unwrap_or(options.io_timeout);
        options.tls = self.tls.finish()?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TlsVersion, Verification};
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&Secret::new(text))
    }

    fn nodes(options: &Options) -> Vec<String> {
        options.nodes.iter().map(Address::node).collect()
    }

    #[test]
    fn every_parameter_finds_its_place() {
        let options = parse(
            "redis.example:6380,db=3,username=app,password=12=3\"4,socket_timeout=0.5,\
             client_name=svc,max_connections=7,health_check_interval=10,socket_keepalive=false,\
             protocol=2,retry_on_timeout=true,timeout=2,read_from_replicas=true,encoding=utf-8,\
             retry_on_error=[],skip_full_coverage_check=true,busy_poll_us=0",
        )
        .unwrap();

        assert_eq!(nodes(&options), ["redis.example:6380"]);
        assert_eq!((options.database, options.username.as_deref()), (3, Some("app")));
        assert_eq!(options.password.unwrap().reveal(), "12=3\"4");
        assert_eq!(options.io_timeout, Duration::from_millis(500));
        assert_eq!(options.connect_timeout, Duration::from_millis(500));
        assert_eq!(options.pool_timeout, Duration::from_secs(2));
        assert_eq!((options.max_connections, options.client_name.as_deref()), (7, Some("svc")));
        assert_eq!(options.health_check_interval, Some(Duration::from_secs(10)));
        assert!(options.retry_on_timeout && options.tls.is_none());
        assert!(options.read_from_replicas && !options.keepalive && options.busy_poll.is_zero());
    }

    #[test]
    fn json_strings_and_numbers_as_feast_reads_them() {
        let options = parse("h,password=\"quoted\",username=1234,db=null").unwrap();

        assert_eq!(options.password.unwrap().reveal(), "quoted");
        assert_eq!((options.username.as_deref(), options.database), (Some("1234"), 0));
        assert_eq!(nodes(&parse("h").unwrap()), ["h:6379"]);
        assert_eq!(
            nodes(&parse("[::1]:7000,[::2],c:1").unwrap()),
            ["[::1]:7000", "[::2]:6379", "c:1"]
        );
    }

    #[test]
    fn timeouts_are_never_none() {
        let options = parse("localhost:6379,socket_timeout=null").unwrap();

        let default = Duration::from_secs(5);
        assert_eq!((options.io_timeout, options.connect_timeout), (default, default));
    }

    #[test]
    fn urls_as_redis_py_reads_them() {
        let options = parse(
            "rediss://app:p%40ss%2F%3A@redis.example:6380/2?socket_timeout=1.5\
             &ssl_cert_reqs=none&client_name=a+b",
        )
        .unwrap();
        assert_eq!(nodes(&options), ["redis.example:6380"]);
        assert_eq!((options.database, options.username.as_deref()), (2, Some("app")));
        assert_eq!(options.password.as_ref().unwrap().reveal(), "p@ss/:");
        assert_eq!(options.client_name.as_deref(), Some("a b"));
        assert_eq!(options.tls.unwrap().verification, Verification::None);

        let options = parse("redis://:only@[::1]").unwrap();
        assert_eq!((nodes(&options), &options.username), (vec!["[::1]:6379".to_owned()], &None));
        assert_eq!((options.password.unwrap().reveal(), options.database), ("only", 0));

        let options = parse("unix://u:p@/run/redis.sock?db=4").unwrap();
        assert_eq!((nodes(&options), options.database), (vec!["/run/redis.sock".to_owned()], 4));
        assert_eq!(options.username.as_deref(), Some("u"));

        assert_eq!(nodes(&parse("redis://a:1,b:2/0").unwrap()), ["a:1", "b:2"]);
        // A URL in a parameter does not make a URL of the whole.
        assert_eq!(nodes(&parse("h:1,password=x://y").unwrap()), ["h:1"]);
    }

    #[test]
    fn tls_parameters() {
        for (text, verification) in [
            ("h:1,ssl=true", Verification::Full),
            ("h:1,ssl=true,ssl_cert_reqs=optional", Verification::Full),
            ("h:1,ssl=true,ssl_check_hostname=false", Verification::AuthorityOnly),
            ("h:1,ssl=true,ssl_cert_reqs=none", Verification::None),
        ] {
            assert_eq!(parse(text).unwrap().tls.unwrap().verification, verification, "{text}");
        }
        let text = "h:1,ssl=true,ssl_ca_data=\"a\\nb\",ssl_min_version=772,ssl_validate_ocsp=false";
        let tls = parse(text).unwrap().tls.unwrap();
        assert_eq!((tls.ca_data.as_deref(), tls.min_version), (Some("a\nb"), TlsVersion::V1_3));
    }

    #[test]
    fn sentinels_have_credentials_of_their_own() {
        let options = parse(
            "s1:26379,s2:26379,password=master,ssl=true,socket_timeout=2,\
             sentinel_kwargs={\"username\":\"watch\",\"password\":\"se,cret\"},db=1",
        )
        .unwrap();

        let sentinels = options.sentinels.unwrap();
        assert_eq!(nodes(&sentinels), ["s1:26379", "s2:26379"]);
        assert_eq!(sentinels.password.unwrap().reveal(), "se,cret");
        assert!(sentinels.tls.is_none() && options.tls.is_some());
        assert_eq!((sentinels.database, options.database), (0, 1));
        assert_eq!(sentinels.io_timeout, Duration::from_secs(2));
        assert!(parse("s1:26379,password=x").unwrap().sentinels.unwrap().password.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (text, named) in [
            ("h:1,password=hunter2,sleepy=1", "'sleepy'"),
            ("h:1,password=hunter2,db=x", "db='x'"),
            ("h:port,password=hunter2", "'port'"),
            ("h:1,password=hunter2,socket_timeout=0", "socket_timeout='0'"),
            ("h:1,password=hunter2,ssl=true,ssl_cert_reqs=maybe", "'maybe'"),
            ("h:1,password=hunter2,ssl_validate_ocsp=true", "ssl_validate_ocsp"),
            ("h:1,password=hunter2,min_other_sentinels=1", "min_other_sentinels"),
            ("h:1,sentinel_kwargs={\"password\":hunter2}", "sentinel_kwargs"),
            ("h:1,sentinel_kwargs={\"password\":\"hunter2\",\"x\":1}", "'x'"),
            ("password=hunter2", "no host"),
            ("http://:hunter2@h:1", "'http'"),
            ("redis://:hunter2@/0", "no host"),
            ("redis://:hunter2@h/x", "db='x'"),
        ] {
            let error = parse(text).err().expect(text).to_string();
            assert!(error.contains(named) && !error.contains("hunter2"), "{error}");
        }
    }
}
