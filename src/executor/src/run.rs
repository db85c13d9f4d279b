//! The life of an executor: orders of the agent and news of the host go into the [`Keeper`], what it
//! decides is carried out here. Everything runs on the caller's task, in an order that depends on
//! nothing but the order of events.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use overlord_api::{Address, ClusterName, NUDGE, SPEAK, Sighting, StoreMark};
use overlord_mesos::{
    ExecutorEnv, ExecutorEvent, ExecutorHandle, ExecutorTransport, executor,
    v1::{TaskId, TaskInfo},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Exit, Instances, Limits, Machine, Started,
    keeper::{AgentLoss, Effect, Input, Keeper, Task},
    machine::chain,
    report::Status,
};

/// The label of a Mesos task that names its cluster.
pub const CLUSTER_LABEL: &str = "overlord_cluster";

/// The label of a Mesos task that says how far the store was when it was launched.
const STORE_LABEL: &str = "overlord_store_revision";

/// How long the last report may take to reach an agent that keeps no record of its executors.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// The same when the agent is gone or going: the host ends the executor, or it stopped for want of an agent.
const STOPPED_FLUSH: Duration = Duration::from_secs(1);

/// An executor's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the agent says.
    pub env: ExecutorEnv,
    /// The bounds of its patience.
    pub limits: Limits,
    /// For update ids and jitter; must differ between executors.
    pub seed: u64,
    /// Cancelled when the executor is told to end by its host: taken like SHUTDOWN.
    pub stop: CancellationToken,
}

/// Why an executor ended without having told everything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client ended by itself.
    #[error("the connection to the Mesos agent was given up")]
    Client,
    /// The agent did not take the last reports.
    #[error("the Mesos agent did not take the last {0} reports")]
    Untold(usize),
}

/// What a job came to.
struct News {
    input: Input,
    /// A server that was started on the way.
    started: Option<(u64, BoxFuture<'static, Exit>)>,
}

impl From<Input> for News {
    fn from(input: Input) -> Self {
        Self { input, started: None }
    }
}

type Job = BoxFuture<'static, News>;

/// Keeps one instance until its Mesos task has ended and the agent knows it.
///
/// An agent that restarts ends nothing: the server goes on serving, and the subscription is tried until the agent
/// takes it again. What happens when it is gone for longer than its recovery timeout is up to the spec. The server
/// ends in order when the agent is there and does not know this executor, or keeps no record of what it runs. Whoever
/// drops the future leaves the server running.
pub async fn run(
    config: Config,
    transport: Arc<dyn ExecutorTransport>,
    instances: Arc<dyn Instances>,
    machine: Arc<dyn Machine>,
) -> Result<(), Error> {
    let Config { env, limits, seed, stop: told_to_stop } = config;
    let patience = if env.checkpoint { env.recovery_timeout.max(FLUSH_TIMEOUT) } else { FLUSH_TIMEOUT };
    let limits = Limits {
        // The agent kills what is left at the end of its grace period.
        shutdown_grace: limits.shutdown_grace.min(env.shutdown_grace_period.mul_f64(0.8)),
        ..limits
    };
    let loss = if env.checkpoint {
        AgentLoss { waited: env.recovery_timeout, recoverable: true }
    } else {
        AgentLoss { waited: Duration::ZERO, recoverable: false }
    };
    let (handle, driver, mut events) = executor(env, transport, seed);
    let stop = CancellationToken::new();
    let mut driver = pin!(driver.run(stop.clone()));
    let mut keeper = Keeper::new(limits, seed.rotate_left(32));
    let mut stopping = false;
    // Whether there is an agent that would hear us.
    let mut away = false;
    let mut hands = Hands { handle, instances, machine, jobs: FuturesUnordered::new(), preparing: None };

    loop {
        let news = tokio::select! {
            biased;
            () = &mut driver => return Err(Error::Client),
            () = told_to_stop.cancelled(), if !stopping => {
                stopping = true;
                Input::Shutdown.into()
            }
            event = events.recv() => {
                let Some(event) = event else { return Err(Error::Client) };
                if let ExecutorEvent::Launch(task) = &event
                    && let Some(mark) = store_mark_of(task)
                {
                    hands.instances.store_was_at(mark);
                }
                away = is_away(&event).unwrap_or(away);
                match input_of(event, hands.handle.unconfirmed(), &loss) {
                    Some(input) => input.into(),
                    None => continue,
                }
            }
            news = hands.news() => news,
        };
        if let Some((run, exit)) = news.started {
            hands.jobs.push(exit.map(move |exit| Input::Exited { run, exit }.into()).boxed());
        }
        let mut finished = false;
        for effect in keeper.step(news.input) {
            finished |= effect == Effect::Finish;
            hands.carry_out(effect);
        }
        if finished {
            break;
        }
    }

    let told = {
        let patience = if stopping || away { STOPPED_FLUSH } else { patience };
        let mut told = pin!(timeout(patience, hands.handle.flushed()));
        loop {
            tokio::select! {
                biased;
                () = &mut driver => return Err(Error::Client),
                told = &mut told => break matches!(told, Ok(Ok(()))),
                () = told_to_stop.cancelled(), if !stopping => {
                    stopping = true;
                    told.set(timeout(STOPPED_FLUSH, hands.handle.flushed()));
                }
                // Orders come too late; left standing they would hold up the confirmations behind them.
                Some(event) = events.recv() => {
                    if is_away(&event) == Some(true) {
                        told.set(timeout(STOPPED_FLUSH, hands.handle.flushed()));
                    }
                }
            }
        }
    };
    stop.cancel();
    driver.await;
    if told { Ok(()) } else { Err(Error::Untold(hands.handle.unconfirmed())) }
}

/// Carries out effects.
struct Hands {
    handle: ExecutorHandle,
    instances: Arc<dyn Instances>,
    machine: Arc<dyn Machine>,
    jobs: FuturesUnordered<Job>,
    /// Apart from the others, because it can be given up.
    preparing: Option<Job>,
}

impl Hands {
    /// The next thing that a job brings; waits for ever when there is none.
    async fn news(&mut self) -> News {
        let Self { jobs, preparing, .. } = self;
        let news = tokio::select! {
            biased;
            news = async {
                match preparing.as_mut() {
                    Some(job) => job.await,
                    None => std::future::pending().await,
                }
            } => {
                *preparing = None;
                return news;
            }
            news = jobs.next(), if !jobs.is_empty() => news,
            () = std::future::pending() => None,
        };
        match news {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let machine = Arc::clone(&self.machine);
        match effect {
            Effect::Report { task_id, status } => self.report(&task_id, &status),
            Effect::Read { number, cluster, address } => {
                let instances = Arc::clone(&self.instances);
                self.spawn(async move {
                    let keys = instances.read(&cluster, address).await.map_err(|error| chain(&error));
                    Input::Read { number, keys }
                });
            }
            Effect::Prepare { instance, conf } => {
                let job = async move {
                    let result = machine.prepare(&instance, &conf).await;
                    Input::Prepared(result.map_err(|error| chain(&error))).into()
                };
                self.preparing = Some(job.boxed());
            }
            Effect::AbandonPrepare => self.preparing = None,
            Effect::Gate { run, instance, request } => self.spawn(async move {
                let clearance = machine.gate(&instance, &request).await;
                Input::Gated { run, clearance: clearance.map_err(|error| chain(&error)) }
            }),
            Effect::Start { run, instance, conf, nodes_conf } => {
                let job = async move {
                    let start = async {
                        if let Some(conf) = conf {
                            machine.write_conf(&instance, &conf).await?;
                        }
                        if let Some(text) = nodes_conf {
                            machine.write_nodes_conf(&instance, &text).await?;
                        }
                        machine.start(&instance).await
                    };
                    match start.await {
                        Ok(Started { pid, exit }) => {
                            News { input: Input::Started { run, pid: Ok(pid) }, started: Some((run, exit)) }
                        }
                        Err(error) => Input::Started { run, pid: Err(chain(&error)) }.into(),
                    }
                };
                self.jobs.push(job.boxed());
            }
            Effect::Probe { run, instance, after } => self.spawn(async move {
                sleep(after).await;
                let health = machine.probe(&instance).await.map_err(|error| error.to_string());
                Input::Probed { run, health }
            }),
            Effect::Apply { instance, started, old, new } => self.spawn(async move {
                Input::Applied(crate::reconfigure::apply(&*machine, &instance, &started, &old, &new).await)
            }),
            Effect::Signal { pid, signal } => machine.signal(pid, signal),
            Effect::Arm { timer, number, after } => self.spawn(async move {
                sleep(after).await;
                Input::Elapsed(timer, number)
            }),
            Effect::CleanUp { instance, disposal } => self.spawn(async move {
                if let Err(error) = machine.clean_up(&instance, disposal).await {
                    tracing::warn!(error = chain(&error), "cannot clean up");
                }
                Input::CleanedUp
            }),
            Effect::Finish => {}
        }
    }

    fn spawn(&self, job: impl Future<Output = Input> + Send + 'static) {
        self.jobs.push(job.map(News::from).boxed());
    }

    fn report(&self, task_id: &str, status: &Status) {
        let mut status = status.clone();
        // Not a reason to report, but told whenever there is one.
        if let Some(Sighting { mark, term, went_back }) = self.instances.seen() {
            status.report.store = Some(mark);
            status.report.store_term = term;
            status.report.store_went_back = went_back;
        }
        let Status { state, report } = &status;
        tracing::info!(state = %state, instance = %report.state, message = report.message, "report");
        let data = Bytes::from(status.data());
        if let Err(error) = self.handle.update(&TaskId::new(task_id), *state, report.message.clone(), data) {
            tracing::error!(%error, "a report was not taken");
        }
    }
}

/// Whether an event says that there is no agent for us, or that there is one.
const fn is_away(event: &ExecutorEvent) -> Option<bool> {
    match event {
        ExecutorEvent::AgentLost | ExecutorEvent::Disowned(_) => Some(true),
        ExecutorEvent::Subscribed(_) => Some(false),
        _ => None,
    }
}

/// What an order of the agent means to the keeper, while so many reports wait for the agent.
fn input_of(event: ExecutorEvent, unconfirmed: usize, loss: &AgentLoss) -> Option<Input> {
    match event {
        ExecutorEvent::Launch(task) => Some(Input::Launch(task.task_id.value.clone(), task_of(&task))),
        ExecutorEvent::LaunchGroup(tasks) => {
            Some(Input::LaunchGroup(tasks.into_iter().map(|task| task.task_id.value).collect()))
        }
        ExecutorEvent::Kill { task_id, grace } => Some(Input::Kill { task_id: task_id.value, grace }),
        ExecutorEvent::Shutdown => Some(Input::Shutdown),
        ExecutorEvent::Message(bytes) if bytes == NUDGE => Some(Input::Nudge),
        ExecutorEvent::Message(bytes) if bytes == SPEAK => Some(Input::Speak),
        ExecutorEvent::Subscribed(_) => Some(Input::Subscribed { all_told: unconfirmed == 0 }),
        ExecutorEvent::Message(bytes) => {
            tracing::warn!(bytes = bytes.len(), "a message that this build does not know is ignored");
            None
        }
        ExecutorEvent::AgentLost => Some(Input::AgentLost(loss.clone())),
        ExecutorEvent::Disowned(words) => Some(Input::Disowned(words)),
        ExecutorEvent::Acknowledged(_) => None,
    }
}

/// How far the store was when a Mesos task was launched.
fn store_mark_of(info: &TaskInfo) -> Option<StoreMark> {
    let labels = &info.labels.as_ref()?.labels;
    labels.iter().find(|label| label.key == STORE_LABEL)?.value.as_ref()?.parse().ok()
}

/// Reads a Mesos task, or says what is wrong with it.
fn task_of(info: &TaskInfo) -> Result<Task, String> {
    let labels: BTreeMap<&str, &str> = info
        .labels
        .iter()
        .flat_map(|labels| &labels.labels)
        .filter_map(|label| Some((label.key.as_str(), label.value.as_deref()?)))
        .collect();
    let cluster =
        labels.get(CLUSTER_LABEL).ok_or_else(|| format!("the Mesos task has no label {CLUSTER_LABEL}"))?;
    let cluster = ClusterName::new(*cluster).map_err(|error| format!("label {CLUSTER_LABEL}: {error}"))?;
    let data = STANDARD.decode(info.data.as_deref().unwrap_or_default());
    let data = data.map_err(|_| "the data of the Mesos task is not base64".to_owned())?;
    let address: Address = String::from_utf8_lossy(&data)
        .parse()
        .map_err(|error| format!("the data of the Mesos task: {error}"))?;
    let grace = info.kill_policy.and_then(|policy| policy.grace_period);
    let grace = grace.and_then(|grace| u64::try_from(grace.nanoseconds).ok()).map(Duration::from_nanos);
    Ok(Task { id: info.task_id.value.clone(), cluster, address, grace })
}

#[cfg(test)]
mod tests {
    use overlord_mesos::v1::{DurationInfo, KillPolicy, Label, Labels};

    use super::*;

    fn info(cluster: Option<&str>, data: &str) -> TaskInfo {
        let label = |value: &str| Label { key: CLUSTER_LABEL.to_owned(), value: Some(value.to_owned()) };
        TaskInfo {
            task_id: TaskId::new("t.1"),
            data: Some(STANDARD.encode(data)),
            labels: cluster.map(|cluster| Labels { labels: vec![label(cluster)] }),
            kill_policy: Some(KillPolicy { grace_period: Some(DurationInfo { nanoseconds: 7_000_000_000 }) }),
            ..TaskInfo::default()
        }
    }

    #[test]
    fn a_mesos_task_names_cluster_address_and_grace() {
        let task = task_of(&info(Some("orders"), "127.0.0.1:20001")).unwrap();
        assert_eq!((task.cluster.as_str(), task.address.port), ("orders", 20001));
        assert_eq!(task.grace, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_mesos_task_that_names_nothing_is_refused_with_the_reason() {
        assert!(task_of(&info(None, "127.0.0.1:20001")).unwrap_err().contains("overlord_cluster"));
        assert!(task_of(&info(Some("../x"), "127.0.0.1:20001")).unwrap_err().contains("overlord_cluster"));
        assert!(task_of(&info(Some("orders"), "elsewhere")).unwrap_err().contains("elsewhere"));
    }
}
