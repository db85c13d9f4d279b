//! Hurting a sandbox: hosts that go down with all that is on them.

use rustix::process::Signal;

use crate::{Sandbox, processes_in, signal};

impl Sandbox {
    /// Every process on agent `n`: executors, servers.
    pub fn processes_on(&self, n: u8) -> Vec<(u32, String)> {
        processes_in(&self.root().join(format!("agents/agent-{n}")))
    }

    /// The host of agent `n` is off: nobody hears of the agent, and all its processes are gone.
    pub async fn host_off(&self, n: u8) {
        self.fault("agent-lost", n).await;
        for (pid, _) in self.processes_on(n) {
            signal(pid, Signal::KILL);
        }
    }

    /// It is on again: its agent starts, with what is on its disk.
    pub async fn host_on(&self, n: u8) {
        self.fault("agent-return", n).await;
    }
}
