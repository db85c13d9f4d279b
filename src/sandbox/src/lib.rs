//! One Mesos and one etcd on this machine: for trying Overlord out, for tests, and, in memory and in virtual
//! time, for simulation.

mod config;
mod debug_string;
mod driver;
mod etcd;
mod faults;
mod fetcher;
mod http;
mod launcher;
mod look;
mod memory;
mod mesos;
pub mod model;
mod processes;
mod protobuf;
mod sessions;
mod state_file;
pub mod supervisor;
mod users;

pub use config::{AgentConfig, Credentials, Domain, MesosConfig, Reserved, Timings};
pub use etcd::{Etcd, EtcdConfig, EtcdError};
pub use faults::FaultError;
pub use http::{RunningMesos, StartError};
pub use launcher::{ExitReporter, LaunchError, Launcher};
pub use memory::{MemoryExecutor, MemoryScheduler};
pub use mesos::Mesos;
pub use model::{
    AgentFault, AgentState, AgentView, FrameworkView, Probe, ProbeKind, ProbeOutcome, ProbeUse,
    StartExecutor, TaskView,
};
pub use processes::Processes;
pub use sessions::Session;
pub use state_file::StateError;
