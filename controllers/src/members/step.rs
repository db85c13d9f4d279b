//! The closed list of what a pass may do to a cluster. Each step is a finished decision: applying it
//! looks nothing up, and it prints as one imperative sentence.

use std::fmt;

use overlord_api::{Address, OnAgentLoss, OnDisk};
use overlord_placement::cluster::Shape;

use crate::redis_cluster::observed::Command;

/// In place of the revision of a person's word: while a cluster forms there is nothing to give up.
pub const WORD_OF_FORMING: i64 = 1;

/// One thing to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Find places for all members of a `RedisCluster` and launch them, or none.
    Form(Form),
    /// Find a place for a member and launch it.
    Launch(Launch),
    /// Give an order to a node of a `RedisCluster`.
    Order(Order),
    /// Write a new `server.conf` and tell the executor.
    WriteConfig {
        /// Which instance.
        address: Address,
        /// Which member.
        member: u32,
        /// The text.
        text: String,
        /// Its number.
        config: u64,
    },
    /// Order a restart of the process inside its Mesos task.
    Restart {
        /// Which instance.
        address: Address,
        /// Which member.
        member: u32,
        /// Number of the restart.
        restart: u64,
        /// Keys that are nowhere else.
        loses: u64,
    },
    /// Let a node start with what it has, without waiting for copies of its data that do not answer.
    StartAlone {
        /// Which instance.
        address: Address,
        /// Which member.
        member: u32,
        /// The revision of the person's word, or [`WORD_OF_FORMING`].
        word: i64,
    },
    /// Record that an instance shall end, for good or to be launched anew.
    Retire {
        /// Which instance.
        address: Address,
        /// Which member.
        member: u32,
        /// Whether the member is launched again afterwards.
        relaunch: bool,
        /// What happens to its directory when it ends for good.
        on_disk: OnDisk,
        /// Keys that are nowhere else.
        loses: u64,
        /// Why.
        why: String,
    },
    /// Tell Mesos to end an instance that is recorded to end; repeated until it has.
    Kill {
        /// Which instance.
        address: Address,
        /// Its task.
        mesos_task_id: String,
        /// Its agent.
        agent_id: String,
    },
    /// Remove what is recorded of an instance, and quarantine its address.
    Forget {
        /// Which instance.
        address: Address,
        /// Which member.
        member: u32,
        /// Whether it may still run somewhere: then it is killed when it comes back.
        tombstone: bool,
        /// Why.
        why: String,
    },
    /// Tell an executor again to read its keys.
    Nudge {
        /// Which instance.
        address: Address,
    },
    /// Take over a changed policy that needs nothing done on the agent.
    Amend {
        /// Which instance.
        address: Address,
        /// What now happens to its directory when it ends for good.
        on_disk: OnDisk,
        /// What it now does when its agent is gone for long.
        on_agent_loss: OnAgentLoss,
    },
}

impl Step {
    /// The names of all kinds of step, as [`Self::kind`] gives them.
    pub const KINDS: [&'static str; 11] = [
        "form",
        "launch",
        "order",
        "write-config",
        "restart",
        "start-alone",
        "retire",
        "kill",
        "forget",
        "nudge",
        "amend",
    ];

    /// The name of its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Form(_) => "form",
            Self::Launch(_) => "launch",
            Self::Order(_) => "order",
            Self::WriteConfig { .. } => "write-config",
            Self::Restart { .. } => "restart",
            Self::StartAlone { .. } => "start-alone",
            Self::Retire { .. } => "retire",
            Self::Kill { .. } => "kill",
            Self::Forget { .. } => "forget",
            Self::Nudge { .. } => "nudge",
            Self::Amend { .. } => "amend",
        }
    }
}

/// A cluster to be formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// How many members of which kind.
    pub shape: Shape,
    /// Whether it was tried before: it becomes another cluster, which no left-over of the first one can join.
    pub anew: bool,
}

/// An order to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which instance.
    pub address: Address,
    /// Which member.
    pub member: u32,
    /// Its Mesos task.
    pub mesos_task_id: String,
    /// What it shall do.
    pub command: Command,
    /// Why.
    pub why: String,
}

/// A member to be launched, before anybody knows where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Which member.
    pub member: u32,
    /// Why and where.
    pub place: Place,
}

/// Where a member may be launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A new member: anywhere.
    Anywhere,
    /// The same address only: its data is there.
    Same(Address),
    /// The same address if it can be had, else anywhere: nothing on disk counts.
    Rather(Address),
    /// Anywhere but on that instance's host.
    Elsewhere(Address),
    /// Anywhere at all, that instance's address included.
    Any(Address),
}

impl Place {
    /// The instance that this launch takes the place of.
    pub const fn replaces(self) -> Option<Address> {
        match self {
            Self::Anywhere => None,
            Self::Same(address) | Self::Rather(address) | Self::Elsewhere(address) | Self::Any(address) => {
                Some(address)
            }
        }
    }
}

/// " (loses N keys)", or nothing.
struct Loses(u64);

impl fmt::Display for Loses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " (loses {n} keys)"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(Form { shape, anew }) => {
                let again = if *anew { " again" } else { "" };
                let (masters, replicas) =
                    (shape.masters, shape.masters.saturating_mul(shape.replicas_per_master));
                write!(f, "form the cluster{again}: launch {masters} masters and {replicas} replicas")
            }
            Self::Order(Order { address, member, command, why, .. }) => {
                write!(f, "tell member {member} at {address} to {command}: {why}")
            }
            Self::Launch(Launch { member, place }) => match place {
                Place::Anywhere => write!(f, "launch member {member}"),
                Place::Same(address) => write!(f, "launch member {member} again at {address}"),
                Place::Rather(address) => write!(f, "launch member {member} again, rather at {address}"),
                Place::Elsewhere(address) => {
                    write!(f, "replace member {member}, lost at {address}, elsewhere")
                }
                Place::Any(address) => {
                    write!(f, "launch member {member} anywhere, which failed at {address}")
                }
            },
            Self::WriteConfig { address, member, config, .. } => {
                write!(f, "give member {member} at {address} configuration {config}")
            }
            Self::Restart { address, member, loses, .. } => {
                write!(f, "restart member {member} at {address}{}", Loses(*loses))
            }
            Self::StartAlone { address, member, word: WORD_OF_FORMING } => {
                write!(f, "let member {member} at {address} start with what it has: the cluster never served")
            }
            Self::StartAlone { address, member, .. } => {
                write!(f, "let member {member} at {address} start with what it has, by a person's word")
            }
            Self::Retire { address, member, relaunch: true, loses, why, .. } => {
                write!(f, "launch member {member} at {address} anew{}: {why}", Loses(*loses))
            }
            Self::Retire { address, member, relaunch: false, loses, why, .. } => {
                write!(f, "remove member {member} at {address}{}: {why}", Loses(*loses))
            }
            Self::Kill { address, mesos_task_id, .. } => write!(f, "kill {mesos_task_id} at {address}"),
            Self::Forget { address, member, tombstone: true, why } => {
                write!(f, "give up member {member} at {address}, to be killed when it returns: {why}")
            }
            Self::Forget { address, member, tombstone: false, why } => {
                write!(f, "forget member {member} at {address}: {why}")
            }
            Self::Nudge { address } => write!(f, "tell the executor of {address} again to read its keys"),
            Self::Amend { address, .. } => write!(f, "amend the record of {address}"),
        }
    }
}
