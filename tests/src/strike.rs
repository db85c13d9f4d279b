//! Hurting a sandbox: hosts that go down with all that is on them, an etcd without space.

use rustix::process::Signal;
use serde_json::json;

use crate::{Sandbox, eventually, processes_in, signal};

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

    /// Raises the alarm that etcd raises when its quota is exceeded: it takes no writes until it is disarmed.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn fill_etcd(&self) -> Result<(), String> {
        let url = format!("{}/v3/maintenance/alarm", self.etcd());
        let alarm = json!({"action": "ACTIVATE", "alarm": "NOSPACE"});
        let answer = self.http().post(url).json(&alarm).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Ends the alarm of the etcd there, as soon as it answers: what is done with it once there is room.
///
/// # Panics
/// When it does not answer.
pub async fn disarm(etcd: &str) {
    eventually("the alarm is disarmed", || async {
        let mut command = tokio::process::Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={etcd}")).args(["alarm", "disarm"]);
        let output = command.kill_on_drop(true).output().await.map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
}
