//! The keeper of one cache instance on a Mesos agent.
//!
//! `overlord executor` is started by the agent, one process an instance, one Mesos task an executor. What
//! it shall do it reads from the instance's keys in etcd, at the start and when nudged; what it sees it
//! reports in Mesos status updates. It writes nothing to etcd and holds no connection to it.
//!
//! [`run`] is the whole life. It decides in `keeper` (pure) and acts through [`Machine`] and [`Instances`], which
//! simulations replace.

mod connection;
pub mod gate;
mod instance;
mod instances;
mod keeper;
mod linux;
mod machine;
mod meta;
mod reconfigure;
mod report;
mod run;
mod workdir;

pub use connection::Connection;
pub use instance::{ClusterNode, Instance, InstanceError, Layout};
pub use instances::{EtcdInstances, Instances, Keys, ReadError, StoreInstances};
pub use keeper::Limits;
pub use linux::{Install, LinuxMachine};
pub use machine::{
    Clearance, Disposal, Ended, Exit, LiveError, Machine, MachineError, NoAnswer, Signal, StartRequest,
    Started,
};
pub use meta::Meta;
pub use overlord_engines::{Change, Health};
pub use run::{CLUSTER_LABEL, Config, Error, run};
pub use workdir::{WorkDir, set_stale_dump_aside};
