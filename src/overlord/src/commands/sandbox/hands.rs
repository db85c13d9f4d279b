//! What a fault can reach: Mesos, and the process of etcd.

use std::time::Duration;

use overlord_sandbox::{Etcd, EtcdConfig, EtcdError, FaultError, Mesos, supervisor::SupervisorPipe};
use tokio::sync::mpsc;

/// Orders to etcd that wait: it is broken by one at a time.
const ORDERS: usize = 4;

/// What can happen to etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EtcdFault {
    /// SIGKILL, and a new start after that time.
    Kill(Duration),
    /// SIGSTOP, and SIGCONT after that time.
    Pause(Duration),
}

/// For those who break things.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    pub(crate) mesos: Mesos,
    etcd: mpsc::Sender<EtcdFault>,
}

impl Hands {
    /// The hands, and where orders to etcd arrive.
    pub(crate) fn new(mesos: Mesos) -> (Self, mpsc::Receiver<EtcdFault>) {
        let (etcd, orders) = mpsc::channel(ORDERS);
        (Self { mesos, etcd }, orders)
    }

    /// Orders something of etcd.
    pub(crate) fn etcd(&self, fault: EtcdFault) -> Result<(), FaultError> {
        let busy = |_| FaultError::Refused("etcd is still busy with the last faults".to_owned());
        self.etcd.try_send(fault).map_err(busy)
    }
}

/// Why etcd is not there any more.
pub(crate) enum Gone {
    /// It ended, and nobody wanted that.
    Ended(std::io::Result<std::process::ExitStatus>),
    /// It did not start again.
    NotBack(EtcdError),
}

/// Breaks etcd as ordered; returns when it is gone for good.
pub(crate) async fn keep(
    etcd: &mut Option<Etcd>,
    config: &EtcdConfig,
    supervisor: &std::sync::Arc<SupervisorPipe>,
    mut orders: mpsc::Receiver<EtcdFault>,
) -> Gone {
    loop {
        let Some(running) = etcd.as_mut() else { return std::future::pending().await };
        let order = tokio::select! {
            biased;
            status = running.exited() => return Gone::Ended(status),
            order = orders.recv() => order,
        };
        match order {
            Some(EtcdFault::Pause(time)) => {
                running.pause();
                tokio::time::sleep(time).await;
                running.resume();
            }
            Some(EtcdFault::Kill(time)) => {
                // Whoever talks to it finds it at the same address again.
                let config = EtcdConfig { client_port: running.address().port(), ..config.clone() };
                if let Some(running) = etcd.take() {
                    running.kill().await;
                }
                tokio::time::sleep(time).await;
                match Etcd::start(&config, Some(std::sync::Arc::clone(supervisor))).await {
                    Ok(started) => *etcd = Some(started),
                    Err(error) => return Gone::NotBack(error),
                }
            }
            // Nobody is left who could order anything.
            None => return Gone::Ended(running.exited().await),
        }
    }
}
