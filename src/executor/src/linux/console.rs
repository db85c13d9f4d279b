//! `console.log`: stdout and stderr of a server. The server writes straight into the file, so that it
//! neither blocks nor dies with its executor; the executor keeps the file small.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate};

use super::files;
use crate::report;

/// `console.log` is cut when it is longer; `console.log.1` is never longer.
const MAX_CONSOLE: u64 = 1 << 20;

/// File systems collapse whole blocks only.
const BLOCK: u64 = 4096;

/// Of the end of a log, what goes into a message.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 8;
const TAIL_TEXT: usize = 700;

/// Opens the log for a server to append to.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(files::FILE_MODE)
        .custom_flags(files::nofollow())
        .open(path)
}

/// When the log is too long, moves its older part to `console.log.1`. Says whether it did.
///
/// The server appends to the same file meanwhile. Where the file system can cut off the front of a file
/// (ext4, xfs) nothing is lost; elsewhere lines written in the instant between copy and truncation are.
pub(crate) fn rotate(path: &Path) -> io::Result<bool> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(false) };
    if meta.len() <= MAX_CONSOLE {
        return Ok(false);
    }
    let mut log = OpenOptions::new().read(true).write(true).custom_flags(files::nofollow()).open(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut older = tempfile::Builder::new().prefix(".console").tempfile_in(dir)?;
    // The range to collapse must end before the end of the file.
    let front = (meta.len() - 1) / BLOCK * BLOCK;
    log.seek(SeekFrom::Start(front.saturating_sub(MAX_CONSOLE)))?;
    io::copy(&mut log.by_ref().take(front.min(MAX_CONSOLE)), older.as_file_mut())?;
    if fallocate(&log, FallocateFlags::COLLAPSE_RANGE, 0, front).is_err() {
        let room = MAX_CONSOLE.saturating_sub(older.as_file().metadata()?.len()).max(BLOCK);
        io::copy(&mut log.by_ref().take(room), older.as_file_mut())?;
        log.set_len(0)?;
    }
    older.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(files::FILE_MODE))?;
    older.persist(Path::new(&name)).map_err(|error| error.error)?;
    Ok(true)
}

/// The last lines written after position `from`, in one line of text.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut log = OpenOptions::new().read(true).custom_flags(files::nofollow()).open(path)?;
        let end = log.metadata()?.len();
        // After a rotation everything in the file is new.
        let from = if from > end { 0 } else { from };
        log.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let lines = lines[lines.len().saturating_sub(TAIL_LINES)..].join(" / ");
    let text = report::one_line(&lines);
    // The end says why; the beginning gives way.
    let mut start = text.len().saturating_sub(TAIL_TEXT);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_long_log_is_cut_without_losing_a_line_and_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut server = open(&path).unwrap();
        let mut written = 0;
        while written <= MAX_CONSOLE {
            written += server.write(format!("line {written:08}\n").as_bytes()).unwrap() as u64;
        }
        assert!(rotate(&path).unwrap());
        writeln!(server, "after").unwrap();
        assert!(!rotate(&path).unwrap());
        let older = fs::read(dir.path().join("console.log.1")).unwrap();
        let newer = fs::read(&path).unwrap();
        assert!(newer.len() as u64 <= BLOCK + 100);
        let all = [older, newer].concat();
        let all = String::from_utf8(all).unwrap();
        // The file was hardly longer than the limit: at most a first block of it is gone.
        assert!(all.len() as u64 >= written - BLOCK);
        assert!(all.ends_with("after\n"));
        assert!(all.lines().skip(1).all(|line| line == "after" || line.len() == 13), "a line is torn");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_tail_is_that_of_this_run_in_one_clean_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        fs::write(&path, "old run\n").unwrap();
        assert_eq!(tail(&path, 8), "");
        fs::write(&path, "old run\n\n one \x1b[31m\ntwo\n").unwrap();
        assert_eq!(tail(&path, 8), "one  [31m / two");
        assert_eq!(tail(&path, 1000), "old run / one  [31m / two");
        fs::write(&path, "é".repeat(3000)).unwrap();
        assert!(tail(&path, 0).len() <= TAIL_TEXT);
        assert_eq!(tail(&dir.path().join("none"), 0), "");
    }
}
