//! A controller's way to the Mesos master, told in the trace, with the oracles looking at every call.

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use overlord_mesos::{
    SchedulerTransport, Subscription, TransportError,
    v1::{
        Source, TaskState,
        scheduler::{Call, CallType, Event, EventType},
    },
};
use overlord_sandbox::MemoryScheduler;

use crate::{
    effects::Effects,
    gate::Gates,
    net::{Fate, Net, Peer},
    oracles::Oracles,
    store::Who,
    trace::Trace,
};

/// One controller's way to the master.
pub(crate) struct SimScheduler {
    pub(crate) who: Who,
    pub(crate) inner: MemoryScheduler,
    pub(crate) net: Net,
    pub(crate) trace: Trace,
    pub(crate) oracles: Oracles,
    pub(crate) gates: Gates,
    pub(crate) effects: Effects,
}

#[async_trait]
impl SchedulerTransport for SimScheduler {
    async fn subscribe(&self, call: &Call) -> Result<Subscription, TransportError> {
        let (who, trace, oracles) = (self.who, self.trace.clone(), self.oracles.clone());
        let effect = self.effects.begin(who, "SUBSCRIBE").await;
        self.gates.pass(who).await;
        if !self.gates.is_held(who) {
            oracles.check_reign(who, "SUBSCRIBE");
        }
        trace.line(format!("{who} -> master: SUBSCRIBE {:?}", call.framework_id));
        let cut = self.net.cut_token(Peer::Mesos);
        let opened = self.inner.subscribe(call).await?;
        self.effects.end(effect, who, "SUBSCRIBE").await;
        let gates = self.gates.clone();
        let received = opened.events.then(move |event| {
            let gates = gates.clone();
            async move {
                gates.pass(who).await;
                event
            }
        });
        let net = self.net.clone();
        let received = received.flat_map(move |event| {
            let end = event.as_ref().ok().and_then(|event| false_end(event, &net));
            stream::iter(std::iter::once(event).chain(end.map(Ok)))
        });
        let told = received.take_until(cut.cancelled_owned()).inspect(move |event| {
            let Ok(event) = event else { return };
            if event.kind == EventType::Heartbeat {
                return;
            }
            oracles.received(who, event);
            let detail = serde_json::to_vec(event).unwrap_or_default();
            trace.detailed(format!("master -> {who}: {}", brief_event(event)), &detail);
        });
        Ok(Subscription { stream_id: opened.stream_id, events: told.boxed() })
    }

    async fn call(&self, stream_id: &str, call: &Call) -> Result<(), TransportError> {
        let (who, trace, fate) = (self.who, self.trace.clone(), self.net.fate(self.who, Peer::Mesos));
        let effect = self.effects.begin(who, &call.kind.to_string()).await;
        self.oracles.called(who, call);
        if matches!(call.kind, CallType::Accept | CallType::Kill) && !self.gates.is_held(who) {
            self.oracles.check_reign(who, &call.kind.to_string());
        }
        let lost = if fate == Fate::Arrives { "" } else { " (lost)" };
        let held = if self.gates.is_held(who) { " (held)" } else { "" };
        trace.line(format!("{who} -> master: {}{lost}{held}", brief_call(call)));
        let (inner, stream_id, call) = (self.inner.clone(), stream_id.to_owned(), call.clone());
        let (gates, effects) = (self.gates.clone(), self.effects.clone());
        let arrival = async move {
            gates.pass(who).await;
            let unanswered = || TransportError::Unavailable {
                peer: "the master".to_owned(),
                message: "connection reset".to_owned(),
            };
            if fate == Fate::Lost {
                return Err(unanswered());
            }
            let answer = inner.call(&stream_id, &call).await;
            if let Err(error) = &answer {
                trace.line(format!("master refuses {} of {who}: {error}", call.kind));
            }
            effects.end(effect, who, &call.kind.to_string()).await;
            if fate == Fate::AnswerLost { Err(unanswered()) } else { answer }
        };
        let answer = self.net.ask(arrival).await;
        self.gates.pass(who).await;
        answer
    }
}

/// Word of the master's own that a task ended which has just said that it runs: it says so of an id that was launched
/// a second time, and of all tasks of an agent that it has just removed, whatever runs there.
fn false_end(event: &Event, net: &Net) -> Option<Event> {
    let status = &event.update.as_ref()?.status;
    if status.state != TaskState::Running || status.uuid.is_none() || !net.ends_falsely() {
        return None;
    }
    let mut end = event.clone();
    let status = &mut end.update.as_mut()?.status;
    status.state = TaskState::Lost;
    status.source = Some(Source::Master);
    status.reason = Some("REASON_SLAVE_REMOVED".to_owned());
    status.message = Some("Agent removed".to_owned());
    (status.uuid, status.data) = (None, None);
    Some(end)
}

fn brief_event(event: &Event) -> String {
    let kind = event.kind;
    match kind {
        EventType::Offers => {
            let offers = event.offers.iter().flat_map(|offers| &offers.offers);
            let from: Vec<&str> = offers.map(|offer| offer.hostname.as_str()).collect();
            format!("{kind} of {}", from.join(" "))
        }
        EventType::Update => event.update.as_ref().map_or_else(String::new, |update| {
            let status = &update.status;
            format!(
                "{kind} {} {} {} {}",
                status.task_id,
                status.state,
                status.reason.as_deref().unwrap_or_default(),
                status.message.as_deref().unwrap_or_default()
            )
        }),
        EventType::Failure => event.failure.as_ref().map_or_else(String::new, |failure| {
            format!("{kind} agent {:?} executor {:?}", failure.agent_id, failure.executor_id)
        }),
        _ => kind.to_string(),
    }
}

fn brief_call(call: &Call) -> String {
    let kind = call.kind;
    match kind {
        CallType::Accept => {
            let operations = call.accept.iter().flat_map(|accept| &accept.operations);
            let tasks = operations.filter_map(|o| o.launch.as_ref()).flat_map(|l| &l.task_infos);
            let tasks: Vec<&str> = tasks.map(|task| task.task_id.as_str()).collect();
            format!("{kind} launches {}", tasks.join(" "))
        }
        CallType::Decline => {
            let offers = call.decline.as_ref().map_or(0, |decline| decline.offer_ids.len());
            format!("{kind} {offers} offers")
        }
        CallType::Kill => {
            let task = call.kill.as_ref().map(|kill| kill.task_id.as_str()).unwrap_or_default();
            format!("{kind} {task}")
        }
        CallType::Acknowledge => {
            let task = call.acknowledge.as_ref().map(|a| a.task_id.as_str()).unwrap_or_default();
            format!("{kind} {task}")
        }
        CallType::Reconcile => {
            let tasks = call.reconcile.iter().flat_map(|reconcile| &reconcile.tasks);
            let tasks: Vec<&str> = tasks.map(|task| task.task_id.as_str()).collect();
            format!("{kind} {}", tasks.join(" "))
        }
        CallType::Message => {
            let to = call.message.as_ref().map(|message| message.executor_id.as_str()).unwrap_or_default();
            format!("{kind} to {to}")
        }
        _ => kind.to_string(),
    }
}
