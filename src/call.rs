//! What accompanies one call into the core from its caller: a deadline, and a way to be
//! asked to stop; and the present, which it is judged by. It must not know who asks: Python's signals come in through [`Interrupt`].

use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, ErrorKind, Result};

/// The longest that a blocking wait may last before [`Call::check`] is asked again.
pub const WAIT_SLICE: Duration = Duration::from_millis(100);

/// The present, microseconds since the epoch.
pub fn now_micros() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

/// Asked now and then, on the thread that made the call, whether to go on.
pub trait Interrupt: Sync {
    /// `Err` (of kind [`ErrorKind::Interrupted`]) when the caller wants to stop.
    fn check(&self) -> Result<()>;
}

/// Never asks to stop.
pub struct Uninterrupted;

impl Interrupt for Uninterrupted {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// One call: everything it does, retries included, ends by `deadline`.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// When the call must have ended. `None`: no limit for the whole (each wait on a
    /// store still has that store's own timeout).
    pub deadline: Option<Instant>,
    /// Asked at least every [`WAIT_SLICE`].
    pub interrupt: &'a dyn Interrupt,
}

impl Call<'static> {
    /// No deadline and no interrupts: for tests, benches and programs without signals.
    pub fn unlimited() -> Self {
        Call { deadline: None, interrupt: &Uninterrupted }
    }
}

impl Call<'_> {
    /// `Err` when the caller asked to stop or the deadline has passed.
    pub fn check(&self) -> Result<()> {
        self.interrupt.check()?;
        self.check_deadline()
    }

    /// `Err` when the deadline has passed. Costs next to nothing, where asking for interrupts
    /// may have to wait for other threads.
    pub fn check_deadline(&self) -> Result<()> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(deadline_has_passed()),
            _ => Ok(()),
        }
    }
}

/// The error of a call whose time is over.
#[cold]
pub fn deadline_has_passed() -> Error {
    Error::new(
        ErrorKind::StoreTimeout,
        "the call's deadline has passed; raise the timeout or ask for less at once",
    )
}
