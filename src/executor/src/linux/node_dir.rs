//! The files of a working directory that redis itself writes: dumps, append-only files, and `nodes.conf`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use overlord_engines::cluster::MAX_NODES_CONF;

use super::{files, now};
use crate::{Instance, Layout, MachineError, WorkDir};

/// What a server loads at its start, append-only files aside.
const DUMP: &str = "dump.rdb";

/// What it is renamed to where it must not be loaded. An older one gives way.
const DUMP_ASIDE: &str = "dump.rdb.aside";

/// Files `nodes.conf.damaged.<unix time>` that are kept.
const KEPT_DAMAGED: usize = 3;

/// The working directory of one instance of this host.
#[derive(Debug, Clone)]
pub(crate) struct NodeDir {
    pub(crate) layout: Layout,
    pub(crate) instance: Instance,
}

impl WorkDir for NodeDir {
    fn path(&self) -> PathBuf {
        self.layout.work_dir(&self.instance)
    }

    fn nodes_conf(&self) -> Result<Option<Vec<u8>>, MachineError> {
        let path = self.layout.nodes_conf(&self.instance);
        // One byte more than it may have is enough to see that it is too long.
        files::read_bytes(&path, MAX_NODES_CONF as u64 + 1).map_err(MachineError::file("read", path))
    }

    fn server_conf(&self) -> Option<String> {
        fs::read_to_string(self.layout.conf(&self.instance)).ok()
    }

    fn has_dump(&self) -> bool {
        filled(&self.path().join(DUMP))
    }

    fn has_append_only_file(&self) -> bool {
        let dir = self.path();
        // A folder of several since 7.0.
        let entries = fs::read_dir(dir.join("appendonlydir")).into_iter().flatten().flatten();
        let data = |name: &std::ffi::OsStr| !name.to_string_lossy().ends_with(".manifest");
        filled(&dir.join("appendonly.aof"))
            || entries.into_iter().any(|entry| data(&entry.file_name()) && filled(&entry.path()))
    }

    fn keep_nodes_conf_aside(&self) -> Result<(), MachineError> {
        keep_aside(&self.layout.nodes_conf(&self.instance), now())
    }

    fn write_nodes_conf(&self, text: &str) -> Result<(), MachineError> {
        files::replace(&self.layout.nodes_conf(&self.instance), text.as_bytes(), files::FILE_MODE)
    }

    fn set_dump_aside(&self) -> Result<(), MachineError> {
        let dir = self.path();
        match fs::rename(dir.join(DUMP), dir.join(DUMP_ASIDE)) {
            Ok(()) => {
                tracing::warn!(dir = %dir.display(), "a dump is set aside: this server keeps nothing on disk");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(MachineError::file("set aside", dir.join(DUMP))(error)),
        }
    }
}

fn filled(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0)
}

fn keep_aside(path: &Path, now: Timestamp) -> Result<(), MachineError> {
    let mut kept = kept_aside(path);
    let newest = kept.last().map(|(time, _)| time.saturating_add(1));
    // Later than all others, whatever the clock says: the times order them.
    let time = newest.map_or(now.as_second(), |newest| newest.max(now.as_second()));
    let aside = path.with_file_name(format!("{PREFIX}{time}"));
    fs::rename(path, &aside).map_err(MachineError::file("move aside", path))?;
    tracing::warn!(to = %aside.display(), "kept a nodes.conf aside");
    kept.push((time, aside));
    let surplus = kept.len().saturating_sub(KEPT_DAMAGED);
    for (_, path) in kept.into_iter().take(surplus) {
        remove(&path).map_err(MachineError::file("remove", &path))?;
    }
    Ok(())
}

const PREFIX: &str = "nodes.conf.damaged.";

/// The files kept aside, the oldest first.
fn kept_aside(path: &Path) -> Vec<(i64, PathBuf)> {
    let entries = path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let time = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let mut kept: Vec<(i64, PathBuf)> =
        entries.filter_map(|entry| Some((time(&entry.file_name())?, entry.path()))).collect();
    kept.sort();
    kept
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
