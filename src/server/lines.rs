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
    waiting: Mutex<Waiting>,
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
        Lines { name, waiting: Mutex::default(), out: Arc::new(Mutex::new(out)) }
    }

    /// Has `write` write a line, its end included.
    pub(super) fn add(&self, write: impl FnOnce(&mut String)) {
        let mut waiting = self.lock();
        match waiting.text.len() > MAX_BYTES {
            true => waiting.dropped += 1,
            false => write(&mut waiting.text),
        }
    }

    /// Writes what gathers, for ever.
    pub(super) async fn run(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.flush().await;
        }
    }

    /// Writes what has gathered.
    pub(super) async fn flush(&self) {
        let mut text = {
            let mut waiting = self.lock();
            if waiting.text.is_empty() {
                return;
            }
            let Waiting { text, dropped } = std::mem::take(&mut *waiting);
            if dropped > 0 {
                log::warn!("{dropped} lines of the {} are lost: nobody reads it", self.name);
            }
            text.into_bytes()
        };
        let out = self.out.clone();
        let write = move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            // Standard output may be closed; there is nobody else to tell.
            let _ = out.write_all(&text).and_then(|()| out.flush());
            text.clear();
        };
        let _ = tokio::task::spawn_blocking(write).await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked left half a line at most.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
