//! What a new connection says first, and how the answers are judged. Pure, so that every driver
//! introduces itself in the same way.

use super::codec::{CommandBuffer, Reply};
use super::options::Options;
use super::refusal;
use crate::error::{Error, ErrorKind, Result};

/// What a connection is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A server that stands alone.
    Server,
    /// A node of a cluster, which is read from though it be a replica if `read_from_replicas`.
    ClusterNode,
    /// The master that a sentinel named: it must be one.
    Master,
    /// A sentinel.
    Sentinel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Auth,
    Select,
    ReadOnly,
    Role,
    Name,
}

/// The answers that a new connection still waits for; they come in one trip.
pub(super) struct Handshake {
    steps: Vec<Step>,
    judged: usize,
}

impl Handshake {
    /// Appends what is to be said.
    pub(super) fn begin(options: &Options, purpose: Purpose, commands: &mut CommandBuffer) -> Self {
        let mut steps = Vec::new();
        let password = options.password.as_ref().map(|password| password.reveal().as_bytes());
        match (&options.username, password) {
            (Some(name), password) => {
                commands.command(&[b"AUTH", name.as_bytes(), password.unwrap_or_default()]);
                steps.push(Step::Auth);
            }
            (None, Some(password)) => {
                commands.command(&[b"AUTH", password]);
                steps.push(Step::Auth);
            }
            (None, None) => {}
        }
        if options.database != 0 && purpose != Purpose::Sentinel {
            commands.command(&[b"SELECT", options.database.to_string().as_bytes()]);
            steps.push(Step::Select);
        }
        if purpose == Purpose::ClusterNode && options.read_from_replicas {
            commands.command(&[b"READONLY"]);
            steps.push(Step::ReadOnly);
        }
        if purpose == Purpose::Master {
            commands.command(&[b"ROLE"]);
            steps.push(Step::Role);
        }
        if let Some(name) = &options.client_name {
            commands.command(&[b"CLIENT", b"SETNAME", name.as_bytes()]);
            steps.push(Step::Name);
        }
        Handshake { steps, judged: 0 }
    }

    /// Whether every answer has been judged.
    pub(super) fn is_complete(&self) -> bool {
        self.judged == self.steps.len()
    }

    /// Judges the next answer, of the server at `node`.
    ///
    /// Errors: the server does not let us in, or is not what it should be.
    pub(super) fn judge(&mut self, reply: Reply<'_>, node: &str) -> Result<()> {
        let Some(&step) = self.steps.get(self.judged) else {
            return Err(out_of_place(node, reply));
        };
        self.judged += 1;
        match (step, reply.error()) {
            // A name is a convenience: a server that takes none serves all the same.
            (Step::Name, _) => Ok(()),
            (Step::Auth, Some(text)) => Err(refusal::login_refused(node, text)),
            (Step::Select, Some(text)) => Err(refusal::refused(node, "SELECT", text)),
            (Step::ReadOnly, Some(text)) => Err(refusal::refused(node, "READONLY", text)),
            // An ACL may withhold ROLE: then the sentinel's word must do.
            (Step::Role, Some(text)) if refusal::is_command_withheld(text) => Ok(()),
            (Step::Role, Some(text)) => Err(refusal::refused(node, "ROLE", text)),
            (Step::Role, None) => match reply.elements().next().and_then(|role| role.text()) {
                Some(b"master") => Ok(()),
                Some(b"slave" | b"sentinel") => Err(not_the_master(node)),
                _ => Err(out_of_place(node, reply)),
            },
            (_, None) if reply.text() == Some(b"OK") => Ok(()),
            (_, None) => Err(out_of_place(node, reply)),
        }
    }
}

#[cold]
fn not_the_master(node: &str) -> Error {
    Error::new(
        ErrorKind::StoreUnavailable,
        format!("Redis at {node} is not the master that the sentinels take it for"),
    )
}

#[cold]
fn out_of_place(node: &str, reply: Reply<'_>) -> Error {
    let elements = reply.array_len().map(|len| format!(" ({len} elements)")).unwrap_or_default();
    Error::new(
        ErrorKind::StoreInvalid,
        format!("{node} answered the handshake with something out of place{elements}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::codec::ReplyParser;
    use super::*;
    use crate::config::Secret;

    /// Says hello as `options` ask and judges `answers`.
    fn shake(options: &str, purpose: Purpose, answers: &[u8]) -> (String, Result<()>) {
        let options = Options::parse(&Secret::new(options)).unwrap();
        let mut commands = CommandBuffer::default();
        let mut handshake = Handshake::begin(&options, purpose, &mut commands);
        let said = String::from_utf8_lossy(commands.bytes()).into_owned();
        let (mut parser, mut rest) = (ReplyParser::default(), answers);
        while !handshake.is_complete() {
            let length = parser.advance(rest).unwrap().expect("an answer to each command");
            if let Err(error) = handshake.judge(parser.reply(&rest[..length]), "h:1") {
                return (said, Err(error));
            }
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "an answer to nothing");
        (said, Ok(()))
    }

    #[test]
    fn nothing_is_said_where_nothing_is_wanted() {
        let (said, outcome) = shake("h:1", Purpose::Server, b"");

        assert!(said.is_empty() && outcome.is_ok());
    }

    #[test]
    fn everything_that_is_wanted_in_one_trip() {
        let options = "h:1,username=u,password=p,db=3,client_name=n,read_from_replicas=true";
        for (purpose, answers, names) in [
            (Purpose::Server, "+OK\r\n+OK\r\n-ERR no\r\n", "AUTH SELECT SETNAME"),
            (Purpose::ClusterNode, "+OK\r\n+OK\r\n+OK\r\n+OK\r\n", "AUTH SELECT READONLY SETNAME"),
            (Purpose::Sentinel, "+OK\r\n+OK\r\n", "AUTH SETNAME"),
            (
                Purpose::Master,
                "+OK\r\n+OK\r\n*3\r\n$6\r\nmaster\r\n:7\r\n*0\r\n+OK\r\n",
                "AUTH SELECT ROLE SETNAME",
            ),
        ] {
            let (said, outcome) = shake(options, purpose, answers.as_bytes());
            outcome.unwrap();
            let shown: Vec<&str> = said
                .lines()
                .filter(|line| ["AUTH", "SELECT", "READONLY", "ROLE", "SETNAME"].contains(line))
                .collect();
            assert_eq!(shown.join(" "), names);
        }
    }

    #[test]
    fn who_is_not_let_in_is_told_why() {
        let options = "h:1,password=hunter2,db=3";
        for (purpose, answers, kind) in [
            (Purpose::Server, "-WRONGPASS no\r\n+OK\r\n", ErrorKind::StoreDenied),
            (Purpose::Server, "+OK\r\n-ERR out of range\r\n", ErrorKind::StoreRefused),
            (Purpose::Server, "-LOADING wait\r\n+OK\r\n", ErrorKind::StoreUnavailable),
            (Purpose::Server, "+OK\r\n:1\r\n", ErrorKind::StoreInvalid),
            (Purpose::Server, "*1\r\n+OK\r\n+OK\r\n", ErrorKind::StoreInvalid),
            (
                Purpose::Master,
                "+OK\r\n+OK\r\n*2\r\n$5\r\nslave\r\n+x\r\n",
                ErrorKind::StoreUnavailable,
            ),
            (Purpose::Master, "+OK\r\n+OK\r\n+master\r\n", ErrorKind::StoreInvalid),
        ] {
            let error = shake(options, purpose, answers.as_bytes()).1.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let answers = b"+OK\r\n+OK\r\n-NOPERM no\r\n";
        assert!(shake(options, Purpose::Master, answers).1.is_ok());
    }
}
