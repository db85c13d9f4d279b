//! redis, asked and commanded over one connection.

use std::time::Duration;

use async_trait::async_trait;
use overlord_api::{Address, DISK_TROUBLE, Engine, Kind, Persistence};

use crate::{
    AdminError, Change, EngineAdmin, Health,
    cluster::{Node, Role, keys, slots_digest},
    dial::Dialler,
    diff::{canonical, target},
    directive::find_any,
    resp::{Reply, Resp},
    version::{Minor, minor_of, newest},
};

/// The slots of a node come with the lines of all nodes; they are read again after this many probes, and
/// whenever role, epoch or state change.
const SLOTS_EVERY: u32 = 10;

/// One connection to a redis-server.
pub(crate) struct RedisAdmin {
    kind: Kind,
    resp: Resp,
    server: Option<Server>,
    slots: SlotsRead,
}

/// What cannot change while a connection lasts.
#[derive(Debug, Clone, Copy)]
struct Server {
    release: Minor,
    pid: Option<u32>,
}

#[derive(Debug, Default)]
struct SlotsRead {
    /// What was seen when they were read.
    at: (Option<String>, Option<u64>, bool),
    age: u32,
    own: Own,
}

/// What a node's line of itself says.
#[derive(Debug, Clone, Default)]
struct Own {
    slots: Option<String>,
    replica: bool,
}

impl Own {
    fn of(node: &Node) -> Self {
        Self { slots: slots_digest(&node.slots), replica: node.flags.role() == Some(Role::Replica) }
    }

    /// A replica that has just been started calls itself a master in INFO until it has begun to follow its own, which is
    /// within a tenth of a second (redis 7.0, `clusterCron`). It has no link then, and serves nobody.
    fn complete(&self, health: &mut Health) {
        health.slots.clone_from(&self.slots);
        if self.replica && health.role.as_deref() == Some("master") {
            health.role = Some(String::from("slave"));
            health.link = Some(String::from("down"));
            if health.serving {
                health.serving = false;
                "the link to its master is down".clone_into(&mut health.detail);
            }
        }
    }
}

impl RedisAdmin {
    pub(crate) async fn connect(
        dialler: &Dialler,
        kind: Kind,
        address: Address,
        timeout: Duration,
        client_name: Option<&str>,
    ) -> Result<Self, AdminError> {
        let resp = Resp::connect(dialler, address, timeout, client_name).await?;
        Ok(Self { kind, resp, server: None, slots: SlotsRead::default() })
    }

    async fn info(&mut self, section: &str) -> Result<String, AdminError> {
        let operation = format!("INFO {section}");
        let reply = self.resp.call(&operation, &["INFO", section]).await?;
        let text = reply.text().map(str::to_owned);
        text.ok_or_else(|| self.resp.unexpected(&operation, "a reply of another kind"))
    }

    async fn server(&mut self) -> Result<Server, AdminError> {
        if let Some(server) = self.server {
            return Ok(server);
        }
        let info = self.info("server").await?;
        let release = field(&info, "redis_version").and_then(minor_of);
        let server = Server {
            release: release.unwrap_or_else(|| newest(Engine::Redis)),
            pid: field(&info, "process_id").and_then(|pid| pid.parse().ok()),
        };
        self.server = Some(server);
        Ok(server)
    }

    /// The `myself` line of CLUSTER NODES.
    async fn own(&mut self) -> Result<Own, AdminError> {
        let mut own = Own::default();
        self.resp
            .lines("CLUSTER NODES", &["CLUSTER", "NODES"], |line| {
                if line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|flag| flag == "myself")) {
                    own = Node::parse(line).map(|(node, _)| Own::of(&node)).unwrap_or_default();
                }
            })
            .await?;
        Ok(own)
    }

    async fn cluster(&mut self, info: &str, health: &mut Health) -> Result<(), AdminError> {
        health.epoch = field(info, "cluster_my_epoch").and_then(|epoch| epoch.parse().ok());
        let state = field(info, "cluster_state").unwrap_or("unknown");
        if state != "ok" && health.serving {
            health.serving = false;
            health.detail = format!("cluster_state is {state}");
        }
        let at = (health.role.clone(), health.epoch, state == "ok");
        self.slots.age += 1;
        // While it starts, the slots are of no interest.
        let wanted = state == "ok" || self.slots.at.0.is_some();
        if wanted && (self.slots.at != at || self.slots.age >= SLOTS_EVERY) {
            let own = self.own().await?;
            self.slots = SlotsRead { at, age: 0, own };
        }
        self.slots.own.complete(health);
        Ok(())
    }

    async fn config_get(&mut self, directive: &str) -> Result<String, AdminError> {
        let operation = format!("CONFIG GET {directive}");
        let reply = self.resp.call(&operation, &["CONFIG", "GET", directive]).await?;
        let Reply::List(items) = reply else {
            return Err(self.resp.unexpected(&operation, "a reply of another kind"));
        };
        match items.get(1).and_then(Reply::text) {
            Some(value) => Ok(value.to_owned()),
            None => Err(self.resp.refused(&operation, "the server does not know it".to_owned())),
        }
    }

    async fn config_set(&mut self, directive: &str, value: &str) -> Result<(), AdminError> {
        match self.resp.call("CONFIG SET", &["CONFIG", "SET", directive, value]).await {
            Ok(_) => Ok(()),
            Err(AdminError::Refused { address, message, .. }) => Err(AdminError::RefusedDirective {
                address,
                directive: directive.to_owned(),
                value: value.to_owned(),
                message,
            }),
            Err(error) => Err(error),
        }
    }

    /// Sets one directive and reads it back; what it was before.
    async fn set_one(&mut self, release: Minor, change: &Change) -> Result<String, AdminError> {
        let directive = change.directive.as_str();
        let Some(wanted) = target(Engine::Redis, release, change) else {
            return Err(AdminError::NotLive { directive: directive.to_owned() });
        };
        let before = self.config_get(directive).await?;
        self.config_set(directive, &wanted).await?;
        let actual = self.config_get(directive).await?;
        let row = find_any(Engine::Redis, release, directive);
        if canonical(row, release, &actual) == wanted {
            return Ok(before);
        }
        let (address, directive) = (self.resp.wire.address, directive.to_owned());
        Err(AdminError::ReadBack { address, directive, wanted, actual })
    }
}

#[async_trait]
impl EngineAdmin for RedisAdmin {
    async fn probe(&mut self) -> Result<Health, AdminError> {
        let mut commands: Vec<&[&str]> = vec![&["INFO", "replication"], &["INFO", "persistence"]];
        if self.kind == Kind::RedisCluster {
            commands.push(&["CLUSTER", "INFO"]);
        }
        let replies = self.resp.pipeline("INFO", &commands).await?;
        if let Some(message) = refusal(&replies) {
            // It answers, so it lives; -LOADING, -BUSY, -NOAUTH say why it does not serve.
            let loading = message.starts_with("LOADING");
            return Ok(Health { loading, detail: message.to_owned(), ..Health::default() });
        }
        let text = |index: usize| replies.get(index).and_then(Reply::text);
        let (Some(replication), Some(persistence)) = (text(0), text(1)) else {
            return Err(self.resp.unexpected("INFO", "a reply of another kind"));
        };
        let mut health = self.kind_health(replication, persistence);
        if self.kind == Kind::RedisCluster && !health.loading {
            let info = text(2).unwrap_or_default().to_owned();
            self.cluster(&info, &mut health).await?;
        }
        health.pid = self.server().await?.pid;
        Ok(health)
    }

    async fn set_live(&mut self, changes: &[Change]) -> Result<(), AdminError> {
        if let Some(change) = changes.iter().find(|change| !change.live) {
            return Err(AdminError::NotLive { directive: change.directive.clone() });
        }
        let release = self.server().await?.release;
        let mut done: Vec<(&str, String)> = Vec::with_capacity(changes.len());
        for change in changes {
            match self.set_one(release, change).await {
                Ok(before) => done.push((&change.directive, before)),
                Err(error) => {
                    for (directive, before) in done.into_iter().rev() {
                        // The first refusal is what is told; a connection that broke ends this too.
                        if self.config_set(directive, &before).await.is_err() {
                            break;
                        }
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn keys(&mut self) -> Result<u64, AdminError> {
        let info = self.info("keyspace").await?;
        Ok(keys(&info))
    }

    async fn persisted(&mut self) -> Result<bool, AdminError> {
        let info = self.info("persistence").await?;
        let is = |name: &str, value: &str| field(&info, name) == Some(value);
        let zero_or_absent = |name: &str| field(&info, name).is_none_or(|value| value == "0");
        if is("loading", "1") {
            return Ok(false);
        }
        if is("aof_enabled", "1") {
            let written = zero_or_absent("aof_buffer_length") && zero_or_absent("aof_pending_bio_fsync");
            return Ok(is("aof_last_write_status", "ok") && written && is("aof_rewrite_in_progress", "0"));
        }
        let idle = is("rdb_bgsave_in_progress", "0") && is("rdb_last_bgsave_status", "ok");
        Ok(idle && is("rdb_changes_since_last_save", "0"))
    }

    async fn save(&mut self) -> Result<(), AdminError> {
        // Refused while one is under way: that one may lack what came since it began.
        self.resp.call("BGSAVE", &["BGSAVE"]).await.map(|_| ())
    }

    async fn shutdown(&mut self, persistence: Persistence) -> Result<(), AdminError> {
        let command: &[&str] = match persistence {
            Persistence::None => &["SHUTDOWN", "NOSAVE"],
            Persistence::Rdb => &["SHUTDOWN", "SAVE"],
            // Flushes the append-only file; there are no save points to write a snapshot for.
            Persistence::Aof => &["SHUTDOWN"],
        };
        match self.resp.call("SHUTDOWN", command).await {
            // The end of the connection is the answer.
            Ok(_) | Err(AdminError::Broken { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl RedisAdmin {
    fn kind_health(&self, replication: &str, persistence: &str) -> Health {
        let mut health = Health { serving: true, ..Health::default() };
        let is_replica = field(replication, "role") == Some("slave");
        let role = match (is_replica, self.kind) {
            (true, _) => "slave",
            (false, Kind::RedisCluster) => "master",
            (false, _) => "single",
        };
        health.role = Some(role.to_owned());
        if field(persistence, "loading") == Some("1") {
            health.loading = true;
            health.serving = false;
            let share = field(persistence, "loading_loaded_perc").unwrap_or("0");
            health.detail = format!("loading its data, {share} %");
        }
        if is_replica {
            let link = field(replication, "master_link_status").unwrap_or("down");
            health.link = Some(link.to_owned());
            health.loading |= field(replication, "master_sync_in_progress") == Some("1");
            if link != "up" && health.serving {
                health.serving = false;
                "the link to its master is down".clone_into(&mut health.detail);
            }
        }
        if health.serving {
            health.detail = disk_trouble(persistence).unwrap_or_default();
        }
        health
    }
}

/// Why its data is not on disk as it should be. Both stay as they are until a write succeeds.
fn disk_trouble(persistence: &str) -> Option<String> {
    let failed = |name| field(persistence, name).is_some_and(|status| status != "ok");
    if field(persistence, "aof_enabled") == Some("1") && failed("aof_last_write_status") {
        return Some(format!(
            "{DISK_TROUBLE}: appending to its file failed, and writes are refused until that works"
        ));
    }
    // `stop-writes-on-bgsave-error`, on unless the spec says otherwise.
    failed("rdb_last_bgsave_status").then(|| {
        format!("{DISK_TROUBLE}: its last snapshot failed, and writes may be refused until one is made")
    })
}

/// The value of a line `name:value`.
fn field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn refusal(replies: &[Reply]) -> Option<&str> {
    replies.iter().find_map(|reply| match reply {
        Reply::Error(message) => Some(message.as_str()),
        Reply::Status(_) | Reply::Number(_) | Reply::Bulk(_) | Reply::List(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "# Replication\r\nrole:master\r\nmaster_repl_offset:7\r\n";
        assert_eq!(field(info, "role"), Some("master"));
        assert_eq!(field(info, "master"), None);
    }

    #[test]
    fn a_replica_that_does_not_follow_yet_is_no_master() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let line = |flags: &str, of: &str| format!("{id} 10.0.0.1:1@2 myself,{flags} {of} 0 0 5 connected");
        let own = |line: &str| Own::of(&Node::parse(line).unwrap().0);
        let master = Health { serving: true, role: Some(String::from("master")), ..Health::default() };
        let mut health = master.clone();
        own(&line("slave", &id.replace('0', "f"))).complete(&mut health);
        let seen = (health.serving, health.role.as_deref(), health.link.as_deref());
        assert_eq!(seen, (false, Some("slave"), Some("down")));
        let mut health = master.clone();
        own(&line("master", "-")).complete(&mut health);
        assert_eq!(health, master);
    }

    #[test]
    fn a_server_that_cannot_write_to_its_disk_says_so() {
        let info = |aof: &str, append: &str, save: &str| {
            let (aof, append) =
                (format!("aof_enabled:{aof}\r\n"), format!("aof_last_write_status:{append}\r\n"));
            format!("# Persistence\r\nloading:0\r\n{aof}{append}rdb_last_bgsave_status:{save}\r\n")
        };
        assert_eq!(disk_trouble(&info("0", "ok", "ok")), None);
        assert_eq!(disk_trouble(&info("1", "ok", "ok")), None);
        for bad in [info("1", "err", "ok"), info("0", "ok", "err")] {
            assert!(disk_trouble(&bad).unwrap().starts_with(DISK_TROUBLE));
        }
        assert_eq!(disk_trouble("# Persistence\r\nloading:0\r\n"), None);
    }
}
