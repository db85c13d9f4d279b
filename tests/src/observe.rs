//! Looking at a sandbox from outside: etcd, the API, processes. Values stay JSON, so that the shapes
//! that are promised are the ones that are tested.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{eventually, eventually_within, name_of, process, processes_in, sandbox::Sandbox};

/// How long a cluster may take to become Ready on a busy machine.
const READY: Duration = Duration::from_secs(120);

/// How long one look into etcd may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// The condition of that type, `Null` when there is none.
pub fn condition<'v>(status: &'v Value, kind: &str) -> &'v Value {
    let of_kind = |list: &'v Vec<Value>| list.iter().find(|condition| condition["type"] == kind);
    status["conditions"].as_array().and_then(of_kind).unwrap_or(&Value::Null)
}

/// A key with its value, as etcd has it.
#[derive(Debug)]
struct Entry {
    key: String,
    value: String,
    mod_revision: i64,
    create_revision: i64,
}

#[expect(clippy::expect_used, reason = "the tests' own way to fail")]
impl Sandbox {
    /// One object or list as the API gives it.
    ///
    /// # Panics
    /// When the API refuses.
    pub async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.api());
        let answer = self.http().get(&url).send().await.expect("the API answers");
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.json().await.expect("JSON")
    }

    /// etcd's range call over its JSON gateway: one process less than `etcdctl` for each look.
    async fn range(&self, key: &str, prefix: bool) -> (i64, Vec<Entry>) {
        let mut body = json!({"key": STANDARD.encode(key)});
        if prefix {
            let mut end = key.as_bytes().to_vec();
            *end.last_mut().expect("a key") += 1;
            body["range_end"] = json!(STANDARD.encode(end));
        }
        let url = format!("{}/v3/kv/range", self.etcd());
        // Tests break etcd too: it is waited for.
        let answer: Value = eventually("etcd answers", || async {
            let sent = self.http().post(&url).json(&body).timeout(LOOK_LIMIT).send().await;
            let answer = sent.map_err(|error| error.to_string())?;
            if !answer.status().is_success() {
                return Err(format!("{}: {:?}", answer.status(), answer.text().await));
            }
            answer.json().await.map_err(|error| error.to_string())
        })
        .await;
        let text = |value: &Value| {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).expect("base64");
            String::from_utf8(bytes).expect("UTF-8")
        };
        let entry = |kv: &Value| Entry {
            key: text(&kv["key"]),
            value: text(&kv["value"]),
            mod_revision: number(&kv["mod_revision"]),
            create_revision: number(&kv["create_revision"]),
        };
        let entries = answer["kvs"].as_array().map(|kvs| kvs.iter().map(entry).collect());
        (number(&answer["header"]["revision"]), entries.unwrap_or_default())
    }

    /// etcd's revision: grows with every write.
    pub async fn etcd_revision(&self) -> i64 {
        self.range("/nothing", false).await.0
    }

    /// The key below a prefix that was written last, and when.
    pub async fn newest(&self, prefix: &str) -> (String, i64) {
        let entries = self.range(prefix, true).await.1;
        let newest = entries.into_iter().max_by_key(|entry| entry.mod_revision);
        newest.map_or_else(Default::default, |entry| (entry.key, entry.mod_revision))
    }

    /// A value in etcd, when the key is there.
    pub async fn etcd_get(&self, key: &str) -> Option<String> {
        self.range(key, false).await.1.pop().map(|entry| entry.value)
    }

    /// The revision at which a key was last written; 0 when it is not there.
    pub async fn mod_revision(&self, key: &str) -> i64 {
        self.range(key, false).await.1.pop().map_or(0, |entry| entry.mod_revision)
    }

    /// The revision at which a key was made; 0 when it is not there.
    pub async fn create_revision(&self, key: &str) -> i64 {
        self.range(key, false).await.1.pop().map_or(0, |entry| entry.create_revision)
    }

    /// Keys and values below a prefix.
    pub async fn etcd_list(&self, prefix: &str) -> Vec<(String, String)> {
        self.range(prefix, true).await.1.into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    /// A JSON value in etcd; `Null` when the key is not there.
    pub async fn etcd_json(&self, key: &str) -> Value {
        let text = self.etcd_get(key).await.unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// The infos of a cluster's instances, in the order of members.
    ///
    /// # Panics
    /// When one is no JSON.
    pub async fn infos(&self, cluster: &str) -> Vec<Value> {
        let prefix = format!("/overlord/clusters/{cluster}/instances/");
        let mut infos: Vec<Value> = self
            .etcd_list(&prefix)
            .await
            .into_iter()
            .filter(|(key, _)| key.ends_with("/info"))
            .map(|(_, value)| serde_json::from_str(&value).expect("info"))
            .collect();
        infos.sort_by_key(|info| (info["member"].as_u64(), info["incarnation"].as_u64()));
        infos
    }

    /// The info of a cluster's member; `Null` when there is none.
    pub async fn member(&self, cluster: &str, member: u64) -> Value {
        self.infos(cluster).await.into_iter().find(|info| info["member"] == member).unwrap_or_default()
    }

    /// `clusters/<cluster>/status`
    pub async fn status(&self, cluster: &str) -> Value {
        self.etcd_json(&format!("/overlord/clusters/{cluster}/status")).await
    }

    /// `task/<id>/status`
    pub async fn task_status(&self, id: &str) -> Value {
        self.etcd_json(&format!("/overlord/task/{id}/status")).await
    }

    /// Addresses of those who serve a cluster, in the order of aliases.
    ///
    /// # Panics
    /// When one is missing.
    pub async fn endpoints(&self, cluster: &str) -> Vec<String> {
        let value = self.etcd_json(&format!("/overlord/clusters/{cluster}/endpoints")).await;
        let address = |endpoint: &Value| endpoint["address"].as_str().expect("address").to_owned();
        value["endpoints"].as_array().map(|list| list.iter().map(address).collect()).unwrap_or_default()
    }

    /// Waits until a cluster is Ready with the spec that its config key has now; its status.
    pub async fn ready(&self, cluster: &str) -> Value {
        eventually_within(READY, &format!("{cluster} is Ready"), || self.is_ready(cluster)).await
    }

    async fn is_ready(&self, cluster: &str) -> Result<Value, String> {
        let config = self.mod_revision(&format!("/overlord/config/{cluster}")).await;
        let status = self.status(cluster).await;
        let seen = status["configRevision"].as_i64() == Some(config);
        if seen && status["phase"] == "Ready" && condition(&status, "Ready")["status"] == "True" {
            Ok(status)
        } else {
            Err(format!("config at {config}, status {status}"))
        }
    }

    /// Waits until a condition has that status and reason; its message.
    pub async fn wait_condition(&self, cluster: &str, kind: &str, status: &str, reason: &str) -> String {
        eventually_within(READY, &format!("{cluster}: {kind} is {status}, {reason}"), || async {
            let value = self.status(cluster).await;
            let found = condition(&value, kind);
            if found["status"] == status && found["reason"] == reason {
                Ok(found["message"].as_str().unwrap_or_default().to_owned())
            } else {
                Err(value)
            }
        })
        .await
    }

    /// Waits until a task is in that state; its status.
    pub async fn wait_task(&self, id: &str, state: &str) -> Value {
        eventually_within(READY, &format!("task {id} is {state}"), || async {
            let status = self.task_status(id).await;
            if status["state"] == state { Ok(status) } else { Err(status) }
        })
        .await
    }

    /// Events of a cluster with that reason; what a test damaged among them is none.
    pub async fn events(&self, cluster: &str, reason: &str) -> Vec<Value> {
        let list = self.etcd_list(&format!("/overlord/events/{cluster}/")).await;
        let events = list.iter().filter_map(|(_, value)| serde_json::from_str::<Value>(value).ok());
        events.filter(|event| event["reason"] == reason).collect()
    }

    /// Waits until something of that reason is told of a cluster; the event.
    pub async fn wait_event(&self, cluster: &str, reason: &str) -> Value {
        eventually(&format!("an event {reason} of {cluster}"), || async {
            self.events(cluster, reason).await.pop().ok_or("none")
        })
        .await
    }

    /// Waits until a key of etcd is gone, with all that is below it.
    pub async fn wait_gone(&self, prefix: &str) {
        eventually_within(READY, &format!("{prefix} is gone"), || async {
            let left = self.etcd_list(prefix).await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// Every process that belongs to this sandbox: its working directory lies in its directory.
    pub fn processes(&self) -> Vec<(u32, String)> {
        processes_in(&self.root())
    }

    /// Cache servers of this sandbox, with their command lines.
    pub fn servers(&self) -> Vec<(u32, String)> {
        let is_server = |line: &str| matches!(name_of(line), "redis-server" | "memcached");
        self.processes().into_iter().filter(|(_, line)| is_server(line)).collect()
    }

    /// Executors of this sandbox.
    pub fn executors(&self) -> Vec<u32> {
        let is_executor = |line: &str| name_of(line) == "overlord" && line.contains(" executor ");
        self.processes().into_iter().filter(|(_, line)| is_executor(line)).map(|(pid, _)| pid).collect()
    }

    /// The executor of a server.
    ///
    /// # Panics
    /// When it has none.
    pub fn executor_of(&self, server: u32) -> u32 {
        let parent = process::parent_of(server).expect("a parent");
        assert!(self.executors().contains(&parent), "{parent} is no executor");
        parent
    }

    /// Waits until these clusters are all there is, each is Ready, and the processes are exactly those
    /// that the records say: one server under one executor for each member. The infos.
    pub async fn settled(&self, clusters: &[&str]) -> Vec<Value> {
        eventually_within(READY, &format!("{clusters:?} run, and nothing else"), || self.is_settled(clusters))
            .await
    }

    /// Whether these clusters are all there is, and so on as [`Sandbox::settled`] has it; the infos.
    ///
    /// # Errors
    /// What is missing, or too much.
    pub async fn is_settled(&self, clusters: &[&str]) -> Result<Vec<Value>, String> {
        let known: BTreeSet<String> = self.known_clusters().await;
        let wanted: BTreeSet<String> = clusters.iter().map(|&name| name.to_owned()).collect();
        if known != wanted {
            return Err(format!("records are kept of {known:?}"));
        }
        let mut infos = Vec::new();
        for cluster in clusters {
            let status = self.is_ready(cluster).await?;
            let found = self.infos(cluster).await;
            if status["wanted"].as_u64() != Some(found.len() as u64) {
                return Err(format!("{cluster}: {status}, {found:?}"));
            }
            infos.extend(found);
        }
        self.same_processes(&infos)?;
        Ok(infos)
    }

    async fn known_clusters(&self) -> BTreeSet<String> {
        let keys = self.etcd_list("/overlord/clusters/").await;
        let name = |key: &str| key.split('/').nth(3).unwrap_or_default().to_owned();
        keys.iter().map(|(key, _)| name(key)).collect()
    }

    /// Whether the processes are those of `infos`.
    fn same_processes(&self, infos: &[Value]) -> Result<(), String> {
        let (servers, mut executors) = (self.servers(), self.executors());
        let recorded: BTreeSet<Option<u32>> = infos.iter().map(pid).collect();
        let running: BTreeSet<Option<u32>> = servers.iter().map(|(pid, _)| Some(*pid)).collect();
        if recorded != running || servers.len() != infos.len() {
            return Err(format!("servers {servers:?}, infos {infos:?}"));
        }
        let mut parents: Vec<u32> = servers.iter().filter_map(|(pid, _)| process::parent_of(*pid)).collect();
        parents.sort_unstable();
        executors.sort_unstable();
        if parents == executors { Ok(()) } else { Err(format!("executors {executors:?} of {servers:?}")) }
    }

    /// Waits until no process of this sandbox is left.
    pub async fn wait_empty(&self) {
        eventually_within(Duration::from_secs(30), "no process is left", || async {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }
}

/// The process of an instance, as observed.
fn pid(info: &Value) -> Option<u32> {
    u32::try_from(info["observed"]["pid"].as_u64()?).ok()
}

/// A 64-bit number, which JSON of protobuf writes as text.
fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}
