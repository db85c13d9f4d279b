//! The orderly executor: STARTING, RUNNING, and after the seconds that the task's `data` names its end. It tells
//! again what was not acknowledged, and gives up when its agent is away for the recovery time-out.

use std::{
    io,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Settings, flag,
    journal::{Journal, clock, timestamp},
    link::Arrival,
};

/// Between attempts to subscribe.
const RETRY: Duration = Duration::from_secs(1);
/// What a task without seconds takes.
const LONGEST: Duration = Duration::from_secs(3600);
/// Between SHUTDOWN and the end.
const LEAVE: Duration = Duration::from_millis(500);

struct Keeper {
    settings: Settings,
    journal: Arc<Journal>,
    pending: Mutex<Pending>,
}

/// What the agent has not acknowledged.
#[derive(Default)]
struct Pending {
    tasks: Vec<Value>,
    updates: Vec<Value>,
}

/// Runs until it is told to leave.
pub(crate) async fn run(settings: Settings, journal: Arc<Journal>) -> io::Result<ExitCode> {
    let keeper = Arc::new(Keeper { settings, journal, pending: Mutex::default() });
    let mut work = JoinSet::new();
    let mut heard = clock().0;
    loop {
        match keeper.subscription(&mut work).await {
            Ok(()) => heard = clock().0,
            Err(error) => {
                keeper.journal.noted(&format!("subscribe failed: {error}"));
                if heard.elapsed() >= keeper.settings.recovery {
                    keeper.journal.noted("recovery timeout, exit");
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        sleep(RETRY).await;
    }
}

impl Keeper {
    /// Subscribes and obeys until the stream ends.
    async fn subscription(self: &Arc<Self>, work: &mut JoinSet<()>) -> io::Result<()> {
        let request = self.settings.agent.request(&self.subscribe().to_string());
        let Some(mut stream) = self.settings.agent.subscribe(&self.journal, &request).await? else {
            return Ok(());
        };
        loop {
            match stream.next(&self.journal).await? {
                Arrival::Events(events) => {
                    for event in events {
                        self.obey(&event, work);
                    }
                }
                Arrival::Last => return Ok(()),
                Arrival::Eof => {
                    self.journal.received("EOF on the subscription", "");
                    return Ok(());
                }
            }
        }
    }

    fn subscribe(&self) -> Value {
        let pending = self.lock();
        let updates: Vec<Value> =
            pending.updates.iter().map(|status| json!({ "status": status.clone() })).collect();
        let subscribe =
            json!({ "unacknowledged_tasks": pending.tasks.clone(), "unacknowledged_updates": updates });
        drop(pending);
        self.body("SUBSCRIBE", "subscribe", subscribe)
    }

    fn obey(self: &Arc<Self>, event: &Value, work: &mut JoinSet<()>) {
        let keeper = Arc::clone(self);
        match event["type"].as_str().unwrap_or_default() {
            "LAUNCH" => {
                let task = event["launch"]["task"].clone();
                self.lock().tasks.push(task.clone());
                work.spawn(async move { keeper.keep(&task).await });
            }
            "LAUNCH_GROUP" => {
                let tasks = event["launch_group"]["task_group"]["tasks"].as_array();
                for task in tasks.into_iter().flatten() {
                    let (keeper, task) = (Arc::clone(self), task.clone());
                    self.lock().tasks.push(task.clone());
                    work.spawn(async move { keeper.keep(&task).await });
                }
            }
            "ACKNOWLEDGED" => {
                let (id, uuid) = (&event["acknowledged"]["task_id"], &event["acknowledged"]["uuid"]);
                let mut pending = self.lock();
                pending.tasks.retain(|task| task["task_id"] != *id);
                pending.updates.retain(|status| status["uuid"] != *uuid);
            }
            "KILL" if !flag("EXEC_IGNORE_KILL") => {
                let id = event["kill"]["task_id"].clone();
                let more = json!({ "message": "killed by executor" });
                work.spawn(async move { keeper.update(&id, "TASK_KILLED", more).await });
            }
            "MESSAGE" => {
                let data =
                    event["message"]["data"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
                let echo = [b"echo:".as_slice(), &data.unwrap_or_default()].concat();
                let message = json!({ "data": BASE64_STANDARD.encode(echo) });
                work.spawn(async move { keeper.send(&keeper.body("MESSAGE", "message", message)).await });
            }
            "SHUTDOWN" if !flag("EXEC_IGNORE_SHUTDOWN") => {
                work.spawn(async move {
                    sleep(LEAVE).await;
                    keeper.journal.noted("exit on SHUTDOWN");
                    std::process::exit(0);
                });
            }
            _ => {}
        }
    }

    /// The life of one task.
    async fn keep(&self, task: &Value) {
        let data = task["data"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        let orders: Value = data.and_then(|data| serde_json::from_slice(&data).ok()).unwrap_or_default();
        let id = &task["task_id"];
        self.update(id, "TASK_STARTING", json!({})).await;
        let running = json!({
            "message": "running", "data": BASE64_STANDARD.encode("payload"),
            "labels": {"labels": [{"key": "k", "value": "v"}]},
        });
        self.update(id, "TASK_RUNNING", running).await;
        let seconds = orders["secs"].as_f64().unwrap_or(3600.0) * self.settings.pace;
        sleep(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST)).await;
        if let Some(code) = orders["exit"].as_i64() {
            std::process::exit(i32::try_from(code).unwrap_or(1));
        }
        let more = orders.get("message").map_or_else(|| json!({}), |text| json!({ "message": text }));
        self.update(id, orders["final"].as_str().unwrap_or("TASK_FINISHED"), more).await;
    }

    /// Sends an update and remembers it until it is acknowledged.
    async fn update(&self, task: &Value, state: &str, more: Value) {
        let uuid = BASE64_STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
        let mut status = json!({
            "task_id": task, "state": state, "source": "SOURCE_EXECUTOR", "uuid": uuid, "timestamp": timestamp(),
        });
        if let (Some(status), Value::Object(more)) = (status.as_object_mut(), more) {
            status.extend(more);
        }
        self.lock().updates.push(status.clone());
        let call = self.body("UPDATE", "update", json!({ "status": status }));
        self.send(&call).await;
    }

    async fn send(&self, call: &Value) {
        let request = self.settings.agent.request(&call.to_string());
        if let Err(error) = self.settings.agent.call(&self.journal, &request).await {
            self.journal.noted(&format!("update not sent: {error}"));
        }
    }

    fn body(&self, kind: &str, field: &str, value: Value) -> Value {
        let mut call = json!({
            "framework_id": {"value": self.settings.framework}, "executor_id": {"value": self.settings.executor},
            "type": kind,
        });
        if let Some(call) = call.as_object_mut() {
            call.insert(field.to_owned(), value);
        }
        call
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
