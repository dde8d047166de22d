//! The access log: one line of JSON on standard output for each request.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use chrono::{SecondsFormat, Utc};
use hyper::http::request::Parts;

use super::lines::Lines;
use super::observed::Answered;

/// The status of a request whose client went away before the answer, as nginx has it.
const CLIENT_GONE: u16 = 499;

/// Where the lines of one server go.
pub(super) struct AccessLog(Lines);

/// The line of one request, written when it is dropped: also where the client went away.
pub(super) struct Entry<'a> {
    pub(super) log: &'a AccessLog,
    pub(super) head: &'a Parts,
    pub(super) client: SocketAddr,
    pub(super) begun: Instant,
    /// How it was answered, and the bytes of the body.
    pub(super) answer: Option<(Answered, usize)>,
}

impl<'a> Entry<'a> {
    /// The line of a request that is not answered yet.
    pub(super) fn new(
        log: &'a AccessLog,
        head: &'a Parts,
        client: SocketAddr,
        begun: Instant,
    ) -> Self {
        Entry { log, head, client, begun, answer: None }
    }
}

impl AccessLog {
    /// A log that goes to `out`.
    pub(super) fn new(out: impl Write + Send + 'static) -> Self {
        AccessLog(Lines::new("access log", out))
    }

    /// What is gathered.
    pub(super) fn lines(&self) -> &Lines {
        &self.0
    }

    fn add(&self, entry: &Entry<'_>) {
        let (status, code, bytes) = match entry.answer {
            Some((Answered::Http(status), bytes)) => (status, None, bytes),
            // Whose status says nothing of how it ended.
            Some((Answered::Grpc(code), bytes)) => (200, Some(code.name()), bytes),
            None => (CLIENT_GONE, None, 0),
        };
        let path = entry.head.uri.path_and_query().map_or("/", |path| path.as_str());
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        // Writing to a string can't fail. A path is visible ASCII, or UTF-8 that needs no escape
        // but that of quotes and backslashes.
        let code = code.map(|code| format!(r#","grpc_status":"{code}""#));
        self.0.add(|text| {
            let _ = writeln!(
                text,
                r#"{{"time":"{time}","client":"{}","method":"{}","path":{},"protocol":"{:?}","status":{status}{},"bytes":{bytes},"ms":{:.3}}}"#,
                entry.client,
                entry.head.method,
                serde_json::Value::from(path),
                entry.head.version,
                code.unwrap_or_default(),
                entry.begun.elapsed().as_secs_f64() * 1e3,
            );
        });
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.log.add(self);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hyper::Request;

    use super::super::grpc::Code;
    use super::*;
    use crate::runtime;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(data)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_json_and_a_client_that_went_away_is_499() {
        let kept = Kept::default();
        let log = AccessLog::new(kept.clone());
        let request = Request::post("/a\"b?c=d").body(()).unwrap();
        let (head, ()) = request.into_parts();
        let client = SocketAddr::from(([127, 0, 0, 1], 5000));
        let answers = [Answered::Http(404), Answered::Grpc(Code::NotFound)];
        for answer in answers.map(|answered| Some((answered, 12))).into_iter().chain([None]) {
            let mut entry = Entry::new(&log, &head, client, Instant::now());
            entry.answer = answer;
        }
        runtime::handle().unwrap().block_on(log.lines().flush());

        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["status"], 404);
        assert_eq!(lines[0]["bytes"], 12);
        assert_eq!(
            (&lines[1]["status"], &lines[1]["grpc_status"]),
            (&200.into(), &"NOT_FOUND".into())
        );
        assert_eq!(lines[0]["client"], "127.0.0.1:5000");
        assert_eq!(lines[0]["path"], "/a\"b?c=d");
        assert_eq!(lines[0]["protocol"], "HTTP/1.1");
        assert_eq!(lines[2]["status"], 499);
    }
}
