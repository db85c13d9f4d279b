//! The one file in which a Mesos keeps its state, replaced as a whole.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::model::Saved;

const NAME: &str = "mesos.json";

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what this build writes.
    #[error("{} is damaged; move it away to start with an empty Mesos", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads what an earlier run left; `None`: nothing.
pub(crate) fn read(dir: &Path) -> Result<Option<Saved>, StateError> {
    let path = dir.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Read { path, source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| StateError::Damaged { path, source })
}

/// Replaces the file: a reader sees the old or the new state, also after a power cut.
pub(crate) fn write(dir: &Path, saved: &Saved) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let text = serde_json::to_vec(saved)?;
    let fresh = dir.join(format!("{NAME}.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}
