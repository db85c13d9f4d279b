//! Where a sandbox keeps things. One process at a time: a lock file says whose folder it is.

use std::{
    fs::{self, File},
    io::{Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

/// A sandbox's folder, held by this process.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
    /// Removes the folder in the end, when nobody named it.
    temporary: Option<tempfile::TempDir>,
}

impl Layout {
    /// Takes a folder, or makes one that goes away again.
    pub(crate) fn take(dir: Option<&Path>) -> Result<Self, Failure> {
        let (root, temporary) = if let Some(dir) = dir {
            make_dir(dir)?;
            (dir.to_path_buf(), None)
        } else {
            let temporary = tempfile::Builder::new()
                .prefix("overlord-sandbox-")
                // Cache servers of agents may run as other users.
                .permissions(fs::Permissions::from_mode(0o755))
                .tempdir()
                .map_err(|error| Failure::io("a temporary folder", &error))?;
            (temporary.path().to_path_buf(), Some(temporary))
        };
        let root = root.canonicalize().map_err(|error| Failure::io(root.display(), &error))?;
        let lock = lock(&root)?;
        Ok(Self { root, _lock: lock, temporary })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn etcd(&self) -> Result<PathBuf, Failure> {
        self.made("etcd")
    }

    pub(crate) fn mesos(&self) -> Result<PathBuf, Failure> {
        self.made("mesos")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn settings_file(&self) -> PathBuf {
        self.root.join("overlord.toml")
    }

    /// Where everything listens, as JSON, for scripts.
    pub(crate) fn addresses_file(&self) -> PathBuf {
        self.root.join("addresses.json")
    }

    /// Where an agent's executors get their directories.
    pub(crate) fn agent_work(&self, name: &str) -> Result<PathBuf, Failure> {
        self.made(&format!("agents/{name}/work"))
    }

    /// An agent's data root.
    pub(crate) fn agent_data(&self, name: &str) -> Result<PathBuf, Failure> {
        self.made(&format!("agents/{name}/data"))
    }

    fn made(&self, path: &str) -> Result<PathBuf, Failure> {
        let path = self.root.join(path);
        make_dir(&path)?;
        Ok(path)
    }

    /// Removes a temporary folder; one that was named stays.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self.temporary {
            Some(temporary) => {
                let path = temporary.path().to_path_buf();
                temporary.close().map_err(|error| Failure::io(path.display(), &error))
            }
            None => Ok(()),
        }
    }
}

pub(crate) fn make_dir(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| Failure::io(format!("folder {} cannot be made", path.display()), &error))
}

fn lock(root: &Path) -> Result<File, Failure> {
    let path = root.join("lock");
    let failed = |error: std::io::Error| Failure::io(path.display(), &error);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _ = Read::take(&mut file, 20).read_to_string(&mut holder);
        return Err(Failure::failed(
            format!("a sandbox runs in {} already (process {})", root.display(), holder.trim()),
            "use that one, end it, or choose another --dir",
        ));
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_folder_takes_one_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        let first = Layout::take(Some(folder.path())).unwrap();
        let refused = Layout::take(Some(folder.path())).unwrap_err();
        assert!(refused.message.contains(&format!("process {}", std::process::id())), "{refused}");
        first.close().unwrap();
        assert!(folder.path().join("lock").exists());
        Layout::take(Some(folder.path())).unwrap();
    }

    #[test]
    fn a_folder_nobody_named_goes_away() {
        let layout = Layout::take(None).unwrap();
        let root = layout.root().to_path_buf();
        layout.agent_data("agent-1").unwrap();
        assert!(root.join("agents/agent-1/data").is_dir());
        layout.close().unwrap();
        assert!(!root.exists());
    }
}
