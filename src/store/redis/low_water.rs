//! Sleeping until many bytes have come, and not only the first of them. Must not know RESP.
#![allow(unsafe_code, reason = "SO_RCVLOWAT has no safe interface; the one call is here")]

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{SO_RCVLOWAT, SOL_SOCKET, c_int, socklen_t};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until `bytes` have come, the connection has ended, or `slice` has passed. What went
/// wrong shows when it is read.
pub(super) fn wait_for(stream: &TcpStream, bytes: usize, slice: Duration) {
    let Ok(slice) = Timespec::try_from(slice) else { return };
    if set_low_water(stream, bytes) {
        let _ = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&slice));
        // Or a read would wait for as many.
        set_low_water(stream, 1);
    }
}

/// Has the system wake nobody before so many bytes are there; whether it agrees.
fn set_low_water(stream: &TcpStream, bytes: usize) -> bool {
    let Ok(bytes) = c_int::try_from(bytes) else { return false };
    let length = size_of::<c_int>() as socklen_t;
    // SAFETY: the pointer and the length are those of a live integer, which is only read.
    let outcome = unsafe {
        let value = (&raw const bytes).cast();
        libc::setsockopt(stream.as_raw_fd(), SOL_SOCKET, SO_RCVLOWAT, value, length)
    };
    outcome == 0
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn many_bytes_are_waited_for_and_any_are_read_afterwards() {
        let (mut client, mut server) = pair();
        let mut buffer = [0; 4_000];
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..3 {
                    server.write_all(&[7; 1_000]).unwrap();
                    thread::sleep(Duration::from_millis(20));
                }
                server.write_all(b"!").unwrap();
                thread::sleep(Duration::from_millis(20));
            });
            wait_for(&client, 3_000, Duration::from_secs(20));
            assert_eq!(client.peek(&mut buffer).unwrap(), 3_000);
            client.read_exact(&mut buffer[..3_000]).unwrap();
            assert_eq!(client.read(&mut buffer).unwrap(), 1);
        });
    }

    #[test]
    fn a_wait_ends_with_the_slice_and_with_the_connection() {
        let (mut client, mut server) = pair();
        server.write_all(&[7; 10]).unwrap();
        let began = Instant::now();
        wait_for(&client, 11, Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(client.read(&mut [0; 20]).unwrap(), 10);

        drop(server);
        wait_for(&client, 11, Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(30));
        assert_eq!(client.read(&mut [0; 20]).unwrap(), 0);
    }
}
