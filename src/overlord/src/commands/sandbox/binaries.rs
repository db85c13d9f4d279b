//! The cache servers of this machine, put where executors look for them.

use std::{
    ffi::OsStr,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use overlord_api::Engine;
use overlord_engines::version_of;
use tokio::{process::Command, time};

use super::layout::make_dir;
use crate::failure::Failure;

/// A server prints its version at once, or is none.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A cache server of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) engine: Engine,
    pub(crate) version: String,
    pub(crate) path: PathBuf,
}

/// Looks for the servers in PATH. One of the two is enough.
pub(crate) async fn find() -> Result<Vec<Found>, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = Vec::new();
    for engine in [Engine::Redis, Engine::Memcache] {
        let Some(binary) = in_path(&path, engine.binary()) else {
            tracing::warn!(binary = engine.binary(), "not in PATH: no cluster of that engine can run");
            continue;
        };
        if let Some(version) = ask_version(&binary).await {
            found.push(Found { engine, version, path: binary });
        } else {
            tracing::warn!(binary = %binary.display(), "tells no version that is known: not used");
        }
    }
    if found.is_empty() {
        return Err(Failure::failed(
            "neither redis-server nor memcached is in PATH",
            "install them, for example with `apt-get install redis-server memcached`",
        ));
    }
    Ok(found)
}

fn in_path(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

async fn ask_version(binary: &Path) -> Option<String> {
    // Both servers know this option; memcached does not mind being root as long as it does not serve.
    let asked = Command::new(binary).arg("--version").kill_on_drop(true).output();
    let output = time::timeout(TIMEOUT, asked).await.ok()?.ok()?;
    version_of(&String::from_utf8_lossy(&output.stdout))
}

/// Puts a server into an agent's data root, as a link. What was linked there before is replaced.
pub(crate) fn install(found: &Found, data_root: &Path) -> Result<(), Failure> {
    let Found { engine, version, path } = found;
    let folder = data_root.join("lib").join(engine.as_str()).join(version).join("bin");
    make_dir(&folder)?;
    let target = path.canonicalize().map_err(|error| Failure::io(path.display(), &error))?;
    let link = folder.join(engine.binary());
    if std::fs::read_link(&link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let fresh = folder.join(format!(".{}.new", engine.binary()));
    let _ = std::fs::remove_file(&fresh);
    symlink(target, &fresh)
        .and_then(|()| std::fs::rename(&fresh, &link))
        .map_err(|error| Failure::io(link.display(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_and_linked_where_executors_look() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("redis-server");
        std::fs::write(&binary, "#!/bin/sh\n").unwrap();
        assert_eq!(in_path(folder.path().as_os_str(), "redis-server"), None, "not executable");
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = in_path(folder.path().as_os_str(), "redis-server").unwrap();
        let found = Found { engine: Engine::Redis, version: "7.0.15".into(), path };
        for _ in 0..2 {
            install(&found, folder.path()).unwrap();
        }
        let link = folder.path().join("lib/redis/7.0.15/bin/redis-server");
        assert_eq!(link.canonicalize().unwrap(), binary.canonicalize().unwrap());
    }
}
