//! `grpc.reflection`, versions 1 and 1alpha, which have the same messages: what services there
//! are, and the descriptions of their messages, for `grpcurl` and its like.

use std::sync::{Arc, OnceLock};

use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::body::{Content, end, message};
use super::frame::{Encoding, Frames, broken, frame};
use super::methods::SERVICES;
use super::status::{Code, Status};
use crate::server::budget::Share;
use crate::server::phase::Phase;
use crate::server::shared::Shared;
use crate::value::wire::reader::{Payload, Reader, text};
use crate::value::wire::writer::{VARINT, put_message, put_sized, put_tag, put_varint};

/// A `google.protobuf.FileDescriptorSet`, made by `tests/golden/make_descriptors.py`.
static DESCRIPTORS: &[u8] = include_bytes!("descriptors.binpb");
/// Bytes of one question.
const LIMIT: usize = 64 * 1024;

/// Answers questions one by one, as they come.
pub(super) fn answers(
    server: &Arc<Shared>,
    body: Incoming,
    encoding: Encoding,
) -> Result<Content, Status> {
    let share = server.health.stream()?;
    let frames = Frames::default();
    let questions = Questions { server: server.clone(), body, encoding, frames, _share: share };
    let next = |questions: Option<Questions>| async move {
        let mut questions = questions?;
        match questions.next().await {
            Ok(Some(question)) => match answer(&question) {
                Ok(answer) => Some((message(frame(&answer)), Some(questions))),
                Err(status) => Some((end(&status), None)),
            },
            Ok(None) => Some((end(&Status::ok()), None)),
            Err(status) => Some((end(&status), None)),
        }
    };
    Ok(Content::Stream(Box::pin(stream::unfold(Some(questions), next))))
}

/// Questions as they come in.
struct Questions {
    server: Arc<Shared>,
    body: Incoming,
    encoding: Encoding,
    frames: Frames,
    _share: Share,
}

impl Questions {
    /// The next; `None`: there are no more.
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, Status> {
        loop {
            if let Some(framed) = self.frames.next(LIMIT)? {
                return framed.decoded(self.encoding, LIMIT).map(Some);
            }
            let patience = self.server.options.limits.keep_alive;
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                () = self.server.progress.reached(Phase::Closing) => {
                    return Err(Status::new(Code::Unavailable, "the server is stopping"));
                }
                () = tokio::time::sleep(patience) => {
                    return Err(Status::new(Code::DeadlineExceeded, "nothing was asked for long"));
                }
            };
            match frame {
                None if self.frames.is_empty() => return Ok(None),
                None => return Err(broken("the last message is cut off")),
                Some(Err(_)) => return Err(Status::new(Code::Cancelled, "the call broke off")),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.frames.push(&data);
                    }
                }
            }
        }
    }
}

/// One file of the descriptions.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    imports: Vec<&'static str>,
    // Full names of messages, enumerations, services and methods.
    symbols: Vec<String>,
}

/// `ServerReflectionResponse` to a `ServerReflectionRequest`.
fn answer(request: &[u8]) -> Result<Vec<u8>, Status> {
    let no_request = |_| broken("these bytes are no ServerReflectionRequest");
    let mut out = Vec::new();
    let (mut host, mut asked) = (&b""[..], None);
    let mut reader = Reader::new(request);
    while let Some(field) = reader.field().map_err(no_request)? {
        match field {
            (1, Payload::Bytes(name)) => host = name,
            (number @ 3..=7, Payload::Bytes(what)) => asked = Some((number, what)),
            _ => {}
        }
    }
    put_sized(&mut out, 1, host);
    put_sized(&mut out, 2, request);
    let Some((number, what)) = asked else {
        put_error(&mut out, Code::InvalidArgument, "nothing is asked for");
        return Ok(out);
    };
    let name = if number == 5 { "" } else { text(what).map_err(no_request)? };
    match number {
        3 => put_files(&mut out, name, files().iter().find(|file| file.name == name)),
        4 => put_files(&mut out, name, containing(name)),
        5 => put_error(&mut out, Code::NotFound, "there are no extensions"),
        6 if containing(name).is_some() => put_no_extensions(&mut out, name),
        6 => put_error(&mut out, Code::NotFound, &format!("there is no '{name}'")),
        _ => put_services(&mut out),
    }
    Ok(out)
}

fn containing(symbol: &str) -> Option<&'static File> {
    files().iter().find(|file| file.symbols.iter().any(|known| known == symbol))
}

/// A file and all that it imports.
fn put_files(out: &mut Vec<u8>, name: &str, file: Option<&'static File>) {
    let Some(file) = file else {
        return put_error(out, Code::NotFound, &format!("there is no '{name}'"));
    };
    let mut wanted = vec![file];
    let mut next = 0;
    while let Some(file) = wanted.get(next) {
        let is_new = |one: &&File| {
            file.imports.contains(&one.name) && wanted.iter().all(|known| known.name != one.name)
        };
        let imported: Vec<_> = files().iter().filter(is_new).collect();
        wanted.extend(imported);
        next += 1;
    }
    put(out, 4, |out| wanted.iter().for_each(|file| put_sized(out, 1, file.bytes)));
}

fn put_services(out: &mut Vec<u8>) {
    put(out, 6, |out| {
        for service in SERVICES {
            put(out, 1, |out| put_sized(out, 1, service.as_bytes()));
        }
    });
}

fn put_no_extensions(out: &mut Vec<u8>, name: &str) {
    put(out, 5, |out| put_sized(out, 1, name.as_bytes()));
}

fn put_error(out: &mut Vec<u8>, code: Code, text: &str) {
    put(out, 7, |out| {
        put_tag(out, 1, VARINT);
        put_varint(out, code as u64);
        put_sized(out, 2, text.as_bytes());
    });
}

fn put(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message(out, field, |out| {
        write(out);
        Ok::<(), std::convert::Infallible>(())
    });
}

fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| members(DESCRIPTORS, 1).filter_map(file).collect())
}

/// The files of `google.protobuf.FileDescriptorProto`: 1 name, 2 package, 3 imports, 4 messages,
/// 5 enumerations, 6 services.
fn file(bytes: &'static [u8]) -> Option<File> {
    let texts = |field| members(bytes, field).filter_map(|bytes| text(bytes).ok());
    let package = texts(2).next().unwrap_or_default();
    let mut symbols = Vec::new();
    for message in members(bytes, 4) {
        add_message(&mut symbols, package, message);
    }
    for (field, of_members) in [(5, None), (6, Some(2))] {
        for one in members(bytes, field) {
            let name = full(package, one);
            for member in of_members.into_iter().flat_map(|field| members(one, field)) {
                symbols.push(full(&name, member));
            }
            symbols.push(name);
        }
    }
    Some(File { name: texts(1).next()?, bytes, imports: texts(3).collect(), symbols })
}

/// A message, and the messages (3) and enumerations (4) within.
fn add_message(symbols: &mut Vec<String>, scope: &str, message: &'static [u8]) {
    let name = full(scope, message);
    members(message, 3).for_each(|inner| add_message(symbols, &name, inner));
    symbols.extend(members(message, 4).map(|inner| full(&name, inner)));
    symbols.push(name);
}

/// The name (1) of what `bytes` describe, within `scope`.
fn full(scope: &str, bytes: &'static [u8]) -> String {
    let name = members(bytes, 1).next().and_then(|name| text(name).ok()).unwrap_or_default();
    match scope {
        "" => name.to_owned(),
        scope => format!("{scope}.{name}"),
    }
}

/// The fields of that number that have a length.
fn members(bytes: &'static [u8], wanted: u32) -> impl Iterator<Item = &'static [u8]> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || reader.field().ok().flatten()).filter_map(move |field| match field {
        (number, Payload::Bytes(bytes)) if number == wanted => Some(bytes),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(field: u32, what: &str) -> Vec<u8> {
        let mut request = Vec::new();
        put_sized(&mut request, 1, b"host");
        put_sized(&mut request, field, what.as_bytes());
        answer(&request).unwrap()
    }

    fn has(bytes: &[u8], part: &str) -> bool {
        bytes.windows(part.len()).any(|window| window == part.as_bytes())
    }

    #[test]
    fn every_service_is_described() {
        for service in SERVICES {
            assert!(containing(service).is_some(), "{service}");
            assert!(has(&ask(7, ""), service));
        }
        assert!(containing("GrpcFeatureServer.Push").is_some());
        assert!(containing("feast.serving.GetOnlineFeaturesRequest.EntitiesEntry").is_some());
    }

    #[test]
    fn everything_imported_is_there() {
        let known: Vec<_> = files().iter().map(|file| file.name).collect();
        assert!(files().iter().all(|file| file.imports.iter().all(|one| known.contains(one))));
        let answer = ask(4, "feast.serving.ServingService");
        assert!(has(&answer, "google/protobuf/timestamp.proto"));
    }

    #[test]
    fn what_is_not_there_is_an_answer_too() {
        assert!(has(&ask(3, "nope.proto"), "there is no 'nope.proto'"));
        assert!(has(&ask(6, "Nope"), "there is no 'Nope'"));
        assert!(has(&answer(&[]).unwrap(), "nothing is asked for"));
        assert!(answer(&[0x0a, 9]).is_err());
    }
}
