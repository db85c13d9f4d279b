//! A sandbox of its own for each case: two agents as the captures had, and the time-outs of their flags.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use overlord_conformance::{
    run::Factory,
    target::{Action, Masters, Setup, Target},
};
use overlord_sandbox::{AgentConfig, Credentials, Mesos, MesosConfig, Processes, RunningMesos};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The captures' allocator works once a second; a case need not wait that long.
const ALLOCATION: Duration = Duration::from_millis(250);

/// `--zk_session_timeout`
const SESSION: Duration = Duration::from_secs(10);

struct Sandbox {
    running: RunningMesos,
    /// Whether a new master knows what the old one wrote down.
    remembers: bool,
    scale: f64,
    agents: usize,
    _stop: DropGuard,
    _directory: tempfile::TempDir,
}

/// Starts them.
pub(crate) fn factory() -> Factory {
    Arc::new(|setup| {
        Box::pin(async move { start(setup).await.map(|sandbox| Box::new(sandbox) as Box<dyn Target>) })
    })
}

async fn start(setup: Setup) -> Result<Sandbox, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let last = if setup.alone { 1 } else { 2 };
    let agents: Vec<AgentConfig> = (1_u8..=last)
        .map(|number| AgentConfig {
            attributes: vec![
                ("rack".to_owned(), format!("r{number}")),
                ("slot".to_owned(), number.to_string()),
            ],
            // Maintenance tells machines apart by their names.
            hostname: Some(format!("127.0.0.{number}")),
            ..AgentConfig::new(format!("agent{number}"), directory.path().join(format!("agent{number}")))
        })
        .collect();
    let count = agents.len();
    let mut config = MesosConfig::new(agents, 1);
    config.ping_timeout = setup.ping;
    config.state_dir = Some(directory.path().join("master"));
    config.timings.allocation = ALLOCATION;
    config.timings.heartbeat = config.timings.heartbeat.div_f64(setup.scale);
    config.timings.update_retry = config.timings.update_retry.div_f64(setup.scale);
    config.leaderless = setup.masters == Masters::Leaderless;
    config.offer_timeout = setup.offer_timeout;
    config.http_command_executor = setup.http_command_executor;
    let credentials = setup.credentials.into_iter();
    config.credentials = credentials
        .map(|(principal, secret)| Credentials { principal: principal.to_owned(), secret: secret.to_owned() })
        .collect();
    if setup.masters == Masters::Two {
        config.followers = vec![([127, 0, 0, 1], 0).into()];
        // Later than the framework, as in the recording.
        config.timings.agents_return = Some(Duration::from_millis(500));
    }
    if let Some(recovery) = setup.recovery {
        config.timings.recovery = recovery;
    }
    if let Some(registration) = setup.registration {
        config.timings.registration = registration;
    }
    config.timings.agents_return = setup.agents_return;
    let stop = CancellationToken::new();
    let running = Mesos::start_http(config, Arc::new(Processes::new(None)), stop.clone()).await;
    let running = running.map_err(|error| error.to_string())?;
    Ok(Sandbox {
        running,
        remembers: !setup.forgets,
        scale: 1.0 / setup.scale,
        agents: count,
        _stop: stop.drop_guard(),
        _directory: directory,
    })
}

impl Sandbox {
    fn name_of(&self, agent: &str) -> Result<String, String> {
        let all = self.running.mesos.agents();
        let found = all.iter().find(|view| view.id.as_str() == agent);
        found.map(|view| view.name.clone()).ok_or_else(|| format!("no agent has the id {agent}"))
    }
}

impl Target for Sandbox {
    fn master(&self, captured: &str) -> SocketAddr {
        // The recorder's second master listened on 5260.
        let follower = self.running.followers.first().filter(|_| captured.ends_with(":5260"));
        follower.copied().unwrap_or(self.running.master_addr)
    }

    fn agents(&self) -> usize {
        self.agents
    }

    fn is_own(&self) -> bool {
        true
    }

    fn tear_down<'a>(&'a self, _framework: &'a str) -> BoxFuture<'a, ()> {
        // The whole sandbox goes.
        Box::pin(std::future::ready(()))
    }

    fn scale(&self) -> f64 {
        self.scale
    }

    fn control<'a>(&'a self, action: Action, argument: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let mesos = &self.running.mesos;
            let done = match action {
                Action::AgentKill => mesos.agent_kill(&self.name_of(argument)?),
                Action::AgentStart => mesos.agent_return(&self.name_of(argument)?),
                Action::AgentRestart => mesos.agent_restart(&self.name_of(argument)?),
                Action::AgentNew => mesos.agent_new_id(&self.name_of(argument)?),
                Action::AgentUnregister => mesos.agent_unregister(&self.name_of(argument)?),
                // Where masters elect each other, the next one leads when the dead one's session is over.
                Action::MasterKill if !self.running.followers.is_empty() => {
                    let session = SESSION.mul_f64(self.scale);
                    if self.remembers {
                        mesos.master_failover(session);
                    } else {
                        mesos.master_failover_forgetting(session);
                    }
                    true
                }
                Action::MasterStart if !self.running.followers.is_empty() => true,
                Action::MasterKill => {
                    mesos.master_kill();
                    true
                }
                Action::MasterStart => {
                    mesos.master_start(self.remembers);
                    true
                }
                other => return Err(format!("the sandbox cannot do {other} yet")),
            };
            if done { Ok(String::new()) } else { Err(format!("{action} {argument} was refused")) }
        })
    }
}
