//! Whatever an agent does, it hears every update, in order, and nothing after the last one of a task.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::v1::executor::Update;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Launch(u8),
    Report(u8, TaskState),
    /// So many confirmations are lost from now on.
    LoseConfirmations(u8),
    /// So many UPDATEs do not arrive.
    LoseUpdates(u8),
    /// So many UPDATEs arrive, and the answer does not.
    LoseAnswers(u8),
    /// So many UPDATEs are answered with this status.
    Refuse(u8, u16),
    /// Confirmations waiting now come in another order.
    Shuffle(u64),
    /// The stream ends, and so many SUBSCRIBEs fail.
    Drop(u8),
    /// The same; and the agent has forgotten what it was about to confirm.
    Restart(u8),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = prop_oneof![
        3 => Just(TaskState::Starting),
        6 => Just(TaskState::Running),
        2 => Just(TaskState::Killing),
        1 => Just(TaskState::Finished),
        1 => Just(TaskState::Failed),
        1 => Just(TaskState::Killed),
    ];
    let step = prop_oneof![
        3 => (0_u8..4).prop_map(Step::Launch),
        12 => (0_u8..4, state).prop_map(|(task, state)| Step::Report(task, state)),
        2 => (1_u8..5).prop_map(Step::LoseConfirmations),
        1 => (1_u8..4).prop_map(Step::LoseUpdates),
        1 => (1_u8..4).prop_map(Step::LoseAnswers),
        1 => (1_u8..3, prop_oneof![Just(403_u16), Just(500), Just(401)])
            .prop_map(|(times, status)| Step::Refuse(times, status)),
        1 => any::<u64>().prop_map(Step::Shuffle),
        2 => (0_u8..4).prop_map(Step::Drop),
        2 => (0_u8..4).prop_map(Step::Restart),
        5 => (0_u16..2000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..60)
}

/// An agent that writes down what it takes, and confirms it when it is let.
#[derive(Default)]
struct Model {
    /// Of each task, in the order of their first arrival.
    heard: BTreeMap<TaskId, Vec<(String, TaskState)>>,
    to_confirm: Vec<String>,
    times: BTreeMap<String, u32>,
    feed: Option<Feed<Event>>,
    refuse_subscriptions: u8,
    lose_confirmations: u8,
    /// Whether it does as it should from now on.
    good: bool,
}

impl Model {
    fn hear(&mut self, update: Update) {
        let status = update.status;
        let uuid = status.uuid.unwrap();
        assert_eq!(STANDARD.decode(&uuid).unwrap().len(), 16);
        let times = self.times.entry(uuid.clone()).or_default();
        *times += 1;
        assert!(*times < 30, "said over and over again");
        let heard = self.heard.entry(status.task_id).or_default();
        if !heard.iter().any(|(known, _)| *known == uuid) {
            heard.push((uuid.clone(), status.state));
        }
        self.to_confirm.push(uuid);
    }

    fn confirm(&mut self) {
        let Some(feed) = self.feed.take() else { return };
        for uuid in self.to_confirm.drain(..) {
            if self.lose_confirmations > 0 && !self.good {
                self.lose_confirmations -= 1;
            } else if !feed.is_closed() {
                confirm(&feed, &uuid);
            }
        }
        self.feed = Some(feed);
    }

    fn take(&mut self, asked: crate::testing::Asked<Call, crate::EventStream<Event>>) {
        if self.refuse_subscriptions > 0 && !self.good {
            self.refuse_subscriptions -= 1;
            return asked.refuse(unavailable());
        }
        let subscribe = asked.call.subscribe.clone().unwrap();
        let feed = asked.accept();
        feed.send(Ok(event(EventType::Subscribed))).unwrap();
        self.feed = Some(feed);
        for update in subscribe.unacknowledged_updates {
            self.hear(update);
        }
    }
}

/// Lets time pass, with the agent doing its part.
async fn pass(world: &mut World, model: &mut Model, time: Duration) {
    let over = tokio::time::sleep(time);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            event = world.events.recv() => { event.unwrap(); }
            asked = world.agent.asked.recv() => model.take(asked.unwrap()),
            call = world.agent.calls.recv() => {
                let (arrives, call) = call.unwrap();
                if arrives.is_empty() {
                    model.hear(call.update.unwrap());
                }
                model.confirm();
            }
            () = &mut over => break,
        }
    }
    model.confirm();
}

async fn live(steps: Vec<Step>) {
    let mut world = world();
    let mut model = Model::default();
    let mut said: BTreeMap<TaskId, Vec<(String, TaskState)>> = BTreeMap::new();
    let moment = Duration::from_millis(1);
    pass(&mut world, &mut model, moment).await;
    for step in steps {
        match step {
            Step::Launch(n) => {
                let task = TaskInfo { task_id: TaskId::new(n.to_string()), ..TaskInfo::default() };
                if let Some(feed) = &model.feed {
                    let launch = Some(Launch { task });
                    let _ = feed.send(Ok(Event { launch, ..event(EventType::Launch) }));
                }
                pass(&mut world, &mut model, moment).await;
            }
            Step::Report(n, state) => {
                let task = TaskId::new(n.to_string());
                let taken = world.report(&task, state);
                let over = said.get(&task).and_then(|all| all.last()).is_some_and(|(_, s)| s.is_terminal());
                assert!(!(over && taken.is_ok()), "taken after the end");
                if let Ok(uuid) = taken {
                    said.entry(task).or_default().push((STANDARD.encode(uuid.as_bytes()), state));
                }
            }
            Step::LoseConfirmations(times) => model.lose_confirmations += times,
            Step::LoseUpdates(times) => {
                for _ in 0..times {
                    world.transport.answer(Answer::Lost(Err(unavailable())));
                }
            }
            Step::LoseAnswers(times) => {
                for _ in 0..times {
                    world.transport.answer(Answer::Now(Err(unavailable())));
                }
            }
            Step::Refuse(times, status) => {
                for _ in 0..times {
                    world.transport.answer(Answer::Lost(Err(refused(status, ""))));
                }
            }
            Step::Shuffle(seed) => {
                let by = seed as usize % model.to_confirm.len().max(1);
                model.to_confirm.rotate_left(by);
            }
            Step::Drop(refusals) => {
                model.feed = None;
                model.refuse_subscriptions = refusals;
            }
            Step::Restart(refusals) => {
                model.feed = None;
                model.to_confirm.clear();
                model.refuse_subscriptions = refusals;
            }
            Step::Wait(time) => pass(&mut world, &mut model, Duration::from_millis(time.into())).await,
        }
    }
    model.good = true;
    for _ in 0..100 {
        if world.handle.unconfirmed() == 0 {
            break;
        }
        pass(&mut world, &mut model, Duration::from_secs(60)).await;
    }
    assert_eq!(world.handle.unconfirmed(), 0);
    assert_eq!(model.heard, said, "each of them, in order");
    for all in model.heard.values() {
        let end = all.iter().position(|(_, state)| state.is_terminal());
        assert!(end.is_none_or(|end| end == all.len() - 1), "nothing after the last one");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_update_is_heard_in_order_and_none_after_the_last_one(steps in steps()) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live(steps));
    }
}
