use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

const FIRST: u32 = 20_000;
const COUNT: u32 = 9_000;
/// A RocketMQ broker also takes the ports 2 below and 1 above its own, inside its container, where no look from outside would
/// show a clash with the next port given out.
const STEP: u32 = 5;

/// A port that nothing listens on now. Below the ephemeral range (from 32768), so that no outgoing connection takes it before
/// its user does; another process still may, so whoever binds it must be ready to ask for another one.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = process::id().wrapping_mul(37).wrapping_add(NEXT.fetch_add(STEP, Ordering::Relaxed));
        let port = (FIRST + nth % COUNT) as u16;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
