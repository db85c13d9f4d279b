//! Files that are whole or not there: written beside, flushed, renamed. And locks between executors.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use crate::MachineError;

/// Directories.
pub(crate) const DIR_MODE: u32 = 0o755;
/// Files.
pub(crate) const FILE_MODE: u32 = 0o644;

/// How often a lock that another executor holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Replaces `path`; a reader sees the old bytes or the new ones, also after a crash of the host.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), MachineError> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".").suffix(".new").tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_dir(dir)
    };
    write().map_err(MachineError::file("write", path))
}

/// Replaces `path` so that a reader sees the old bytes or the new ones; a crash of the host may lose it.
pub(crate) fn write_plain(path: &Path, bytes: &[u8]) -> Result<(), MachineError> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".").suffix(".new").tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(MachineError::file("write", path))
}

/// Makes renames and removals in `dir` last.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the data root, which may be a symbolic link.
pub(crate) fn make_dir_all(dir: &Path) -> Result<(), MachineError> {
    if dir.is_dir() { Ok(()) } else { make_dir(dir) }
}

/// Makes `dir` and its parents, 0755 whatever the umask is. Symbolic links among the parents are the
/// host's own affair; `dir` itself must be a directory.
pub(crate) fn make_dir(dir: &Path) -> Result<(), MachineError> {
    match fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => return Err(MachineError::NotADirectory(dir.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(MachineError::file("look at", dir)(error)),
    }
    if let Some(parent) = dir.parent()
        && !parent.is_dir()
    {
        make_dir(parent)?;
    }
    let made = fs::DirBuilder::new().mode(DIR_MODE).create(dir);
    match made {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(DIR_MODE)),
        // Another executor of this host was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(MachineError::file("make directory", dir))
}

/// At most `limit` bytes of a file; `None` when it is absent.
pub(crate) fn read_limited(path: &Path, limit: u64) -> io::Result<Option<String>> {
    let text =
        |bytes| String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
    read_bytes(path, limit)?.map(text).transpose()
}

/// The same, whatever the bytes are.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new().read(true).custom_flags(nofollow()).open(path);
    let mut bytes = Vec::new();
    match file {
        Ok(file) => file.take(limit).read_to_end(&mut bytes).map(|_| Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `O_NOFOLLOW`, as std's open takes it.
pub(crate) const fn nofollow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// A lock between processes of one host, held until dropped. Not inherited by servers: std opens files
/// close-on-exec.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits at most `patience` for the lock on `path`, and writes our pid into it for people.
    pub(crate) async fn acquire(path: &Path, patience: Duration) -> Result<Self, MachineError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(nofollow())
            .open(path)
            .map_err(MachineError::file("open lock", path))?;
        let mut tries = patience.as_millis() / LOCK_POLL.as_millis();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if tries > 0 => {
                    tries -= 1;
                    // flock has no readiness event, and a blocking one has no time limit.
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(Errno::WOULDBLOCK) => {
                    let mut holder = String::new();
                    // Only for the message.
                    let _ = (&file).take(20).read_to_string(&mut holder);
                    let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() }.to_owned();
                    return Err(MachineError::Locked { path: path.to_owned(), holder, waited: patience });
                }
                Err(error) => return Err(MachineError::file("lock", path)(error.into())),
            }
        }
        let mut sign = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        sign().map_err(MachineError::file("write lock", path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_replaced_file_has_its_mode_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.conf");
        replace(&path, b"port 1\n", FILE_MODE).unwrap();
        replace(&path, b"port 2\n", FILE_MODE).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "port 2\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, FILE_MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symbolic_link_is_no_directory_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("20001");
        symlink("/tmp", &link).unwrap();
        assert!(matches!(make_dir(&link), Err(MachineError::NotADirectory(_))));
        make_dir(&dir.path().join("a/b/c")).unwrap();
        assert_eq!(fs::metadata(dir.path().join("a/b")).unwrap().permissions().mode() & 0o7777, DIR_MODE);
    }

    #[tokio::test]
    async fn the_second_one_waits_for_a_lock_and_then_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::acquire(&path, Duration::ZERO).await.unwrap();
        let error = Lock::acquire(&path, Duration::from_millis(100)).await.unwrap_err();
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(held);
        Lock::acquire(&path, Duration::ZERO).await.unwrap();
    }
}
