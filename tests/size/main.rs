//! Size: thousands of agents and tasks through model, client, book and controllers, in memory and in virtual
//! time. What is counted must grow as the number of tasks does; nothing is measured by a clock.
#![cfg(test)]

mod control;
mod counting;
mod launching;
mod long;
mod world;

use std::{net::Ipv4Addr, sync::Arc};

use overlord_sandbox::{AgentConfig, Launcher, Mesos, MesosConfig};
use overlord_tests::StubExecutors;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

/// A Mesos with so many agents and stub executors; it lives as long as the set of its tasks.
pub(crate) fn mesos(agents: u32) -> (Mesos, StubExecutors, JoinSet<()>) {
    let agent = |n: u32| AgentConfig {
        ip: Ipv4Addr::from(u32::from_be_bytes([10, 0, 0, 1]) + n).into(),
        port: 5051,
        cpus: 16.0,
        mem_mib: 65_536.0,
        disk_mib: 1_000_000.0,
        ports: vec![(20_000, 20_999)],
        attributes: vec![("rack".to_owned(), format!("r{}", n % 40))],
        ..AgentConfig::new(format!("agent-{n}"), "/var/lib/mesos")
    };
    let config = MesosConfig::new((0..agents).map(agent).collect(), 1);
    let stubs = StubExecutors::default();
    let launcher: Arc<dyn Launcher> = Arc::new(stubs.clone());
    let (mesos, driver) = Mesos::in_memory(&config, launcher);
    stubs.belong_to(&mesos);
    let mut running = JoinSet::new();
    running.spawn(driver);
    (mesos, stubs, running)
}

/// Runs in virtual time, on this thread.
pub(crate) fn virtually<T>(test: impl Future<Output = T>) -> T {
    runtime().block_on(test)
}

/// A runtime with virtual time, all on the thread that blocks on it.
pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime")
}
