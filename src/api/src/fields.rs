//! Every field of a manifest: its name, meaning, type, bounds and default, once. The checks read it,
//! and the JSON Schema is written from it, so the two cannot disagree.

use crate::{Kind, check::text};

/// `apiVersion` of the manifests that this build reads.
pub const API_VERSION: &str = "overlord/v1";

/// Labels a cluster may have.
pub(crate) const MAX_LABELS: usize = 32;
/// Directives a spec may have.
pub(crate) const MAX_DIRECTIVES: usize = 128;
/// Roles, spreads and constraints a placement may have.
const MAX_ROLES: usize = 8;
const MAX_SPREADS: usize = 3;
const MAX_CONSTRAINTS: usize = 16;

/// A mapping with a closed list of fields.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) fields: &'static [Field],
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// For people, in the schema.
    pub(crate) about: &'static str,
    pub(crate) need: Need,
    pub(crate) holds: Type,
}

/// Whether a field must be given.
#[derive(Debug)]
pub(crate) enum Need {
    /// Yes; this is how it looks.
    Required(&'static str),
    /// No; this is what it is then: a scalar as people would write it, a list as JSON.
    Default(&'static str),
    /// No; then its own fields have their defaults, or there is nothing.
    Optional,
}

/// What a field holds.
#[derive(Debug)]
pub(crate) enum Type {
    Object(&'static Object),
    List {
        of: &'static Type,
        most: usize,
        least: usize,
    },
    /// Names people choose, with text.
    Labels,
    /// Directives of the engine.
    Config,
    /// A cluster name.
    Name,
    /// An engine version.
    Version,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Text of at most that many bytes. The pattern is the schema's, the rule says what is wrong.
    Text {
        most: usize,
        pattern: &'static str,
        rule: fn(&str) -> Result<(), &'static str>,
    },
    Flag,
    Whole {
        least: u32,
        most: u32,
    },
    Cpu {
        least: u32,
        most: u32,
    },
    Bytes {
        least: u64,
        most: u64,
    },
    /// Milliseconds.
    Time {
        least: u64,
        most: u64,
    },
}

impl Object {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name)
    }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MI: u64 = 1 << 20;
const TI: u64 = 1 << 40;

/// The top of a document. Its `spec` depends on the kind: see [`spec`].
pub(crate) static DOCUMENT: Object = Object {
    fields: &[
        Field {
            name: "apiVersion",
            about: "Version of this format: always overlord/v1.",
            need: Need::Required("apiVersion: overlord/v1"),
            holds: Type::Word(&[API_VERSION]),
        },
        Field {
            name: "kind",
            about: "Redis: independent redis servers on a client-side hash ring. RedisCluster: one redis cluster with \
                    masters, replicas and slots. Memcache: independent memcached servers. Never changes.",
            need: Need::Required("kind: Redis"),
            holds: Type::Word(&["Redis", "RedisCluster", "Memcache"]),
        },
        Field {
            name: "metadata",
            about: "Who the cluster is.",
            need: Need::Required("metadata: {name: orders}"),
            holds: Type::Object(&METADATA),
        },
        Field {
            name: "spec",
            about: "What the cluster shall be.",
            need: Need::Required("spec: {version: ..., resources: {memory: ...}, ...}"),
            // Stands for any kind; see `spec`.
            holds: Type::Object(&NOTHING),
        },
    ],
};

static NOTHING: Object = Object { fields: &[] };

pub(crate) static METADATA: Object = Object {
    fields: &[
        Field {
            name: "name",
            about: "Name of the cluster: a-z, 0-9 and inner dashes, at most 40. Equals the last part of its key in etcd.",
            need: Need::Required("name: orders"),
            holds: Type::Name,
        },
        Field {
            name: "labels",
            about: "Names and values of your own, at most 32. They select clusters in listings and mean nothing else.",
            need: Need::Optional,
            holds: Type::Labels,
        },
    ],
};

/// The fields of `spec` for one kind.
pub(crate) const fn spec(kind: Kind) -> &'static Object {
    match kind {
        Kind::Redis => &REDIS,
        Kind::RedisCluster => &REDIS_CLUSTER,
        Kind::Memcache => &MEMCACHE,
    }
}

static REDIS: Object = Object {
    fields: &[
        VERSION,
        SHARDS,
        REDIS_RESOURCES,
        CONFIG,
        PERSISTENCE,
        PLACEMENT,
        UPDATES,
        RECOVERIES,
        DELETIONS,
    ],
};
static REDIS_CLUSTER: Object = Object {
    fields: &[
        VERSION,
        MASTERS,
        REPLICAS,
        REDIS_RESOURCES,
        CONFIG,
        PERSISTENCE,
        APART,
        UPDATES,
        RECOVERIES,
        DELETIONS,
    ],
};
static MEMCACHE: Object = Object {
    fields: &[
        VERSION,
        INSTANCES,
        SLAB_RESOURCES,
        CONFIG,
        NO_MODES,
        PLACEMENT,
        UPDATES,
        RECOVERIES,
        DELETIONS,
    ],
};

const VERSION: Field = Field {
    name: "version",
    about: "Version of the engine, in quotes: one of the controller's catalogue (overlord config show).",
    need: Need::Required("version: \"7.0.15\""),
    holds: Type::Version,
};
const SHARDS: Field = Field {
    name: "shards",
    about: "How many independent redis servers, each with an alias on the clients' hash ring. No replicas in this version.",
    need: Need::Required("shards: 2"),
    holds: Type::Whole { least: 1, most: 1024 },
};
const MASTERS: Field = Field {
    name: "masters",
    about: "How many masters share the 16384 slots. Fewer than three cannot elect.",
    need: Need::Required("masters: 3"),
    holds: Type::Whole { least: 3, most: 1000 },
};
const REPLICAS: Field = Field {
    name: "replicasPerMaster",
    about: "How many replicas each master has. With 0 a lost master takes its slots along.",
    need: Need::Required("replicasPerMaster: 1"),
    holds: Type::Whole { least: 0, most: 5 },
};
const INSTANCES: Field = Field {
    name: "instances",
    about: "How many independent memcached servers, each with an alias on the clients' hash ring.",
    need: Need::Required("instances: 2"),
    holds: Type::Whole { least: 1, most: 1024 },
};

const REDIS_RESOURCES: Field = resources(&RESOURCES);
const SLAB_RESOURCES: Field = resources(&MEMCACHE_RESOURCES);

const fn resources(holds: &'static Object) -> Field {
    Field {
        name: "resources",
        about: "What one instance gets of its agent, without the executor's own 0.05 cpu and 32 MiB.",
        need: Need::Required("resources: {memory: 512Mi}"),
        holds: Type::Object(holds),
    }
}

const CPU: Field = Field {
    name: "cpu",
    about: "Cores, such as \"0.5\" or 500m. The default suits a cache with little traffic.",
    need: Need::Default("0.1"),
    holds: Type::Cpu { least: 10, most: 256_000 },
};
const DISK: Field = Field {
    name: "disk",
    about: "Disk for configuration, console log, and dumps if there are any.",
    need: Need::Default("1Gi"),
    holds: Type::Bytes { least: MI, most: 64 * TI },
};

pub(crate) static RESOURCES: Object = Object { fields: &[CPU, memory(16 * MI), DISK] };
/// memcached takes a page of 1 MiB for each of its about 40 slab classes once it is used.
static MEMCACHE_RESOURCES: Object = Object { fields: &[CPU, memory(32 * MI), DISK] };

const fn memory(least: u64) -> Field {
    Field {
        name: "memory",
        about: "Memory of the process, such as 512Mi. The limit for data is derived from it: 80 %, with persistence 60 %.",
        need: Need::Required("memory: 512Mi"),
        holds: Type::Bytes { least, most: 4 * TI },
    }
}

const CONFIG: Field = Field {
    name: "config",
    about: "Directives of the engine by name, at most 128: those on the allow-list of the engine's version.",
    need: Need::Optional,
    holds: Type::Config,
};

const PERSISTENCE: Field = persistence(&PERSISTENCE_MODES);
const NO_MODES: Field = persistence(&NO_PERSISTENCE);

const fn persistence(holds: &'static Object) -> Field {
    Field {
        name: "persistence",
        about: "What survives a restart of a process.",
        need: Need::Optional,
        holds: Type::Object(holds),
    }
}

static PERSISTENCE_MODES: Object = Object {
    fields: &[Field {
        name: "mode",
        about: "none: nothing survives. rdb: snapshots. aof: the append-only file.",
        need: Need::Default("none"),
        holds: Type::Word(&["none", "rdb", "aof"]),
    }],
};
static NO_PERSISTENCE: Object = Object {
    fields: &[Field {
        name: "mode",
        about: "none: memcached keeps nothing on disk.",
        need: Need::Default("none"),
        holds: Type::Word(&["none"]),
    }],
};

const PLACEMENT: Field = placement(&SINGLES_PLACEMENT);
const APART: Field = placement(&CLUSTER_PLACEMENT);

const fn placement(holds: &'static Object) -> Field {
    Field {
        name: "placement",
        about: "Where instances may run.",
        need: Need::Optional,
        holds: Type::Object(holds),
    }
}

/// Where singles go by default: apart as far as there are hosts and racks.
pub(crate) const SINGLES_SPREAD: &str =
    r#"[{"by": "host", "rule": "preferred"}, {"by": "rack", "rule": "preferred"}]"#;
/// Where the nodes of a redis cluster go by default.
pub(crate) const CLUSTER_SPREAD: &str =
    r#"[{"by": "host", "rule": "required"}, {"by": "rack", "rule": "preferred"}]"#;

static SINGLES_PLACEMENT: Object = Object { fields: &[ROLES, spread(SINGLES_SPREAD), CONSTRAINTS] };
static CLUSTER_PLACEMENT: Object = Object { fields: &[ROLES, spread(CLUSTER_SPREAD), CONSTRAINTS] };

const ROLES: Field = Field {
    name: "roles",
    about: "Mesos roles whose offers may be used.",
    need: Need::Default(r#"["*"]"#),
    holds: Type::List {
        of: &Type::Text { most: 128, pattern: text::ROLE, rule: text::role },
        most: MAX_ROLES,
        least: 1,
    },
};

const fn spread(default: &'static str) -> Field {
    Field {
        name: "spread",
        about: "Failure domains over which members are spread, most important first. An empty list: anywhere.",
        need: Need::Default(default),
        holds: Type::List { of: &SPREAD_ITEM, most: MAX_SPREADS, least: 0 },
    }
}

static SPREAD_ITEM: Type = Type::Object(&SPREAD);

pub(crate) static SPREAD: Object = Object {
    fields: &[
        Field {
            name: "by",
            about: "host: the agent's ip. rack and zone: the agent's attribute of that name, or its fault domain.",
            need: Need::Required("by: host"),
            holds: Type::Word(&["host", "rack", "zone"]),
        },
        Field {
            name: "rule",
            about: "required: a placement that breaks it is refused. preferred: kept where possible.",
            need: Need::Default("preferred"),
            holds: Type::Word(&["required", "preferred"]),
        },
    ],
};

const CONSTRAINTS: Field = Field {
    name: "constraints",
    about: "Conditions on the agent's attributes, all of which must hold.",
    need: Need::Default("[]"),
    holds: Type::List { of: &Type::Object(&CONSTRAINT), most: MAX_CONSTRAINTS, least: 0 },
};

pub(crate) static CONSTRAINT: Object = Object {
    fields: &[
        Field {
            name: "attribute",
            about: "Name of an agent attribute; host and hostname name the agent itself.",
            need: Need::Required("attribute: disk"),
            holds: Type::Text { most: 128, pattern: text::ATTRIBUTE, rule: text::attribute },
        },
        Field {
            name: "operator",
            about: "is, is-not: equal to value or not (an absent attribute is not). in, not-in: one of the comma-separated \
                    list in value or not. exists: has any value.",
            need: Need::Default("is"),
            holds: Type::Word(&["is", "is-not", "in", "not-in", "exists"]),
        },
        Field {
            name: "value",
            about: "What the attribute is compared with; none for exists.",
            need: Need::Optional,
            holds: Type::Text { most: 512, pattern: text::PLAIN, rule: text::plain },
        },
    ],
};

const UPDATES: Field = Field {
    name: "update",
    about: "How changes are rolled out.",
    need: Need::Optional,
    holds: Type::Object(&UPDATE),
};

pub(crate) static UPDATE: Object = Object {
    fields: &[
        Field {
            name: "maxUnavailable",
            about: "How many members may be down at once by a change.",
            need: Need::Default("1"),
            holds: Type::Whole { least: 1, most: 1024 },
        },
        Field {
            name: "minReady",
            about: "How long a member must serve before the next one is touched.",
            need: Need::Default("5s"),
            holds: Type::Time { least: 0, most: HOUR },
        },
        Field {
            name: "deadline",
            about: "A change without progress for this long fails. Longer than minReady.",
            need: Need::Default("10m"),
            holds: Type::Time { least: SECOND, most: 7 * DAY },
        },
        Field {
            name: "canary",
            about: "This many members are changed first, then the change waits for a person. 0: no waiting.",
            need: Need::Default("0"),
            holds: Type::Whole { least: 0, most: 1024 },
        },
        Field {
            name: "onFailure",
            about: "pause: a failed change stops where it is. continue: it goes on with the other members.",
            need: Need::Default("pause"),
            holds: Type::Word(&["pause", "continue"]),
        },
        Field {
            name: "allowDataLoss",
            about: "Whether a change may lose data that is nowhere else: scale-in, or a restart without persistence.",
            need: Need::Default("false"),
            holds: Type::Flag,
        },
    ],
};

const RECOVERIES: Field = Field {
    name: "recovery",
    about: "How losses are healed.",
    need: Need::Optional,
    holds: Type::Object(&RECOVERY),
};

pub(crate) static RECOVERY: Object = Object {
    fields: &[
        Field {
            name: "restartsBeforeReplace",
            about: "Failed starts of one member at one address before it is placed elsewhere.",
            need: Need::Default("5"),
            holds: Type::Whole { least: 1, most: 100 },
        },
        Field {
            name: "unreachableAfter",
            about: "How long an unreachable member stays among the endpoints, so that a flapping agent moves no keys.",
            need: Need::Default("30s"),
            holds: Type::Time { least: 0, most: DAY },
        },
        Field {
            name: "replaceAfter",
            about: "How long a member may be unreachable before it is replaced elsewhere. Not below unreachableAfter.",
            need: Need::Default("10m"),
            holds: Type::Time { least: SECOND, most: 30 * DAY },
        },
        Field {
            name: "onReturn",
            about: "An instance that comes back before it was replaced. keep: it goes on as it is.",
            need: Need::Default("keep"),
            holds: Type::Word(&["keep"]),
        },
        Field {
            name: "onAgentLoss",
            about: "An instance whose Mesos agent is gone for longer than its --recovery_timeout. keep: it serves on. \
                    stop: it is stopped in order, and its directory stays.",
            need: Need::Default("keep"),
            holds: Type::Word(&["keep", "stop"]),
        },
    ],
};

const DELETIONS: Field = Field {
    name: "deletion",
    about: "What a delete may do.",
    need: Need::Optional,
    holds: Type::Object(&DELETION),
};

pub(crate) static DELETION: Object = Object {
    fields: &[
        Field {
            name: "protected",
            about: "A protected cluster is deleted neither by a task nor by a missing key.",
            need: Need::Default("false"),
            holds: Type::Flag,
        },
        Field {
            name: "onDisk",
            about: "Directories of deleted instances. delete: removed. retain: moved aside.",
            need: Need::Default("delete"),
            holds: Type::Word(&["delete", "retain"]),
        },
    ],
};
