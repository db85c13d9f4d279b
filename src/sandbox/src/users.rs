//! Whom a command runs as: the user it names, when the agent is root and may choose, else whoever the agent is.

use std::{fs, path::Path};

/// A user by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user to become, who is to own the directory; `None`: stay. The error is a text for the framework.
pub(crate) fn to_become(wanted: Option<&str>, directory: &Path) -> Result<Option<User>, String> {
    let Some(name) = wanted.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(None) };
    if name == "root" {
        return Ok(None);
    }
    let users =
        fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    find(&users, name).map(Some).ok_or_else(|| {
        let file = directory.join("stdout");
        format!("Failed to chown '{}' to user '{name}' : No such user '{name}'", file.display())
    })
}

/// Gives a directory and what is in it to a user.
pub(crate) fn give(directory: &Path, user: User) -> std::io::Result<()> {
    std::os::unix::fs::chown(directory, Some(user.uid), Some(user.gid))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), user)?;
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(user.uid), Some(user.gid))?;
        }
    }
    Ok(())
}

/// passwd(5): `name:password:uid:gid:...`.
fn find(users: &str, name: &str) -> Option<User> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        Some(User { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\n";
        assert_eq!(find(users, "nobody"), Some(User { uid: 65_534, gid: 65_533 }));
        assert_eq!(find(users, "nobod"), None);
    }
}
