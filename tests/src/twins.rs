//! What must hold at every moment, and what must hold once all is quiet: Mesos' tasks, the processes and the
//! records are of one mind.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{Sandbox, name_of, process::parent_of, processes_in};

/// Between two looks. What a look finds must be found by the next one too: a process that was killed takes a
/// moment to go.
const LOOK: Duration = Duration::from_millis(100);

/// Watches the world beside the test: no member ever has two processes, or two Mesos tasks that live. What is
/// admitted: a member of a cluster that gives up lost agents soon, while one of the two is on an agent that is,
/// or was a moment ago, away.
#[derive(Debug)]
pub struct Watch {
    state: Arc<Mutex<State>>,
    _looking: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    violations: Vec<String>,
    /// What the last look found.
    suspected: BTreeSet<String>,
    /// Agents that were away lately.
    shaken: BTreeSet<u8>,
    /// Clusters that give up members of lost agents soon.
    quick: BTreeSet<String>,
    /// Looks that showed the processes, and the tasks.
    looks: (u64, u64),
}

impl Watch {
    /// Begins to watch. `quick` are the clusters that give up members of lost agents soon.
    pub fn start(sandbox: &Sandbox, quick: &[&str]) -> Self {
        let quick = quick.iter().map(|&name| name.to_owned()).collect();
        let state = Arc::new(Mutex::new(State { quick, ..State::default() }));
        let (root, master, held) = (sandbox.root(), sandbox.master(), Arc::clone(&state));
        let mut looking = JoinSet::new();
        looking.spawn(async move {
            loop {
                let servers = servers(&root);
                let tasks = tasks(&master).await.ok();
                lock(&held).learn(&servers, tasks.as_deref());
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { state, _looking: looking }
    }

    /// That agent is, or was, away.
    pub fn shake(&self, agent: u8) {
        lock(&self.state).shaken.insert(agent);
    }

    /// All agents are there, and nothing is left of their being away.
    pub fn calm(&self) {
        lock(&self.state).shaken.clear();
    }

    /// How often it looked at the processes, and at Mesos' tasks.
    pub fn looks(&self) -> (u64, u64) {
        lock(&self.state).looks
    }

    /// What was found, each once.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.state).violations.clone()
    }

    /// Nothing was found.
    ///
    /// # Panics
    /// When something was.
    pub fn assert_clean(&self, when: &str) {
        let found = self.violations();
        assert!(found.is_empty(), "{when}: {found:#?}");
    }
}

impl State {
    fn learn(&mut self, servers: &[Server], tasks: Option<&[Task]>) {
        self.looks.0 += 1;
        self.looks.1 += u64::from(tasks.is_some());
        let tasks = tasks.unwrap_or_default();
        let mut found = BTreeSet::new();
        let mut by_member: BTreeMap<(&str, u32), Vec<&Server>> = BTreeMap::new();
        for server in servers {
            by_member.entry((&server.uid, server.member)).or_default().push(server);
        }
        let away = |agent: Option<u8>| agent.is_some_and(|agent| self.shaken.contains(&agent));
        for own in by_member.values().filter(|own| own.len() > 1) {
            if !own.iter().any(|server| self.quick.contains(&server.cluster) && away(server.agent)) {
                found.insert(format!("two processes of one member: {own:?}"));
            }
        }
        let clusters: BTreeMap<&str, &str> =
            servers.iter().map(|server| (uid8(&server.uid), server.cluster.as_str())).collect();
        let mut by_member: BTreeMap<(&str, &str), Vec<&Task>> = BTreeMap::new();
        for task in tasks.iter().filter(|task| task.lives()) {
            let mut parts = task.id.split('.');
            let (uid, member) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            by_member.entry((uid, member)).or_default().push(task);
        }
        for ((uid, _), own) in by_member.iter().filter(|(_, own)| own.len() > 1) {
            let quick = clusters.get(uid).is_none_or(|cluster| self.quick.contains(*cluster));
            if !(quick && own.iter().any(|task| away(task.agent))) {
                found.insert(format!("two tasks of one member: {own:?}"));
            }
        }
        for twice in found.intersection(&self.suspected) {
            if !self.violations.contains(twice) {
                self.violations.push(twice.clone());
            }
        }
        self.suspected = found;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn uid8(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}

/// A cache server, by the folder it runs in.
#[derive(Debug)]
struct Server {
    #[expect(dead_code, reason = "told in messages")]
    pid: u32,
    uid: String,
    member: u32,
    cluster: String,
    agent: Option<u8>,
    #[expect(dead_code, reason = "told in messages")]
    dir: PathBuf,
}

/// The number of an agent in a path of its own.
fn agent_of(dir: &Path) -> Option<u8> {
    let names = dir.iter().filter_map(|part| part.to_str());
    names.filter_map(|name| name.strip_prefix("agent-")).find_map(|number| number.parse().ok())
}

/// Servers whose folder says whose they are.
fn servers(root: &Path) -> Vec<Server> {
    let all = processes_in(root);
    let is_server = |line: &str| matches!(name_of(line), "redis-server" | "memcached");
    let pids: BTreeSet<u32> = all.iter().filter(|(_, line)| is_server(line)).map(|(pid, _)| *pid).collect();
    let mut found = Vec::new();
    for &pid in &pids {
        // What redis forks to save or to send its data is no server of its own.
        if parent_of(pid).is_some_and(|parent| pids.contains(&parent)) {
            continue;
        }
        let Ok(dir) = std::fs::read_link(format!("/proc/{pid}/cwd")) else { continue };
        let text = std::fs::read_to_string(dir.join("meta.toml")).unwrap_or_default();
        let Ok(meta) = text.parse::<toml::Table>() else { continue };
        let word = |name: &str| meta.get(name).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let member = meta.get("member").and_then(toml::Value::as_integer).unwrap_or(-1);
        let Ok(member) = u32::try_from(member) else { continue };
        let (uid, cluster, agent) = (word("uid"), word("cluster"), agent_of(&dir));
        found.push(Server { pid, uid, member, cluster, agent, dir });
    }
    found
}

/// A task as the master tells it.
#[derive(Debug)]
struct Task {
    id: String,
    state: String,
    agent: Option<u8>,
}

impl Task {
    /// Whether it may run: not ended, and not given up by Mesos.
    fn lives(&self) -> bool {
        matches!(self.state.as_str(), "TASK_STAGING" | "TASK_STARTING" | "TASK_RUNNING" | "TASK_KILLING")
    }
}

/// The tasks of all frameworks, from the master's `/state`.
async fn tasks(master: &str) -> Result<Vec<Task>, String> {
    let told = |error: reqwest::Error| error.to_string();
    let client =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().map_err(told)?;
    let answer = client.get(format!("http://{master}/state")).send().await.map_err(told)?;
    let state: Value = answer.error_for_status().map_err(told)?.json().await.map_err(told)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let agents: BTreeMap<String, u8> = list(&state["slaves"])
        .iter()
        .filter_map(|agent| {
            let number = agent["hostname"].as_str()?.rsplit('.').next()?.parse().ok()?;
            Some((agent["id"].as_str()?.to_owned(), number))
        })
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |framework: &Value| [list(&framework["tasks"]), list(&framework["unreachable_tasks"])].concat();
    let frameworks = list(&state["frameworks"]);
    let tasks = frameworks.iter().flat_map(of).map(|task| Task {
        id: text(&task["id"]),
        state: text(&task["state"]),
        agent: agents.get(task["slave_id"].as_str().unwrap_or_default()).copied(),
    });
    Ok(tasks.collect())
}

/// What is wrong while nothing moves: a task or a process without a record, or a record without them.
pub async fn faults(sandbox: &Sandbox, infos: &[Value]) -> Vec<String> {
    let mut told = Vec::new();
    let recorded: BTreeSet<&str> = infos.iter().filter_map(|info| info["mesosTaskId"].as_str()).collect();
    match tasks(&sandbox.master()).await {
        Err(error) => told.push(format!("the master says nothing: {error}")),
        Ok(tasks) => {
            let running: BTreeSet<&str> =
                tasks.iter().filter(|task| task.lives()).map(|task| task.id.as_str()).collect();
            told.extend(
                running.difference(&recorded).map(|id| format!("Mesos runs {id}, which no record names")),
            );
            told.extend(recorded.difference(&running).map(|id| format!("Mesos does not run {id}")));
            let odd = tasks.iter().filter(|task| task.state == "TASK_UNREACHABLE");
            told.extend(odd.map(|task| format!("{} is unreachable", task.id)));
        }
    }
    let mut pids: BTreeSet<u64> = infos.iter().filter_map(|info| info["observed"]["pid"].as_u64()).collect();
    for (pid, line) in sandbox.servers() {
        if !pids.remove(&u64::from(pid)) {
            told.push(format!("process {pid} is in no record: {line}"));
        }
    }
    told.extend(pids.into_iter().map(|pid| format!("recorded process {pid} does not run")));
    let executors = sandbox.executors().len();
    if executors != infos.len() {
        told.push(format!("{executors} executors for {} instances", infos.len()));
    }
    for (_, event) in sandbox.etcd_list("/overlord/events/_/").await {
        if event.contains("UnknownTask") {
            told.push(format!("a task without a record is told: {event}"));
        }
    }
    told
}
