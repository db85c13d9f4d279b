//! What people may set on redis 4.0 to 7.2, from the `config.c` of each release. A directive that came in
//! a patch release counts from the next minor one, so that the table needs no patch numbers. Bounds are
//! redis's own, narrower where redis would silently change the value (`hz`, `repl-backlog-size`) or where
//! the value could only be a mistake.

use crate::{
    directive::Directive,
    value::ValueType::{
        self, Bool, Bytes, BytesOrPercent, ClientOutputBufferLimit, Enum, Int, KeyspaceEvents, Percent,
        Quantiles, Seconds,
    },
};

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;

/// Counts without a bound of their own.
const COUNT: ValueType = Int { min: 0, max: i32::MAX as i64 };
const POSITIVE: ValueType = Int { min: 1, max: i32::MAX as i64 };
/// Milliseconds.
const MILLIS: ValueType = Int { min: 0, max: i32::MAX as i64 };
const SECONDS: ValueType = Seconds { min: 0 };
const ANY_BYTES: ValueType = Bytes { min: 0, max: i64::MAX as u64 };

const fn at_least(min: u64) -> ValueType {
    Bytes { min, max: i64::MAX as u64 }
}

const fn live(name: &'static str, value: ValueType, default: &'static str) -> Directive {
    Directive::new(name, value, true, default)
}

const fn restart(name: &'static str, value: ValueType, default: &'static str) -> Directive {
    Directive::new(name, value, false, default)
}

/// Sorted by name; rows of one name by release.
pub(crate) const DIRECTIVES: &[Directive] = &[
    live("acllog-max-len", Int { min: 0, max: 1_000_000 }, "128").since(6, 0),
    live("active-defrag-cycle-max", Int { min: 1, max: 99 }, "75").until(6, 0),
    live("active-defrag-cycle-max", Int { min: 1, max: 99 }, "25").since(6, 0),
    live("active-defrag-cycle-min", Int { min: 1, max: 99 }, "25").until(5, 0),
    live("active-defrag-cycle-min", Int { min: 1, max: 99 }, "5").since(5, 0).until(6, 0),
    live("active-defrag-cycle-min", Int { min: 1, max: 99 }, "1").since(6, 0),
    live("active-defrag-ignore-bytes", at_least(1), "104857600"),
    live("active-defrag-max-scan-fields", POSITIVE, "1000").since(5, 0),
    live("active-defrag-threshold-lower", Int { min: 0, max: 1000 }, "10"),
    live("active-defrag-threshold-upper", Int { min: 0, max: 1000 }, "100"),
    live("active-expire-effort", Int { min: 1, max: 10 }, "1").since(6, 0),
    live("activedefrag", Bool, "no"),
    live("activerehashing", Bool, "yes"),
    live("aof-load-truncated", Bool, "yes"),
    live("aof-rewrite-incremental-fsync", Bool, "yes"),
    live("aof-timestamp-enabled", Bool, "no").since(7, 0),
    live("aof-use-rdb-preamble", Bool, "no").until(5, 0),
    live("aof-use-rdb-preamble", Bool, "yes").since(5, 0),
    live("appendfsync", Enum(&["everysec", "always", "no"]), "everysec"),
    live("auto-aof-rewrite-min-size", ANY_BYTES, "67108864"),
    live("auto-aof-rewrite-percentage", COUNT, "100"),
    live("busy-reply-threshold", MILLIS, "5000").formerly("lua-time-limit", 7, 0),
    live(
        "client-output-buffer-limit",
        ClientOutputBufferLimit,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    ),
    live("client-query-buffer-limit", at_least(MB), "1073741824").since(5, 0),
    live("cluster-allow-pubsubshard-when-down", Bool, "yes").since(7, 0).cluster(),
    live("cluster-allow-reads-when-down", Bool, "no").since(6, 0).cluster(),
    live("cluster-allow-replica-migration", Bool, "yes").since(7, 0).cluster(),
    live("cluster-link-sendbuf-limit", ANY_BYTES, "0").since(7, 0).cluster(),
    live("cluster-node-timeout", Int { min: 100, max: 3_600_000 }, "15000").cluster(),
    // 5.0.0 misspells the newer name in its file reader.
    live("cluster-replica-no-failover", Bool, "no")
        .since(5, 0)
        .formerly("cluster-slave-no-failover", 6, 0)
        .cluster(),
    live("cluster-replica-validity-factor", COUNT, "10")
        .formerly("cluster-slave-validity-factor", 5, 0)
        .cluster(),
    live("cluster-require-full-coverage", Bool, "yes").cluster(),
    live("crash-log-enabled", Bool, "yes").since(6, 2),
    live("crash-memcheck-enabled", Bool, "yes").since(6, 2),
    // A cluster has one, whatever is said.
    restart("databases", Int { min: 1, max: 10_000 }, "16").single(),
    live("disable-thp", Bool, "yes").since(6, 2).until(7, 0),
    restart("disable-thp", Bool, "yes").since(7, 0),
    live("dynamic-hz", Bool, "yes").since(5, 0),
    live("hash-max-listpack-entries", COUNT, "512").formerly("hash-max-ziplist-entries", 7, 0),
    live("hash-max-listpack-value", ANY_BYTES, "64").formerly("hash-max-ziplist-value", 7, 0),
    live("hll-sparse-max-bytes", ANY_BYTES, "3000"),
    live("hz", Int { min: 1, max: 500 }, "10"),
    restart("io-threads", Int { min: 1, max: 128 }, "1").since(6, 0),
    restart("io-threads-do-reads", Bool, "no").since(6, 0),
    live("jemalloc-bg-thread", Bool, "yes").since(6, 0),
    live("latency-monitor-threshold", MILLIS, "0"),
    live("latency-tracking", Bool, "yes").since(7, 0),
    live("latency-tracking-info-percentiles", Quantiles, "50 99 99.9").since(7, 0),
    live("lazyfree-lazy-eviction", Bool, "no"),
    live("lazyfree-lazy-expire", Bool, "no"),
    live("lazyfree-lazy-server-del", Bool, "no"),
    live("lazyfree-lazy-user-del", Bool, "no").since(6, 0),
    live("lazyfree-lazy-user-flush", Bool, "no").since(6, 2),
    live("lfu-decay-time", COUNT, "1"),
    live("lfu-log-factor", COUNT, "10"),
    live("list-compress-depth", Int { min: 0, max: 65_535 }, "0"),
    live("list-max-listpack-size", Int { min: -5, max: 65_535 }, "-2").formerly(
        "list-max-ziplist-size",
        7,
        0,
    ),
    live("loglevel", Enum(&["debug", "verbose", "notice", "warning"]), "notice"),
    live("maxclients", Int { min: 1, max: 1_000_000 }, "10000"),
    // Never absent: Overlord derives it. 0 would mean no limit, and the agent's memory limit would kill.
    live("maxmemory", at_least(MB), "0"),
    live("maxmemory-clients", BytesOrPercent, "0").since(7, 0),
    live("maxmemory-eviction-tenacity", Percent, "10").since(6, 2),
    live(
        "maxmemory-policy",
        Enum(&[
            "noeviction",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
        ]),
        "noeviction",
    ),
    live("maxmemory-samples", Int { min: 1, max: 1000 }, "5"),
    live("min-replicas-max-lag", SECONDS, "10").formerly("min-slaves-max-lag", 5, 0),
    live("min-replicas-to-write", COUNT, "0").formerly("min-slaves-to-write", 5, 0),
    live("no-appendfsync-on-rewrite", Bool, "no"),
    live("notify-keyspace-events", KeyspaceEvents, ""),
    live("proto-max-bulk-len", at_least(MB), "536870912").since(5, 0),
    live("rdb-del-sync-files", Bool, "no").since(6, 0),
    live("rdb-save-incremental-fsync", Bool, "yes").since(5, 0),
    restart("rdbchecksum", Bool, "yes"),
    live("rdbcompression", Bool, "yes"),
    // redis raises less than 16kb without a word.
    live("repl-backlog-size", at_least(16 * KB), "1048576"),
    live("repl-backlog-ttl", SECONDS, "3600"),
    live("repl-disable-tcp-nodelay", Bool, "no"),
    live("repl-diskless-load", Enum(&["disabled", "on-empty-db", "swapdb"]), "disabled").since(6, 0),
    live("repl-diskless-sync", Bool, "no").until(7, 0),
    live("repl-diskless-sync", Bool, "yes").since(7, 0),
    live("repl-diskless-sync-delay", SECONDS, "5"),
    live("repl-diskless-sync-max-replicas", COUNT, "0").since(7, 0),
    live("repl-ping-replica-period", Seconds { min: 1 }, "10").formerly("repl-ping-slave-period", 5, 0),
    live("repl-timeout", Seconds { min: 1 }, "60"),
    live("replica-ignore-disk-write-errors", Bool, "no").since(7, 0),
    live("replica-ignore-maxmemory", Bool, "yes").since(5, 0).formerly("slave-ignore-maxmemory", 5, 0),
    live("replica-lazy-flush", Bool, "no").formerly("slave-lazy-flush", 5, 0),
    live("replica-priority", COUNT, "100").formerly("slave-priority", 5, 0),
    live("replica-read-only", Bool, "yes").formerly("slave-read-only", 5, 0),
    live("replica-serve-stale-data", Bool, "yes").formerly("slave-serve-stale-data", 5, 0),
    live("sanitize-dump-payload", Enum(&["no", "yes", "clients"]), "no").since(6, 2),
    live("set-max-intset-entries", COUNT, "512"),
    live("set-max-listpack-entries", COUNT, "128").since(7, 2),
    live("set-max-listpack-value", COUNT, "64").since(7, 2),
    live("shutdown-timeout", SECONDS, "10").since(7, 0),
    live("slowlog-log-slower-than", Int { min: -1, max: i64::MAX }, "10000"),
    live("slowlog-max-len", Int { min: 0, max: 1_000_000 }, "128"),
    live("stop-writes-on-bgsave-error", Bool, "yes"),
    live("stream-node-max-bytes", ANY_BYTES, "4096").since(5, 0),
    live("stream-node-max-entries", COUNT, "100").since(5, 0),
    restart("tcp-backlog", Int { min: 1, max: 65_535 }, "511"),
    live("tcp-keepalive", SECONDS, "300"),
    live("timeout", SECONDS, "0"),
    live("tracking-table-max-keys", COUNT, "1000000").since(6, 0),
    live("zset-max-listpack-entries", COUNT, "128").formerly("zset-max-ziplist-entries", 7, 0),
    live("zset-max-listpack-value", ANY_BYTES, "64").formerly("zset-max-ziplist-value", 7, 0),
];
