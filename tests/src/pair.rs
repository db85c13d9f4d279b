//! Controllers of their own processes with taps before etcd and Mesos, so that one leads and others stand by,
//! and everything they say is heard.

use rustix::process::Signal;

use crate::{
    Controller, Sandbox, eventually, signal,
    tap::{Server, Tap, Tape},
};

/// A controller behind its taps.
#[derive(Debug)]
pub struct Tapped {
    /// The process.
    pub controller: Controller,
    /// Its way to etcd.
    pub etcd: Tap,
    /// Its way to the master.
    pub mesos: Tap,
}

impl Sandbox {
    /// Starts a controller that can be heard on `tape`, and waits for nothing.
    ///
    /// # Panics
    /// When there is no process to be had.
    pub async fn spawn_tapped(&mut self, tape: &Tape) -> Tapped {
        let by = self.next_api();
        let upstream = self.etcd();
        let upstream = upstream.trim_start_matches("http://");
        let etcd = Tap::open(Server::Etcd, &by, upstream, tape).await;
        let mesos = Tap::open(Server::Mesos, &by, &self.master(), tape).await;
        // Each is a machine of its own, with a file of its own; executors go to etcd directly.
        let port = by.rsplit(':').next().unwrap_or_default();
        let state = self.scratch().join(format!("state-{port}")).display().to_string();
        let flags = [
            "--etcd",
            &format!("http://{}", etcd.address()),
            "--mesos",
            &mesos.address(),
            "--executor-etcd",
            &self.etcd(),
            "--state-file",
            &state,
        ];
        let controller = self.spawn_controller_with(&flags);
        Tapped { controller, etcd, mesos }
    }

    /// Who leads, by its API; empty while nobody does.
    pub async fn leader(&self) -> String {
        self.etcd_json("/overlord/leader").await["api"].as_str().unwrap_or_default().to_owned()
    }

    /// The epoch of whoever leads; 0 while nobody does.
    pub async fn epoch(&self) -> i64 {
        self.create_revision("/overlord/leader").await
    }

    /// Waits until one of these leads; which.
    ///
    /// # Panics
    /// When none does.
    pub async fn leading<'t>(&self, among: &'t [Tapped]) -> (usize, &'t Tapped) {
        eventually("one of the controllers leads", || async {
            let leader = self.leader().await;
            let leads = |(_, tapped): &(usize, &Tapped)| tapped.controller.api() == leader;
            among.iter().enumerate().find(leads).ok_or(leader)
        })
        .await
    }
}

impl Tapped {
    /// Its API, which is how others name it.
    pub fn api(&self) -> &str {
        self.controller.api()
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        signal(self.controller.pid(), Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        signal(self.controller.pid(), Signal::CONT);
    }
}
