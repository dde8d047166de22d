//! Error replies of a Redis server as errors of ours: the kind by the reply's first word, the
//! server's own words in the message. Must not know connections.

use crate::error::{Error, ErrorKind};

/// The error for `text`, which the server at `node` answered to `command`.
#[cold]
pub(super) fn refused(node: &str, command: &str, text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    let (kind, advice) = match code(&text) {
        "WRONGPASS" | "NOAUTH" => {
            (ErrorKind::StoreDenied, "; check username and password in connection_string")
        }
        "NOPERM" => (ErrorKind::StoreDenied, "; the user's ACL must allow the command and the key"),
        "LOADING" | "MASTERDOWN" | "READONLY" | "TRYAGAIN" | "BUSY" | "CLUSTERDOWN" => {
            (ErrorKind::StoreUnavailable, "")
        }
        "MOVED" | "ASK" | "CROSSSLOT" => (
            ErrorKind::InvalidConfig,
            "; this server is a node of a Redis Cluster: say so with redis_type: redis_cluster",
        ),
        // No other command of ours is unknown to a server that we promise.
        _ if text.contains("HPEXPIRE") || text.contains("Unknown Redis command") => (
            ErrorKind::StoreRefused,
            "; field_ttl needs Redis 7.4 or Valkey 9: leave it out of online_store for this server",
        ),
        "WRONGTYPE" => (ErrorKind::StoreInvalid, ""),
        _ if text.starts_with("ERR max number of clients reached") => (
            ErrorKind::StoreUnavailable,
            "; raise the server's maxclients, or use fewer connections",
        ),
        _ => (ErrorKind::StoreRefused, ""),
    };
    Error::new(kind, format!("Redis at {node} refused {command}: {text}{advice}"))
}

/// The error for a refused AUTH. The server's words stay out: an old server that does not know
/// the command repeats its arguments, the password among them.
#[cold]
pub(super) fn login_refused(node: &str, text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    if matches!(code(&text), "LOADING" | "MASTERDOWN") {
        return refused(node, "AUTH", text.as_bytes());
    }
    Error::new(
        ErrorKind::StoreDenied,
        format!(
            "Redis at {node} refused the credentials ({}); check username and password in \
             connection_string",
            code(&text)
        ),
    )
}

/// Whether `text` says that the command may not be used here, be it by ACL or by renaming.
pub(super) fn is_command_withheld(text: &[u8]) -> bool {
    text.starts_with(b"NOPERM") && !is_key_withheld(text)
        || text.starts_with(b"ERR unknown command")
}

/// Whether `text` says that an ACL keeps the key from whatever is done to it.
pub(super) fn is_key_withheld(text: &[u8]) -> bool {
    text.starts_with(b"NOPERM") && contains(text, b" to access ")
}

/// Whether `text` says that the command `name`, in small letters, is withheld, and no other.
pub(super) fn is_withheld(text: &[u8], name: &[u8]) -> bool {
    is_command_withheld(text) && contains(&text.to_ascii_lowercase(), name)
}

/// Whether `text` says that the server does not copy from a key of ours to any other: they may
/// also be in different places.
pub(super) fn is_copy_withheld(text: &[u8]) -> bool {
    is_command_withheld(text) || is_key_withheld(text) || text.starts_with(b"CROSSSLOT")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether `text` says that the server can't read what RESTORE was given: another version of
/// the format than it knows, or a form that it does not take.
pub(super) fn is_payload_refused(text: &[u8]) -> bool {
    text.starts_with(b"ERR DUMP payload version") || text.starts_with(b"ERR Bad data format")
}

/// A key as messages show it: hexadecimal, shortened.
pub(super) fn shown(key: &[u8]) -> String {
    const SHOWN: usize = 24;
    let mut text: String = key.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if key.len() > SHOWN {
        text.push_str(&format!("… ({} bytes)", key.len()));
    }
    text
}

/// The word that says what is wrong: of an aborted transaction, why it was.
fn code(text: &str) -> &str {
    let why = text.rsplit("because of: ").next().unwrap_or_default();
    why.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_the_first_word() {
        for (text, kind) in [
            ("NOAUTH Authentication required.", ErrorKind::StoreDenied),
            ("LOADING Redis is loading", ErrorKind::StoreUnavailable),
            ("ERR max number of clients reached", ErrorKind::StoreUnavailable),
            ("OOM command not allowed", ErrorKind::StoreRefused),
            ("WRONGTYPE Operation against", ErrorKind::StoreInvalid),
            ("MOVED 1 127.0.0.1:7001", ErrorKind::InvalidConfig),
            ("EXECABORT Transaction discarded because of: READONLY", ErrorKind::StoreUnavailable),
            ("EXECABORT Transaction discarded because of previous", ErrorKind::StoreRefused),
        ] {
            let error = refused("h:1", "HMGET", text.as_bytes());
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(text) && error.to_string().contains("h:1"));
        }
    }

    #[test]
    fn commands_and_keys_are_told_apart() {
        for (text, is_command) in [
            ("NOPERM User app has no permissions to run the 'restore' command", true),
            ("NOPERM this user has no permissions to run the 'restore' command or its sub", true),
            ("ERR unknown command 'RESTORE', with args beginning with: 'k'", true),
            ("NOPERM No permissions to access a key", false),
            ("NOPERM this user has no permissions to access one of the keys used as", false),
        ] {
            assert_eq!(is_command_withheld(text.as_bytes()), is_command);
            assert_eq!(is_withheld(text.as_bytes(), b"restore"), is_command);
            assert!(!is_withheld(text.as_bytes(), b"copy"));
            assert_eq!(is_key_withheld(text.as_bytes()), !is_command);
        }
    }

    #[test]
    fn a_refused_login_never_repeats_the_password() {
        let error = login_refused("h:1", b"ERR unknown command `AUTH`, with args: `hunter2`");

        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
