//! One Mesos and one etcd on this machine: for trying Overlord out, for tests, and, in memory and in virtual
//! time, for simulation.

mod config;
mod driver;
mod etcd;
mod http;
mod launcher;
mod memory;
mod mesos;
pub mod model;
mod processes;
mod sessions;
mod state_file;
pub mod supervisor;

pub use config::{AgentConfig, MesosConfig, Timings};
pub use etcd::{Etcd, EtcdConfig, EtcdError};
pub use http::{RunningMesos, StartError};
pub use launcher::{ExitReporter, LaunchError, Launcher};
pub use memory::{MemoryExecutor, MemoryScheduler};
pub use mesos::Mesos;
pub use model::{AgentState, AgentView, FrameworkView, StartExecutor, TaskView};
pub use processes::Processes;
pub use sessions::Session;
pub use state_file::StateError;
