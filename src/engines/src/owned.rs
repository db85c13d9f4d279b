//! Directives that people may not set, and who decides them instead.

use overlord_api::{Engine, Kind};

use crate::{
    directive::Directive,
    value::ValueType::{Bool, Save},
};

/// Set by Overlord, changed on a running server.
pub(crate) const REDIS_LIVE: &[Directive] = &[
    Directive::new("appendonly", Bool, true, "no"),
    Directive::new("save", Save, true, "3600 1 300 100 60 10000"),
];

/// Name or `prefix*`, and why people may not set it.
type Owned = (&'static str, &'static str);

const ADDRESS: &str = "Overlord gives each instance its address";
const PROCESS: &str = "Overlord starts and stops the process";
const FILES: &str = "Overlord decides the files of an instance's directory";
const SECRET: &str = "passwords are secrets and never stand in a config";
const TLS: &str = "TLS needs certificates, which a config cannot carry";
const LOG: &str = "what the server says goes to console.log in its directory";
const FOREIGN: &str = "it would bring in what Overlord cannot check";
const AGENT: &str = "the agent divides its own resources";
const INTERNAL: &str = "it is for debugging the server";

const REDIS: &[Owned] = &[
    ("acl-pubsub-default", SECRET),
    ("aclfile", SECRET),
    ("always-show-logo", LOG),
    ("aof-disable-auto-gc", INTERNAL),
    ("aof_rewrite_cpulist", AGENT),
    ("appenddirname", FILES),
    ("appendfilename", FILES),
    ("appendonly", "spec.persistence decides it"),
    ("bgsave_cpulist", AGENT),
    ("bind", ADDRESS),
    ("bind-source-addr", ADDRESS),
    ("bio_cpulist", AGENT),
    ("client-default-resp", INTERNAL),
    ("cluster-announce-*", ADDRESS),
    ("cluster-config-file", FILES),
    ("cluster-enabled", "the kind decides it"),
    ("cluster-migration-barrier", "Overlord decides who replicates whom"),
    ("cluster-ping-interval", INTERNAL),
    ("cluster-port", ADDRESS),
    ("cluster-preferred-endpoint-type", ADDRESS),
    ("daemonize", PROCESS),
    ("dbfilename", FILES),
    ("dir", FILES),
    ("enable-debug-command", "it opens a way round the configuration"),
    ("enable-module-command", "it opens a way round the configuration"),
    ("enable-protected-configs", "it opens a way round the configuration"),
    ("gopher-enabled", "it opens a second protocol"),
    ("ignore-warnings", PROCESS),
    ("include", FOREIGN),
    ("key-load-delay", INTERNAL),
    ("loading-process-events-interval-bytes", INTERNAL),
    ("loadmodule", FOREIGN),
    ("locale-collate", "it depends on what the agent has installed"),
    ("logfile", LOG),
    ("lua-replicate-commands", INTERNAL),
    ("masterauth", SECRET),
    ("masteruser", SECRET),
    ("oom-score-adj", AGENT),
    ("oom-score-adj-values", AGENT),
    ("pidfile", FILES),
    ("port", ADDRESS),
    ("proc-title-template", PROCESS),
    ("propagation-error-behavior", INTERNAL),
    ("protected-mode", ADDRESS),
    ("rdb-key-save-delay", INTERNAL),
    ("rename-command", "Overlord needs the commands under their names"),
    ("replica-announce-*", ADDRESS),
    ("replica-announced", "Overlord decides who replicates whom"),
    ("replicaof", "Overlord decides who replicates whom"),
    ("req-res-logfile", INTERNAL),
    ("requirepass", SECRET),
    ("save", "spec.persistence decides it"),
    ("sentinel", "Overlord does what a sentinel would"),
    ("server_cpulist", AGENT),
    ("set-proc-title", PROCESS),
    ("shutdown-on-sigint", PROCESS),
    ("shutdown-on-sigterm", PROCESS),
    ("slave-announce-*", ADDRESS),
    ("slaveof", "Overlord decides who replicates whom"),
    ("socket-mark-id", AGENT),
    ("supervised", PROCESS),
    ("syslog-*", LOG),
    ("tls-*", TLS),
    ("unixsocket", ADDRESS),
    ("unixsocketperm", ADDRESS),
    ("use-exit-on-panic", INTERNAL),
    ("user", SECRET),
    ("watchdog-period", INTERNAL),
];

const MEMCACHE: &[Owned] = &[
    ("auth-file", SECRET),
    ("daemon", PROCESS),
    ("drop_privileges", PROCESS),
    ("enable-coredumps", AGENT),
    ("enable-largepages", "it takes all memory at once and keeps memory-limit from being changed"),
    ("enable-sasl", SECRET),
    ("enable-shutdown", PROCESS),
    ("enable-ssl", TLS),
    ("ext_*", "it would write to disks that nobody accounts for"),
    ("extended", "write the sub-option itself, such as idle_timeout: 60"),
    ("help", PROCESS),
    ("license", PROCESS),
    ("listen", ADDRESS),
    ("lock-memory", AGENT),
    ("memory-file", FILES),
    ("modern", "it stands for other options, which differ by release"),
    ("napi-ids", AGENT),
    ("no_*", "write the sub-option without no_, and the value no"),
    ("pidfile", FILES),
    ("port", ADDRESS),
    ("proxy_*", "it makes a proxy of the cache"),
    ("slab_chunk_max", INTERNAL),
    ("slab_sizes", INTERNAL),
    ("ssl_*", TLS),
    ("tail_repair_time", INTERNAL),
    ("udp-port", ADDRESS),
    ("unix-mask", ADDRESS),
    ("unix-socket", ADDRESS),
    ("user", PROCESS),
    ("version", PROCESS),
    // A break is missing in memcached.c: the value is then taken for slab_sizes too.
    ("worker_logbuf_size", "memcached would take its value for slab sizes as well"),
];

/// Why people may not set that name, if it is one of these.
pub(crate) fn owner(kind: Kind, name: &str) -> Option<&'static str> {
    let list = match kind.engine() {
        Engine::Redis => REDIS,
        Engine::Memcache => MEMCACHE,
    };
    let name = name.to_ascii_lowercase();
    list.iter()
        .find(|(pattern, _)| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        })
        .map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directive::table;

    #[test]
    fn no_name_is_both_allowed_and_refused() {
        for kind in Kind::ALL {
            for row in table(kind.engine()) {
                assert_eq!(owner(kind, row.name), None, "{}", row.name);
                if let Some((older, _)) = row.formerly {
                    assert_eq!(owner(kind, older), None, "{older}");
                }
            }
        }
    }
}
