//! The two forms of a connection string, taken apart: Feast's `host:port,name=value,…` and
//! URLs (`redis://user:password@host:port/db?name=value`), which Feast does not know.

use super::connect::Address;
use super::invalid;
use super::parameter::Parameter;
use crate::error::Result;

const DEFAULT_PORT: u16 = 6379;

/// What a connection string says: where, and the parameters in the order in which they stand.
pub(super) struct Parts {
    /// Empty if it names no node.
    pub(super) nodes: Vec<Address>,
    pub(super) parameters: Vec<Parameter>,
}

/// Takes `text` apart. Parameters are not judged yet.
pub(super) fn take_apart(text: &str) -> Result<Parts> {
    match text.trim().split_once("://") {
        // A parameter may hold a URL: only what is nothing but a scheme makes it one.
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            url(scheme, rest)
        }
        _ => connection_string(text),
    }
}

fn connection_string(text: &str) -> Result<Parts> {
    let mut parts = Parts { nodes: Vec::new(), parameters: Vec::new() };
    let mut pieces = text.split(',').map(str::trim);
    while let Some(piece) = pieces.next() {
        let Some((name, value)) = piece.split_once('=') else {
            if !piece.is_empty() {
                parts.nodes.push(node(piece)?);
            }
            continue;
        };
        let mut value = value.to_owned();
        // Commas within an object belong to it.
        while value.starts_with('{') && !is_json(&value) {
            let Some(more) = pieces.next() else { break };
            value = format!("{value},{more}");
        }
        parts.parameters.extend(Parameter::of_json(name, &value));
    }
    Ok(parts)
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// As redis-py reads URLs (`redis/connection.py::parse_url`), with several hosts besides.
fn url(scheme: &str, rest: &str) -> Result<Parts> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut parts = Parts { nodes: Vec::new(), parameters: Vec::new() };
    let mut add = |name: &str, value: String| {
        parts.parameters.push(Parameter::of_text(name.to_owned(), value));
    };
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    for (name, value) in [("username", username), ("password", password)] {
        if !value.is_empty() {
            add(name, decoded(value)?);
        }
    }
    match scheme {
        "unix" => add("unix_socket_path", decoded(path)?),
        "redis" | "rediss" | "valkey" | "valkeys" => {
            let database = path.trim_matches('/');
            if !database.is_empty() {
                add("db", decoded(database)?);
            }
            if matches!(scheme, "rediss" | "valkeys") {
                add("ssl", "true".to_owned());
            }
            let hosts = hosts.split(',').filter(|host| !host.is_empty());
            parts.nodes = hosts.map(node).collect::<Result<_>>()?;
        }
        _ => {
            return Err(invalid(format!(
                "connection_string is a URL of the scheme '{scheme}'; supported are redis://, \
                 rediss:// (TLS), valkey://, valkeys:// and unix://"
            )));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(&value.replace('+', " "))?;
        parts.parameters.push(Parameter::of_text(decoded(name)?, value));
    }
    Ok(parts)
}

fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| invalid("connection_string has a % escape that is no UTF-8"))
}

/// `host:port`, `host`, `[::1]:port`.
fn node(text: &str) -> Result<Address> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().map_err(|_| {
                invalid(format!(
                    "connection_string has the port '{port}', which is no number up to 65535"
                ))
            })?;
            (host, port)
        }
        _ => (text, DEFAULT_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(no_host());
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// The error for a connection string that does not say where.
pub(super) fn no_host() -> crate::error::Error {
    invalid(
        "connection_string names no host; write it as host:port,parameter=value,… or \
         redis://host:port",
    )
}
