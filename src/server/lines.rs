//! Lines of a log that are gathered and written a few times a second, elsewhere: no request waits
//! for who reads them.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often what has gathered is written.
const EVERY: Duration = Duration::from_millis(100);
/// Where nobody reads the log, the lines that are beyond this are counted and thrown away.
const MAX_BYTES: usize = 4 << 20;

/// Where the lines of one log go.
pub(super) struct Lines {
    name: &'static str,
    waiting: Arc<Mutex<Waiting>>,
    out: Arc<Mutex<dyn Write + Send>>,
}

#[derive(Default)]
struct Waiting {
    text: String,
    dropped: u64,
}

impl Lines {
    /// Those of the log with that name, which go to `out`.
    pub(super) fn new(name: &'static str, out: impl Write + Send + 'static) -> Self {
        Lines { name, waiting: Arc::default(), out: Arc::new(Mutex::new(out)) }
    }

    /// Has `write` write a line, its end included.
    pub(super) fn add(&self, write: impl FnOnce(&mut String)) {
        let mut waiting = lock(&self.waiting);
        match waiting.text.len() > MAX_BYTES {
            true => waiting.dropped += 1,
            false => write(&mut waiting.text),
        }
    }

    /// Writes what gathers, for ever.
    pub(super) async fn run(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if !lock(&self.waiting).text.is_empty() {
                self.flush().await;
            }
        }
    }

    /// Writes what has gathered, after what somebody else is writing, whom nobody may wait for any
    /// more.
    pub(super) async fn flush(&self) {
        let (name, waiting, out) = (self.name, self.waiting.clone(), self.out.clone());
        let write = move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            let Waiting { text, dropped } = std::mem::take(&mut *lock(&waiting));
            if dropped > 0 {
                log::warn!("{dropped} lines of the {name} are lost: nobody reads it");
            }
            // Standard output may be closed; there is nobody else to tell.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        };
        let _ = tokio::task::spawn_blocking(write).await;
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Whoever panicked left half a line at most.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use futures_util::FutureExt;

    use super::*;
    use crate::runtime;

    /// Says that it has been asked to write, and does so once it may.
    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.send(data.to_vec()).unwrap();
            self.1.recv().unwrap();
            Ok(data.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_last_lines_are_written_after_those_before() {
        let ((asked, written), (may, go)) = (channel(), channel());
        let lines = Arc::new(Lines::new("log", Slow(asked, go)));
        runtime::handle().unwrap().block_on(async {
            lines.add(|text| text.push_str("first\n"));
            let all = lines.clone();
            let looked_after = tokio::spawn(async move { all.run().await });
            assert_eq!(written.recv().unwrap(), b"first\n");
            looked_after.abort();
            let mut last = Box::pin(lines.flush());
            assert!((&mut last).now_or_never().is_none(), "somebody is writing still");
            lines.add(|text| text.push_str("last\n"));
            may.send(()).unwrap();
            may.send(()).unwrap();
            last.await;
        });
        assert_eq!(written.try_recv().unwrap(), b"last\n");
    }
}
