//! How much of the machine this process takes, as Linux tells in `/proc`; elsewhere nothing is
//! said.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ticks of `/proc/self/stat` in a second: a constant of Linux' interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// Two looks closer than this give the same CPU usage: its ticks are too coarse.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    cpu_seconds: f64,
    cpu_percent: f64,
}

impl Usage {
    /// CPU since the last look, in percent of one core; 0 at the first look.
    pub(super) fn cpu_percent(&self) -> Option<f64> {
        let cpu_seconds = cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now();
        let cpu_percent = match *last {
            None => 0.0,
            Some(last) if at - last.at < LOOK_EVERY => return Some(last.cpu_percent),
            Some(last) => {
                let elapsed = (at - last.at).as_secs_f64();
                (cpu_seconds - last.cpu_seconds).max(0.0) / elapsed * 100.0
            }
        };
        *last = Some(Seen { at, cpu_seconds, cpu_percent });
        Some(cpu_percent)
    }
}

/// The share of the machine's memory that is this process's, in percent.
pub(super) fn memory_percent() -> Option<f64> {
    let own = kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    let all = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    (all > 0.0).then(|| own / all * 100.0)
}

/// Of the text of `/proc/self/stat`: the time in user mode and in the kernel.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name of the process, in parentheses, may hold anything; what follows has no names.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let stat = "7 (a ) b (c) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(kilobytes("A: 1 kB\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_some_memory() {
        assert!(memory_percent().is_some_and(|percent| percent > 0.0 && percent < 100.0));
        assert_eq!(Usage::default().cpu_percent(), Some(0.0));
    }
}
