//! Working directories: one a port, owned by one incarnation of one member. What belongs to somebody
//! else is moved aside, never started from, and never deleted silently.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::files;
use crate::{Instance, Layout, MachineError, meta, meta::Meta};

/// Directories moved aside that are kept of one port.
const KEPT_ASIDE: usize = 5;

/// A `meta.toml` larger than this is not ours.
const MAX_META: u64 = 64 << 10;

/// Whose a working directory is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody's yet.
    Nobody,
    /// This member's and incarnation's.
    Us,
    /// Somebody else's: the first digits of the uid, when readable.
    Other(Option<String>),
}

fn owner(dir: &Path, instance: &Instance) -> Result<Owner, MachineError> {
    match fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(MachineError::NotADirectory(dir.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Nobody),
        Err(error) => return Err(MachineError::file("look at", dir)(error)),
    }
    if fs::read_dir(dir).map_err(MachineError::file("list", dir))?.next().is_none() {
        return Ok(Owner::Nobody);
    }
    // An unreadable meta.toml tells as little as none.
    let meta = files::read_limited(&dir.join(meta::FILE), MAX_META).ok().flatten();
    let meta: Option<Meta> = meta.and_then(|text| toml::from_str(&text).ok());
    Ok(match meta {
        Some(meta) if meta.is_of(instance) => Owner::Us,
        Some(meta) => Owner::Other(meta.uid8().map(str::to_owned)),
        None => Owner::Other(None),
    })
}

/// Whether the working directory is ours and holds this configuration.
pub(crate) fn holds(layout: &Layout, instance: &Instance, conf: &str) -> bool {
    let ours = owner(&layout.work_dir(instance), instance).is_ok_and(|owner| matches!(owner, Owner::Us));
    ours && std::fs::read(layout.conf(instance)).is_ok_and(|text| text == conf.as_bytes())
}

/// Makes the working directory ours, with `meta.toml` and the configuration in it. The caller holds the port's lock.
pub(crate) fn take(
    layout: &Layout,
    instance: &Instance,
    meta: &Meta,
    conf: &str,
    now: Timestamp,
) -> Result<(), MachineError> {
    let dir = layout.work_dir(instance);
    sweep(layout, instance);
    match owner(&dir, instance)? {
        Owner::Nobody | Owner::Us => {}
        Owner::Other(uid8) => move_aside(layout, instance, uid8.as_deref(), now)?,
    }
    files::make_dir(&dir)?;
    // meta.toml comes first: a directory with anything in it says whose it is.
    let path = layout.meta(instance);
    let text = toml::to_string(meta)
        .map_err(|error| MachineError::file("write", &path)(io::Error::other(error.to_string())))?;
    files::replace(&path, text.as_bytes(), files::FILE_MODE)?;
    files::replace(&layout.conf(instance), conf.as_bytes(), files::FILE_MODE)?;
    files::make_dir(&layout.scratch(instance))
}

/// Moves our own working directory aside, to be kept for people.
pub(crate) fn retire(layout: &Layout, instance: &Instance, now: Timestamp) -> Result<(), MachineError> {
    match fs::symlink_metadata(layout.work_dir(instance)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => move_aside(layout, instance, instance.uid.get(..8), now),
    }
}

/// Renames the working directory to `<port>.<uid8>.<time>`.
fn move_aside(
    layout: &Layout,
    instance: &Instance,
    uid8: Option<&str>,
    now: Timestamp,
) -> Result<(), MachineError> {
    let dir = layout.work_dir(instance);
    let (kind_dir, port) = (layout.kind_dir(instance), instance.address.port);
    // Later than all others, whatever the clock says: the times order them.
    let newest = moved_aside(&kind_dir, port).into_iter().map(|(time, _)| time).max();
    let time = newest.map_or(i64::MIN, |newest| newest.saturating_add(1)).max(now.as_second());
    let aside = kind_dir.join(format!("{port}.{}.{time}", uid8.unwrap_or("unknown")));
    fs::rename(&dir, &aside).map_err(MachineError::file("move aside", &dir))?;
    tracing::warn!(from = %dir.display(), to = %aside.display(), "moved a working directory aside");
    prune(layout, instance);
    Ok(())
}

/// Removes the oldest directories beyond [`KEPT_ASIDE`].
fn prune(layout: &Layout, instance: &Instance) {
    let mut aside = moved_aside(&layout.kind_dir(instance), instance.address.port);
    aside.sort();
    let surplus = aside.len().saturating_sub(KEPT_ASIDE);
    for (_, path) in aside.into_iter().take(surplus) {
        match fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), kept = KEPT_ASIDE, "removed the oldest directory moved aside");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove the oldest directory moved aside");
            }
        }
    }
}

/// Directories `<port>.<word>.<time>`, with their times.
fn moved_aside(kind_dir: &Path, port: u16) -> Vec<(i64, PathBuf)> {
    let Ok(entries) = fs::read_dir(kind_dir) else { return Vec::new() };
    let time = |name: &str| -> Option<i64> {
        let (found, rest) = name.split_once('.')?;
        let (_, time) = rest.split_once('.')?;
        (found == port.to_string()).then(|| time.parse().ok())?
    };
    entries.flatten().filter_map(|entry| Some((time(entry.file_name().to_str()?)?, entry.path()))).collect()
}

/// Removes the working directory. It is renamed first, so that half of it is never taken for a whole.
pub(crate) fn remove(layout: &Layout, instance: &Instance) -> Result<(), MachineError> {
    let dir = layout.work_dir(instance);
    let doomed = layout.kind_dir(instance).join(format!("{}{}", doomed_prefix(instance), instance.task_id));
    match fs::rename(&dir, &doomed) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(MachineError::file("remove", dir)(error)),
    }
    tracing::info!(dir = %dir.display(), "removed the working directory");
    fs::remove_dir_all(&doomed).map_err(MachineError::file("remove", doomed))
}

fn doomed_prefix(instance: &Instance) -> String {
    format!(".{}.removing.", instance.address.port)
}

/// Finishes removals that an earlier executor did not live to finish.
fn sweep(layout: &Layout, instance: &Instance) {
    let prefix = doomed_prefix(instance);
    let Ok(entries) = fs::read_dir(layout.kind_dir(instance)) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix))
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot finish a removal");
        }
    }
}

/// Removes the scratch folder.
pub(crate) fn remove_scratch(layout: &Layout, instance: &Instance) -> Result<(), MachineError> {
    let scratch = layout.scratch(instance);
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(MachineError::file("remove", scratch)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use overlord_api::{Address, ClusterName, Kind};

    use super::*;

    const TASK: &str = "01234567.3.1.9";

    fn instance(change: impl FnOnce(&mut overlord_api::Info)) -> Instance {
        let address: Address = "127.0.0.1:20001".parse().unwrap();
        let mut info = crate::instance::tests::info(Kind::Redis, address, TASK);
        change(&mut info);
        Instance::new(&ClusterName::new("orders").unwrap(), address, TASK, &info).unwrap()
    }

    fn take_at(root: &Path, instance: &Instance, second: i64) -> Result<Layout, MachineError> {
        let layout = Layout::new(root);
        let meta = Meta::new(instance, vec!["redis-server".to_owned()]);
        take(&layout, instance, &meta, "port 20001\n", Timestamp::from_second(second).unwrap())
            .map(|()| layout)
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(root.join("redis"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_same_incarnation_finds_its_data_again() {
        let root = tempfile::tempdir().unwrap();
        let layout = take_at(root.path(), &instance(|_| ()), 10).unwrap();
        let dir = layout.work_dir(&instance(|_| ()));
        fs::write(dir.join("dump.rdb"), "data").unwrap();
        take_at(root.path(), &instance(|_| ()), 11).unwrap();
        assert_eq!(fs::read_to_string(dir.join("dump.rdb")).unwrap(), "data");
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o755);
        let meta: Meta = toml::from_str(&fs::read_to_string(dir.join("meta.toml")).unwrap()).unwrap();
        assert_eq!((meta.member, meta.incarnation, meta.mesos_task_id.as_str()), (3, 1, TASK));
    }

    #[test]
    fn a_directory_of_another_incarnation_or_of_nobody_is_moved_aside() {
        let root = tempfile::tempdir().unwrap();
        let layout = take_at(root.path(), &instance(|_| ()), 10).unwrap();
        let dir = layout.work_dir(&instance(|_| ()));
        fs::write(dir.join("dump.rdb"), "data").unwrap();
        take_at(root.path(), &instance(|info| info.incarnation = 2), 20).unwrap();
        assert!(!dir.join("dump.rdb").exists());
        assert!(root.path().join("redis/20001.01234567.20/dump.rdb").exists());
        fs::write(dir.join("meta.toml"), "not = [toml").unwrap();
        take_at(root.path(), &instance(|_| ()), 30).unwrap();
        assert_eq!(names(root.path()), ["20001", "20001.01234567.20", "20001.unknown.30"]);
    }

    #[test]
    fn only_the_newest_directories_moved_aside_are_kept() {
        let root = tempfile::tempdir().unwrap();
        // Nine takes move eight directories aside, all within one second.
        for n in 0..9 {
            take_at(root.path(), &instance(|info| info.incarnation = n), 100).unwrap();
        }
        let want: Vec<String> = std::iter::once("20001".to_owned())
            .chain((103..108).map(|n| format!("20001.01234567.{n}")))
            .collect();
        assert_eq!(names(root.path()), want);
    }

    #[test]
    fn a_working_directory_behind_a_symbolic_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("redis")).unwrap();
        symlink(elsewhere.path(), root.path().join("redis/20001")).unwrap();
        assert!(matches!(take_at(root.path(), &instance(|_| ()), 1), Err(MachineError::NotADirectory(_))));
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_removal_that_was_cut_short_is_finished_later() {
        let root = tempfile::tempdir().unwrap();
        let ours = instance(|_| ());
        let layout = take_at(root.path(), &ours, 1).unwrap();
        fs::create_dir(root.path().join("redis/.20001.removing.x")).unwrap();
        take_at(root.path(), &ours, 2).unwrap();
        assert_eq!(names(root.path()), ["20001"]);
        remove(&layout, &ours).unwrap();
        remove(&layout, &ours).unwrap();
        remove_scratch(&layout, &ours).unwrap();
        assert!(names(root.path()).is_empty());
        assert!(!layout.scratch(&ours).exists());
    }
}
