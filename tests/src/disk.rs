//! Small disks: each agent's data lies on a file system of its own, which a test can fill. That needs the right to
//! mount; without it there are none.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::Sandbox;

/// Bytes of each: many times what the instances of a test keep.
const SIZE: u64 = 16 << 20;

/// What takes all the space of a full one.
const FILLER: &str = "filler";

/// A file system of its own, in memory. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one there, if that is permitted.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let options = format!("size={SIZE},mode=0755");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        output.ok()?.status.success().then(|| Self { at: at.to_owned() })
    }

    /// Fills it up to the last byte.
    fn fill(&self) -> std::io::Result<()> {
        let mut file = File::create(self.at.join(FILLER))?;
        for size in [1 << 16, 1] {
            let block = vec![0; size];
            loop {
                match file.write(&block) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    fn empty(&self) -> std::io::Result<()> {
        match std::fs::remove_file(self.at.join(FILLER)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process may still be ending there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}

impl Sandbox {
    /// Whether agents have disks of their own: it needs the right to mount.
    pub fn has_small_disks(&self) -> bool {
        self.disk(1).is_some()
    }

    /// Fills the disk of agent `n`. Whether it has one of its own.
    ///
    /// # Panics
    /// When it cannot be filled.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub fn fill_disk(&self, n: u8) -> bool {
        let Some(disk) = self.disk(n) else { return false };
        disk.fill().expect("a full disk");
        true
    }

    /// Gives the space on the disk of agent `n` back.
    ///
    /// # Panics
    /// When that fails.
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    pub fn empty_disk(&self, n: u8) {
        if let Some(disk) = self.disk(n) {
            disk.empty().expect("an empty disk");
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_more_until_there_is_room_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else { return };
    disk.fill().expect("a full disk");
    let file = dir.path().join("disk/file");
    let refused = std::fs::write(&file, "text").expect_err("no space");
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    disk.empty().expect("an empty disk");
    std::fs::write(&file, "text").expect("space");
    drop(disk);
    assert!(!file.exists());
}
