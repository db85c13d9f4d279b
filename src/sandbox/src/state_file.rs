//! Where a Mesos keeps its state: a snapshot, and a journal of what changed since. A record is in the journal
//! before anyone hears of what it says. The journal is not synced to the disk: it outlives this process, not a power
//! cut, which the processes it tells of would not outlive either.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{Record, Saved};

const SNAPSHOT: &str = "mesos.jsonl";
const JOURNAL: &str = "mesos.journal";
/// A journal that is smaller is never folded into the snapshot.
const SMALL: u64 = 4 << 20;

/// Why the state files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading or writing failed.
    #[error("cannot use {}", path.display())]
    Io {
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

/// The snapshot's first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The first journal that it does not hold.
    journal: u64,
}

/// The journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    number: u64,
    file: File,
    bytes: u64,
    /// As large as this it is folded into the snapshot.
    limit: u64,
    /// What could not be written was told.
    failed: bool,
}

impl Journal {
    /// Opens the first journal after the state was read, beginning with a snapshot of what the model is now.
    pub(crate) fn begin(dir: &Path, number: u64, saved: Saved) -> Result<Self, StateError> {
        let failed = |source| StateError::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let file = open(dir, number).map_err(failed)?;
        let size = write_snapshot(dir, number, saved).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), number, file, bytes: 0, limit: SMALL.max(2 * size), failed: false })
    }

    /// Writes records down.
    pub(crate) fn append(&mut self, records: &[Record]) {
        let mut text = Vec::new();
        for record in records {
            if serde_json::to_writer(&mut text, record).is_ok() {
                text.push(b'\n');
            }
        }
        self.bytes += text.len() as u64;
        if let Err(error) = self.file.write_all(&text)
            && !self.failed
        {
            self.failed = true;
            tracing::error!(error = %error, dir = %self.dir.display(), "the state of Mesos is not saved");
        }
    }

    pub(crate) fn is_long(&self) -> bool {
        self.bytes >= self.limit
    }

    /// Goes on in another journal; the state until now is to be folded into a snapshot by [`Fold::write`].
    pub(crate) fn fold(&mut self, saved: Saved) -> Option<Fold> {
        match open(&self.dir, self.number + 1) {
            Ok(file) => self.file = file,
            Err(error) => {
                tracing::warn!(error = %error, dir = %self.dir.display(), "no new journal");
                // Not at every record again.
                self.limit = self.limit.saturating_mul(2);
                return None;
            }
        }
        self.number += 1;
        self.limit = SMALL.max(self.bytes);
        self.bytes = 0;
        Some(Fold { dir: self.dir.clone(), number: self.number, saved })
    }
}

/// A snapshot to write.
#[derive(Debug)]
pub(crate) struct Fold {
    dir: PathBuf,
    number: u64,
    saved: Saved,
}

impl Fold {
    pub(crate) fn write(self) -> io::Result<()> {
        write_snapshot(&self.dir, self.number, self.saved).map(drop)
    }
}

fn open(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(journal(dir, number))
}

fn journal(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{JOURNAL}.{number}"))
}

/// Replaces the snapshot: a reader sees the old or the new one, also after a power cut. Its size.
fn write_snapshot(dir: &Path, number: u64, saved: Saved) -> io::Result<u64> {
    let mut text = serde_json::to_vec(&Head { journal: number })?;
    text.push(b'\n');
    for record in saved.into_records() {
        serde_json::to_writer(&mut text, &record)?;
        text.push(b'\n');
    }
    let fresh = dir.join(format!("{SNAPSHOT}.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join(SNAPSHOT))?;
    File::open(dir)?.sync_all()?;
    for number in (0..number).rev() {
        match fs::remove_file(journal(dir, number)) {
            Ok(()) => {}
            // Older ones went with an earlier snapshot.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(text.len() as u64)
}

/// Reads what an earlier run left, if it left anything, and the number of the next journal.
pub(crate) fn read(dir: &Path) -> Result<(Option<Saved>, u64), StateError> {
    let path = dir.join(SNAPSHOT);
    let Some(mut lines) = lines(&path)? else { return Ok((None, 0)) };
    let damaged = |source| StateError::Damaged { path: path.clone(), source };
    let mut saved = Saved::default();
    let first = lines.first().map(String::as_str).unwrap_or_default();
    let head: Head = serde_json::from_str(first).map_err(damaged)?;
    for line in lines.drain(..).skip(1) {
        saved.apply(serde_json::from_str(&line).map_err(damaged)?);
    }
    let mut number = head.journal;
    loop {
        let path = journal(dir, number);
        let Some(lines) = self::lines(&path)? else { break };
        let last = lines.len().saturating_sub(1);
        for (index, line) in lines.into_iter().enumerate() {
            match serde_json::from_str(&line) {
                Ok(record) => saved.apply(record),
                // The end of a write that was cut short.
                Err(_) if index == last => {}
                Err(source) => return Err(StateError::Damaged { path, source }),
            }
        }
        number += 1;
    }
    Ok((Some(saved), number))
}

fn lines(path: &Path) -> Result<Option<Vec<String>>, StateError> {
    let failed = |source| StateError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut all = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        all.push(String::from_utf8_lossy(&line.map_err(failed)?).into_owned());
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(task: &str, state: Option<&str>) -> Record {
        let key = json!({"State": [{"value": "f"}, {"value": task}]});
        serde_json::from_value(json!({"key": key, "value": state})).unwrap()
    }

    fn content(dir: &Path) -> (Vec<Value>, u64) {
        let (saved, number) = read(dir).unwrap();
        let records = saved.unwrap_or_default().into_records();
        (records.map(|record| serde_json::to_value(record).unwrap()["value"].clone()).collect(), number)
    }

    #[test]
    fn what_was_appended_is_there_again_and_the_last_word_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(dir.path(), 0, Saved::default()).unwrap();
        journal.append(&[record("a", Some("1")), record("b", Some("1"))]);
        journal.append(&[record("a", Some("2")), record("b", None)]);
        assert_eq!(content(dir.path()), (vec![json!("2")], 1));
    }

    #[test]
    fn a_record_that_was_cut_short_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(dir.path(), 0, Saved::default()).unwrap();
        journal.append(&[record("a", Some("1"))]);
        let mut file = OpenOptions::new().append(true).open(super::journal(dir.path(), 0)).unwrap();
        file.write_all(b"{\"key\": {\"Sta").unwrap();
        assert_eq!(content(dir.path()), (vec![json!("1")], 1));
        file.write_all(b"\n{}\n").unwrap();
        assert!(matches!(read(dir.path()), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn a_folded_journal_is_one_with_what_came_after() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(dir.path(), 0, Saved::default()).unwrap();
        journal.append(&[record("a", Some("1"))]);
        let mut saved = Saved::default();
        saved.apply(record("a", Some("1")));
        let fold = journal.fold(saved).unwrap();
        journal.append(&[record("b", Some("2"))]);
        // Whether it is killed before the snapshot is written or after.
        assert_eq!(content(dir.path()), (vec![json!("1"), json!("2")], 2));
        fold.write().unwrap();
        assert_eq!(content(dir.path()), (vec![json!("1"), json!("2")], 2));
        assert!(!super::journal(dir.path(), 0).exists());
    }

    #[test]
    fn an_empty_directory_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(content(dir.path()), (Vec::new(), 0));
    }
}
