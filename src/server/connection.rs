//! One connection, HTTP/1.1 or HTTP/2, from its first byte to its end: when it is idle for too
//! long, when the server stops, or when the client goes. Must not know what is asked for, but by
//! which protocol.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::Either;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};

use super::options::Protocol;
use super::phase::Phase;
use super::shared::Shared;
use super::{exchange, grpc};

/// How long the rest of an answer may take on a connection that is to be closed as idle.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Requests that one HTTP/2 connection may have in flight.
const STREAMS: u32 = 256;

/// Serves what comes over `stream` from `client`, to the end.
pub(super) async fn serve<S>(stream: S, client: SocketAddr, server: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request| {
        let (server, busy) = (server.clone(), activity.begin());
        async move {
            let response = match server.options.protocol {
                Protocol::Http => {
                    let response = exchange::answer(&server, client, request).await;
                    drop(busy);
                    response.map(Either::Left)
                }
                // Answers may last for as long as there is news.
                Protocol::Grpc => {
                    grpc::answer(&server, client, request, busy).await.map(Either::Right)
                }
            };
            Ok::<Response<Either<_, _>>, Infallible>(response)
        }
    });
    let builder = builder(&server);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

    let is_stopping = tokio::select! {
        biased;
        // An error is the client's affair: it went away, or spoke something else.
        _ = connection.as_mut() => return,
        () = activity.idle(server.options.limits.keep_alive) => false,
        () = server.progress.reached(Phase::Closing) => true,
    };
    connection.as_mut().graceful_shutdown();
    let given_up = async {
        match is_stopping {
            true => server.progress.reached(Phase::Aborting).await,
            false => tokio::time::sleep(LAST_WORDS).await,
        }
    };
    tokio::select! {
        biased;
        _ = connection => {}
        () = given_up => {}
    }
}

fn builder(server: &Shared) -> Builder<TokioExecutor> {
    let header_bytes = server.options.limits.header_bytes;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `Activity` watches over slow heads, with one timer for a connection, not for a request.
        .header_read_timeout(None)
        .max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX));
    builder
}

/// When something was last done for a connection.
struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    // Milliseconds after `opened` at which a request last ended.
    quiet_since: AtomicU64,
}

/// A request in flight.
pub(super) struct Busy(Arc<Activity>);

impl Default for Activity {
    fn default() -> Self {
        Activity {
            opened: Instant::now(),
            in_flight: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(0),
        }
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Waits until no request was in flight for so long.
    async fn idle(&self, limit: Duration) {
        loop {
            let quiet_since = Duration::from_millis(self.quiet_since.load(Ordering::Relaxed));
            let quiet_for = match self.in_flight.load(Ordering::Relaxed) {
                0 => self.opened.elapsed().saturating_sub(quiet_since),
                _ => Duration::ZERO,
            };
            if quiet_for >= limit {
                return;
            }
            tokio::time::sleep(limit - quiet_for).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet_since.store(now, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
