//! A master that is already there: `OVERLORD_MESOS_MASTER`, and `OVERLORD_MESOS_CONTROL` for what frameworks cannot
//! do.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::{process::Command, sync::mpsc, time::timeout};

use crate::{
    model::{Request, What},
    target::{Action, Target},
    wire::Connection,
};

/// A restart of master and agents has to be done by then.
const FOR_CONTROL: Duration = Duration::from_secs(180);
const FOR_ANSWER: Duration = Duration::from_secs(10);

/// A master that is already there.
#[derive(Debug, Clone)]
pub struct External {
    address: SocketAddr,
    control: Option<String>,
    agents: usize,
    standby: Option<SocketAddr>,
}

impl External {
    /// Asks the master how many agents it has.
    pub async fn find(address: SocketAddr, control: Option<String>) -> Result<Self, String> {
        let body = request(address, "GET", "/master/slaves", "").await?;
        let state: Value =
            serde_json::from_str(&body).map_err(|e| format!("{address} is no Mesos master: {e}"))?;
        let agents = state.get("slaves").and_then(Value::as_array).map_or(0, Vec::len);
        if agents == 0 {
            return Err(format!("the master at {address} has no agent"));
        }
        Ok(Self { address, control, agents, standby: None })
    }

    /// Whether there is a control script.
    pub fn has_control(&self) -> bool {
        self.control.is_some()
    }

    /// With a second master, whose address the control script gave.
    #[must_use]
    pub fn with_standby(mut self, standby: SocketAddr) -> Self {
        self.standby = Some(standby);
        self
    }
}

impl Target for External {
    fn master(&self, captured: &str) -> SocketAddr {
        // The captures' standby masters listen on 5260 and 5270.
        let standby = self.standby.filter(|_| captured.ends_with(":5260") || captured.ends_with(":5270"));
        standby.unwrap_or(self.address)
    }

    fn agents(&self) -> usize {
        self.agents
    }

    fn is_own(&self) -> bool {
        false
    }

    fn scale(&self) -> f64 {
        1.0
    }

    fn tear_down<'a>(&'a self, framework: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let body = format!("frameworkId={framework}");
            // It may be gone already, which is just as well.
            drop(request(self.address, "POST", "/master/teardown", &body).await);
        })
    }

    fn control<'a>(&'a self, action: Action, argument: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let script = self.control.as_deref().ok_or("OVERLORD_MESOS_CONTROL is not set")?;
            let mut command = Command::new(script);
            command.arg(action.to_string()).arg(argument).stdin(Stdio::null()).kill_on_drop(true);
            let output = timeout(FOR_CONTROL, command.output()).await;
            let output = output.map_err(|_| format!("{script} {action} took more than {FOR_CONTROL:?}"))?;
            let output = output.map_err(|error| format!("cannot run {script}: {error}"))?;
            let said = String::from_utf8_lossy(if output.status.success() {
                &output.stdout
            } else {
                &output.stderr
            });
            let said = said.trim().to_owned();
            if output.status.success() {
                Ok(said)
            } else {
                Err(format!("{script} {action} {argument}: {said}"))
            }
        })
    }
}

/// One request and the body of its answer.
pub async fn request(to: SocketAddr, method: &str, path: &str, body: &str) -> Result<String, String> {
    let head = vec![
        format!("{method} {path} HTTP/1.1"),
        format!("Host: {to}"),
        "Content-Type: application/x-www-form-urlencoded".to_owned(),
        format!("Content-Length: {}", body.len()),
    ];
    let request = Request { to: None, head, body: body.to_owned() };
    let (sink, mut source) = mpsc::unbounded_channel();
    let connection = Connection::open("", to, &request, sink);
    let answer = timeout(FOR_ANSWER, async {
        let mut text = String::new();
        while let Some(received) = source.recv().await {
            match received.what {
                What::Body(body) => return body,
                What::Head(head) if head.header("content-length") == Some("0") => return text,
                What::Note(note) => text = note,
                What::Eof => return text,
                _ => {}
            }
        }
        text
    });
    let answer = answer.await.map_err(|_| format!("no answer from {to} in {FOR_ANSWER:?}"));
    connection.close();
    answer
}
