//! A /24 of loopback addresses for each sandbox, so that many run side by side.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// A /24 of loopback addresses nobody else uses: held by a listener on its last address.
#[derive(Debug)]
pub struct Network {
    first: Ipv4Addr,
    _held: TcpListener,
}

impl Network {
    /// Takes the next free one.
    ///
    /// # Panics
    /// When all are taken.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub fn take() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id();
        (0..60_000_u32)
            .find_map(|_| {
                let n = start.wrapping_mul(251).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 60_000;
                let [_, _, b, c] = (n + 256).to_be_bytes();
                let held = TcpListener::bind((Ipv4Addr::new(127, b, c, 254), 19_999)).ok()?;
                Some(Self { first: Ipv4Addr::new(127, b, c, 0), _held: held })
            })
            .expect("a free loopback network")
    }

    /// Address `n` of it; 0 names the network itself.
    pub const fn ip(&self, n: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.first.octets();
        Ipv4Addr::new(a, b, c, n)
    }
}
