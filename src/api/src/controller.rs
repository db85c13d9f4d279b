//! The controllers themselves: which ones run, and how one of them stands.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Leader;

/// `controllers/<id>`: a controller that runs. Written by itself, under a lease of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Version of this value.
    #[serde(default = "crate::value::first_version")]
    pub version: u32,
    /// Host name, process id and start time.
    pub id: String,
    /// Where its API answers, `http://ip:port`.
    pub api: String,
    /// Version of the program.
    pub program: String,
    /// Since when it runs.
    pub since: Timestamp,
}

/// What a controller is among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It has won the key, and acts.
    Leader,
    /// It reads along, ready to take over.
    Standby,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Leader => "leader",
            Self::Standby => "standby",
        })
    }
}

/// How a controller stands: what it knows of itself, told without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Who it is.
    pub id: String,
    /// What it is.
    pub role: Role,
    /// Since when it is that.
    pub since: Timestamp,
    /// The leader: the number of its term, the create revision of the leader key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Whether it has read everything once.
    pub synced: bool,
    /// Since when what it knows of etcd is not kept up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Timestamp>,
    /// Who leads, as far as it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
    /// Since when it knows of nobody who leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_leader_since: Option<Timestamp>,
    /// The leader: how it stands with Mesos. Nobody else speaks to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesos: Option<MesosStanding>,
    /// That the store went back, and nobody accepted it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_went_back: Option<StoreWentBack>,
}

/// A store that is older than what was seen of it, or of another past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreWentBack {
    /// How far it was seen.
    pub known: crate::StoreMark,
    /// How far it was when that was noticed.
    pub found: crate::StoreMark,
}

/// How a leader stands with Mesos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MesosStanding {
    /// In a word.
    pub state: MesosState,
    /// Since when it is not subscribed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How a leader stands with Mesos, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MesosState {
    /// It is subscribed.
    Subscribed,
    /// No master answers, or none has yet.
    Unreachable,
    /// The master does not want the framework as it is.
    Refused,
    /// The master removed the framework for good.
    Removed,
}

impl std::fmt::Display for MesosState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Subscribed => "subscribed",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Removed => "removed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_interfaces() {
        let since: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let entry = Registration {
            version: crate::VALUES_VERSION,
            id: "h.1.t".to_owned(),
            api: "http://10.0.0.1:8880".to_owned(),
            program: "1.2.3".to_owned(),
            since,
        };
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"{"version":1,"id":"h.1.t","api":"http://10.0.0.1:8880","program":"1.2.3","since":"2026-01-02T03:04:05Z"}"#
        );
        let standing = Standing {
            id: entry.id.clone(),
            role: Role::Leader,
            since,
            epoch: Some(7),
            synced: true,
            stale_since: None,
            leader: Some(Leader::new(entry.id, entry.api)),
            no_leader_since: None,
            mesos: Some(MesosStanding {
                state: MesosState::Unreachable,
                since: Some(since),
                message: "x".to_owned(),
            }),
            store_went_back: None,
        };
        assert_eq!(
            serde_json::to_string(&standing).unwrap(),
            r#"{"id":"h.1.t","role":"leader","since":"2026-01-02T03:04:05Z","epoch":7,"synced":true,"leader":{"version":1,"id":"h.1.t","api":"http://10.0.0.1:8880"},"mesos":{"state":"unreachable","since":"2026-01-02T03:04:05Z","message":"x"}}"#
        );
    }
}
