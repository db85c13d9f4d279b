//! The dump in a working directory. Without persistence a server loads it all the same when it starts: one from
//! before the spec said so, or of somebody's own BGSAVE, would bring back keys of long ago as if they were today's.

use std::{fs, io};

use overlord_api::Engine;
use overlord_engines::{Change, ServerConf};

use crate::{Instance, Layout, MachineError};

/// What a server loads at its start, append-only files aside.
pub(crate) const FILE: &str = "dump.rdb";

/// What it is renamed to where it must not be loaded. An older one gives way.
const ASIDE: &str = "dump.rdb.aside";

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

/// Before a start: a dump that the configuration does not promise is renamed.
pub(crate) fn set_aside(layout: &Layout, instance: &Instance, conf: &str) -> Result<(), MachineError> {
    let promised = ServerConf::parse(conf).is_ok_and(|conf| !keeps_nothing(&conf));
    if instance.engine() != Engine::Redis || promised {
        return Ok(());
    }
    let dir = layout.work_dir(instance);
    match fs::rename(dir.join(FILE), dir.join(ASIDE)) {
        Ok(()) => {
            tracing::warn!(dir = %dir.display(), "a dump is set aside: this server keeps nothing on disk");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(MachineError::file("set aside", dir.join(FILE))(error)),
    }
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
