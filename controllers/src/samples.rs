//! Sample values for unit tests.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use jiff::Timestamp;
use overlord_api::{
    ClusterName, Deletion, Desired, Info, Kind, Observed, OnAgentLoss, OnDisk, OnFailure, OnReturn,
    Persistence, Placement, Record, Recovery, Report, Resources, Shape, Spec, State, Update,
};

/// `seconds` after the beginning of the samples' time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn cluster() -> ClusterName {
    ClusterName::new("orders").unwrap()
}

pub(crate) fn resources() -> Resources {
    Resources { cpu_millis: 100, memory: 64 << 20, disk: 64 << 20 }
}

pub(crate) fn spec(shards: u32) -> Spec {
    Spec {
        shape: Shape::Redis { shards },
        version: String::from("7.0.15"),
        resources: resources(),
        config: BTreeMap::new(),
        persistence: Persistence::None,
        placement: Placement { roles: vec![String::from("*")], spread: Vec::new(), constraints: Vec::new() },
        update: Update {
            max_unavailable: 1,
            min_ready: Duration::from_secs(5),
            deadline: Duration::from_secs(600),
            canary: 0,
            on_failure: OnFailure::Pause,
            allow_data_loss: false,
        },
        recovery: Recovery {
            restarts_before_replace: 5,
            unreachable_after: Duration::from_secs(30),
            replace_after: Duration::from_secs(600),
            on_return: OnReturn::Keep,
            on_agent_loss: OnAgentLoss::Keep,
        },
        deletion: Deletion { protected: false, on_disk: OnDisk::Delete },
    }
}

pub(crate) fn record(next_member: u32) -> Record {
    Record {
        version: 1,
        uid: String::from("0123456789abcdef0123456789abcdef"),
        kind: Kind::Redis,
        formed: true,
        next_member,
        revision: 1,
        config_revision: 1,
        born: 0,
        attempts: u64::from(next_member),
        framework: None,
        hold: None,
        deletion: None,
        tombstones: BTreeMap::new(),
        losses: BTreeMap::new(),
        generation: 0,
        restored: None,
    }
}

/// Member `member` at 127.0.0.(member + 1):20000, in `state` since the beginning.
pub(crate) fn info(member: u32, state: State) -> Info {
    let ip: IpAddr = [127, 0, 0, u8::try_from(member + 1).unwrap()].into();
    Info {
        version: overlord_api::INFO_VERSION,
        uid: record(1).uid,
        member,
        incarnation: 0,
        kind: Kind::Redis,
        engine: Kind::Redis.engine(),
        engine_version: String::from("7.0.15"),
        ip,
        port: 20000,
        bus_port: None,
        host: ip.to_string(),
        rack: None,
        zone: None,
        agent_id: format!("agent-{member}"),
        mesos_task_id: crate::identity::mesos_task_id(&record(1).uid, member, 0, u64::from(member)),
        node_id: None,
        shard: Some(member),
        alias: crate::identity::alias(&cluster(), member),
        weight: 1,
        resources: resources(),
        on_disk: OnDisk::Delete,
        on_agent_loss: OnAgentLoss::Keep,
        launches: 0,
        template: None,
        desired: Desired { state: State::Running, config: 1, restart: 0, recover: 0 },
        observed: Observed { state, config: 1, ..Observed::pending(at(0)) },
    }
}

pub(crate) fn report(state: State) -> Report {
    Report {
        version: overlord_api::INFO_VERSION,
        state,
        cluster: None,
        address: None,
        bus_port: None,
        engine_version: None,
        config: 1,
        restart: 0,
        restarts: 0,
        pid: Some(4711),
        role: None,
        epoch: None,
        link: None,
        slots: None,
        restart_needed: false,
        emptied: 0,
        config_refused: None,
        store: None,
        store_term: None,
        store_went_back: false,
        message: String::new(),
    }
}
