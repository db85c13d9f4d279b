//! Our client of Mesos: HTTP transport, driver, offer book, carving; launches as fast as it can.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use overlord_mesos::{
    Command, HttpConfig, HttpScheduler, OfferBook, OfferBookConfig, SchedulerConfig, SchedulerEvent,
    SchedulerHandle, resources, scheduler,
    v1::{OfferId, TaskState, TaskStatus, scheduler::Operation},
};
use overlord_reconcile::{Clock as _, SystemClock};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Launched,
    load::{CALLS_AT_ONCE, HOLD, TASKS, launch},
    master::Master,
};
use crate::{Failure, proc::cpu};

/// A subscribed client.
pub(crate) struct Client {
    handle: SchedulerHandle,
    events: mpsc::Receiver<SchedulerEvent>,
    book: OfferBook,
    clock: SystemClock,
    shutdown: CancellationToken,
    _driver: JoinSet<()>,
}

type Called = BoxFuture<'static, Result<(), overlord_mesos::CallError>>;

impl Client {
    pub(crate) fn new(master: &Master, clock: SystemClock) -> Result<Self, Failure> {
        let transport = HttpScheduler::new([master.address.to_string()], HttpConfig::default())?;
        let config = SchedulerConfig::new("root", "bench", vec!["*".to_owned()], HOLD);
        let (handle, driver, events) = scheduler(config, Arc::new(transport), 1);
        let config = OfferBookConfig { hold: HOLD, ..OfferBookConfig::default() };
        let mut book = OfferBook::new(config, ["*"]);
        book.want("*");
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(driver.run(shutdown.clone()));
        Ok(Self { handle, events, book, clock, shutdown, _driver: running })
    }

    async fn next(&mut self) -> Result<SchedulerEvent, Failure> {
        let event = self.events.recv().await.ok_or("the events ended")?;
        if let SchedulerEvent::Disconnected { reason } | SchedulerEvent::Refused { message: reason } = &event
        {
            return Err(format!("not subscribed: {reason}").into());
        }
        Ok(event)
    }

    /// Waits until the book holds that many offers.
    async fn booked(&mut self, offers: usize) -> Result<(), Failure> {
        while self.book.len() < offers {
            if let SchedulerEvent::Offers { offers, .. } = self.next().await? {
                self.book.insert(offers, self.clock.monotonic());
            }
        }
        Ok(())
    }

    /// From REVIVE until every agent's offer is in the book, `rounds` times.
    pub(crate) async fn revived(&mut self, agents: usize, rounds: usize) -> Result<Vec<Duration>, Failure> {
        self.booked(agents).await?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let all: Vec<OfferId> = self.book.offers().map(|offer| offer.id.clone()).collect();
            self.book.take(&all);
            self.handle.decline(all, 0.0).await?;
            let start = self.clock.monotonic();
            let handle = self.handle.clone();
            let revive = async { handle.carry_out(Command::Revive { roles: vec!["*".to_owned()] }).await };
            let (revived, booked) = tokio::join!(revive, self.booked(agents));
            revived?;
            booked?;
            times.push(self.clock.monotonic().saturating_sub(start));
        }
        Ok(times)
    }

    /// From SUBSCRIBE until every task runs and every update is acknowledged.
    pub(crate) async fn launch_all(mut self, agents: usize) -> Result<Launched, Failure> {
        let (start, before) = (self.clock.monotonic(), cpu(std::process::id()));
        let wanted = agents * usize::from(TASKS);
        let mut calls: FuturesUnordered<Called> = FuturesUnordered::new();
        let mut accepts: VecDeque<(Vec<OfferId>, Operation)> = VecDeque::new();
        let mut updates: VecDeque<TaskStatus> = VecDeque::new();
        let (mut running, mut accepted) = (0, None);
        let mut left = agents;
        while running < wanted || !updates.is_empty() || !calls.is_empty() {
            while calls.len() < CALLS_AT_ONCE {
                let handle = self.handle.clone();
                if let Some((offers, operation)) = accepts.pop_front() {
                    calls.push(Box::pin(async move { handle.accept(offers, vec![operation], 0.0).await }));
                } else if let Some(status) = updates.pop_front() {
                    calls.push(Box::pin(async move { handle.acknowledge(&status).await }));
                } else {
                    break;
                }
            }
            tokio::select! {
                biased;
                Some(called) = calls.next() => called?,
                event = self.next() => match event? {
                    SchedulerEvent::Offers { offers, .. } => {
                        self.book.insert(offers, self.clock.monotonic());
                        let groups: Vec<Vec<OfferId>> = self.book.by_agent().into_values()
                            .map(|offers| offers.into_iter().map(|offer| offer.id.clone()).collect())
                            .collect();
                        for ids in groups.into_iter().take(left) {
                            let Some(taken) = self.book.take(&ids) else { continue };
                            let Some(first) = taken.first() else { continue };
                            left -= 1;
                            accepts.push_back((ids, launch(&first.agent_id, &resources::combine(&taken)?)?));
                        }
                    }
                    SchedulerEvent::Update(status) => {
                        running += usize::from(status.state == TaskState::Running);
                        if !matches!(status.state, TaskState::Starting | TaskState::Running) {
                            return Err(format!("{}: {} {:?}", status.task_id, status.state, status.message).into());
                        }
                        updates.push_back(status);
                    }
                    _ => {}
                },
            }
            if accepted.is_none() && left == 0 && accepts.is_empty() {
                accepted = Some(self.clock.monotonic().saturating_sub(start));
            }
        }
        let whole = self.clock.monotonic().saturating_sub(start);
        let used = cpu(std::process::id()).saturating_sub(before);
        self.shutdown.cancel();
        Ok(Launched { tasks: wanted, accepted: accepted.unwrap_or(whole), whole, cpu: used })
    }
}
