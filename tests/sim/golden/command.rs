//! What a script may say: the whole language. How it is written is in `grammar`.

use std::time::Duration;

use overlord_api::TaskDesired;

/// An agent: by its name, or as the one that a member is on at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Agent {
    /// `agent-2`, or a name that the script gave with `call`.
    Named(String),
    /// `agent of cart/1`.
    Of(String, u32),
}

/// What is done with one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is lost, for ever or for a while; what runs on it, runs on.
    Lose(Option<Duration>),
    Return,
    Restart,
    /// It comes back with another id and an empty directory.
    Renew,
    Drain(Duration),
    /// Its machine burns, and is replaced after a while.
    LoseMachine(Duration),
    /// The operator says that it will not come back; a new one does after a while.
    MarkGone(Duration),
}

/// What becomes of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Etcd {
    Down(Duration),
    Slow(Duration, Duration),
    WithoutQuorum(Duration),
    LateWrites(Duration, Duration),
    /// It tells late of what changes.
    LateNews(Duration, Duration),
    Compacted,
    LosesLease,
    Snapshot,
    Restored,
    Full,
    Room,
}

/// What becomes of Mesos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mesos {
    Breaks,
    FailsOver(Duration, bool),
    Slow(Duration, Duration),
    TakesOffersBack,
    DropsKills(u32),
    LosesUpdates(u32),
    DoublesUpdates(u32),
    /// Of so many tasks that say that they run it says itself that they ended, though they go on.
    FalseEnds(u32),
    DelaysUpdates(Duration, Duration),
}

/// What becomes of the controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    Start,
    Standby,
    Crash,
    Stop,
    CutOff(Duration),
    /// With or without its clock.
    Pause(Duration, bool),
}

/// What is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    /// `expect phase of cart is Ready`
    Phase(String, String),
    /// `expect condition Ready of cart is True because AllServe "..."`
    Condition {
        name: String,
        cluster: String,
        truth: String,
        reason: Option<String>,
        message: Option<String>,
    },
    /// `expect cart/1 is running`
    State(String, u32, String),
    /// `expect 3 processes of cart`
    Processes(u32, String),
    /// `expect 3 endpoints of cart`
    Endpoints(u32, String),
    /// `expect 3 hosts of cart`: on so many different ones its processes are.
    Hosts(u32, String),
    /// `expect orders whole`: its nodes say of each other what the spec says of them.
    Whole(String),
    /// `expect orders knows its own only`: no node of it knows one that is none of its members.
    Knows(String),
    /// `expect orders/0 is a master`, or a replica.
    Role(String, u32, bool),
    /// `expect no offers held`
    NoOffers,
    /// `expect leader controller-2`
    Leader(String),
    /// `expect nothing of cart`
    Nothing(String),
    /// `expect task t is done`
    Task(String, String, Option<String>),
    /// `expect event Failed of cart member/1`
    Event { reason: String, cluster: String, object: Option<String>, message: Option<String> },
    /// `expect cart/1 as remembered`: the same process.
    Same(String, Option<u32>),
    /// `expect cart/1 restarted`: another process at the same address.
    Restarted(String, u32),
    /// `expect cart/1 moved`: on another host.
    Moved(String, u32),
    /// `expect key /overlord/... absent`
    Key(String, Option<String>),
    /// `expect config of cart/1 maxmemory-policy=allkeys-lru`: what its process runs with.
    Setting(String, u32, Vec<(String, String)>),
}

/// Events, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventLine {
    pub(crate) level: String,
    pub(crate) reason: String,
    pub(crate) object: String,
    pub(crate) count: u64,
    pub(crate) message: String,
}

/// One line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Apply {
        kind: String,
        cluster: String,
        settings: Vec<(String, String)>,
    },
    Edit {
        cluster: String,
        settings: Vec<(String, String)>,
    },
    Delete(String),
    /// By hand, past the API: any key.
    Write(String, String),
    Remove(String),
    /// `replace 'version':1 with 'version':2 in KEY`, by hand.
    Replace {
        from: String,
        to: String,
        key: String,
    },
    Request {
        kind: String,
        cluster: String,
        id: String,
        params: Vec<(String, String)>,
    },
    Tell(String, TaskDesired),
    Kill(String, u32),
    KillExecutor(String, u32),
    FailStarts(u32),
    /// SIGSTOP, and SIGCONT after a while.
    Hang(String, u32, Duration),
    /// The caches on the host of a member are cut off from all others.
    CutHost(String, u32, Duration),
    FillDisk(String, u32, Duration),
    DamageNodesConf(String, u32, String),
    Call(String, String, u32),
    Agent(Agent, Trouble),
    Etcd(Etcd),
    Mesos(Mesos),
    Controller(Control),
    Wait(Duration),
    Remember(String),
    Expect(Expect, Duration),
    /// Nothing is launched for so long.
    NoLaunch(Duration),
    /// So many launches at most in that time.
    AtMost(u32, Duration),
    NoWrites(Duration),
    /// From here on so many of the cluster's processes serve at least.
    Always(u32, String),
    /// From here on no master of the cluster is ended while a replica of it could take over.
    HandsOver(String),
    Events(String, Vec<EventLine>),
}
