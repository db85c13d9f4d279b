//! A working directory as far as decisions depend on it: which data redis would load from it, and which of it
//! the configuration does not promise. [`crate::LinuxMachine`] has files; simulations bring a model.
//!
//! Without persistence a server loads a dump all the same when it starts: one from before the spec said so, or of
//! somebody's own BGSAVE, would bring back keys of long ago as if they were today's.

use std::path::PathBuf;

use overlord_api::Engine;
use overlord_engines::{Change, ServerConf};

use crate::{Instance, MachineError};

/// The files of one instance.
pub trait WorkDir: Send + Sync {
    /// Where it is, for messages.
    fn path(&self) -> PathBuf;

    /// `nodes.conf`, or as much of it as is enough to see that it is too long; `None` when it is absent.
    fn nodes_conf(&self) -> Result<Option<Vec<u8>>, MachineError>;

    /// The configuration file; `None` when it cannot be read.
    fn server_conf(&self) -> Option<String>;

    /// Whether there is a dump, with anything in it.
    fn has_dump(&self) -> bool;

    /// Whether there is an append-only file, with anything in it.
    fn has_append_only_file(&self) -> bool;

    /// Renames `nodes.conf`; few of those kept aside stay.
    fn keep_nodes_conf_aside(&self) -> Result<(), MachineError>;

    /// Replaces `nodes.conf`; a reader sees the old text or the new one.
    fn write_nodes_conf(&self, text: &str) -> Result<(), MachineError>;

    /// Renames the dump, so that no server loads it. Nothing when there is none.
    fn set_dump_aside(&self) -> Result<(), MachineError>;
}

/// Whether a server with this configuration keeps nothing on disk.
pub(crate) fn keeps_nothing(conf: &ServerConf) -> bool {
    let saves = conf.get("save").is_some_and(|points| !points.trim_matches(['"', ' ']).is_empty());
    !saves && conf.get("appendonly") != Some("yes")
}

/// Whether a server that kept nothing, or an append-only file, keeps snapshots from these changes on.
pub(crate) fn begins_to_save(changes: &[Change]) -> bool {
    let empty = |value: &Option<String>| value.as_deref().unwrap_or("").trim_matches(['"', ' ']).is_empty();
    changes.iter().any(|change| change.directive == "save" && empty(&change.old) && !empty(&change.new))
}

/// Whether the directory holds data that redis would load: without an append-only file, the dump.
pub(crate) fn has_data(dir: &dyn WorkDir) -> bool {
    let conf = dir.server_conf().and_then(|text| ServerConf::parse(&text).ok());
    if conf.as_ref().is_some_and(|conf| conf.get("appendonly") == Some("yes")) {
        return dir.has_append_only_file();
    }
    // A dump that the configuration does not promise is set aside at the start.
    conf.is_some_and(|conf| !keeps_nothing(&conf)) && dir.has_dump()
}

/// Before a start: a dump that the configuration does not promise is renamed.
pub fn set_stale_dump_aside(dir: &dyn WorkDir, instance: &Instance, conf: &str) -> Result<(), MachineError> {
    let promised = ServerConf::parse(conf).is_ok_and(|conf| !keeps_nothing(&conf));
    if instance.engine() != Engine::Redis || promised { Ok(()) } else { dir.set_dump_aside() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_snapshot_is_taken_when_snapshots_begin() {
        let change = |directive: &str, old: &str, new: &str| Change {
            directive: directive.to_owned(),
            old: Some(old.to_owned()),
            new: Some(new.to_owned()),
            live: true,
        };
        assert!(begins_to_save(&[change("hz", "10", "20"), change("save", "", "3600 1")]));
        assert!(!begins_to_save(&[change("save", "3600 1", "")]));
        assert!(!begins_to_save(&[change("save", "3600 1", "60 1")]));
        assert!(!begins_to_save(&[]));
    }

    #[test]
    fn only_a_configuration_without_save_points_and_append_only_file_keeps_nothing() {
        let keeps = |text: &str| keeps_nothing(&ServerConf::parse(text).unwrap());
        assert!(keeps("save \"\"\nappendonly no\n"));
        assert!(keeps("port 1\n"));
        assert!(!keeps("save 3600 1\nsave 60 10000\nappendonly no\n"));
        assert!(!keeps("save \"\"\nappendonly yes\n"));
    }
}
