//! The file of a backup: JSON lines. First a header, then a line for each key, last a trailer with the number of keys
//! and the SHA-256 of all bytes before it; a file without its trailer is no backup. Written and read line by line.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// The version of the format that this build writes and the newest it reads.
const VERSION: u32 = 1;

/// The longest line: a value of etcd's largest request as base64, with room for its key.
const MAX_LINE: u64 = 4 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    /// Version of the format.
    pub(crate) overlord_backup: u32,
    /// The store's revision, the same for all keys.
    pub(crate) store_revision: i64,
    /// When.
    pub(crate) taken_at: Timestamp,
    /// Version of the program that wrote it, for people.
    pub(crate) program: String,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    key: String,
    value: String,
    mod_revision: i64,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trailer {
    keys: u64,
    sha256: String,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    use std::fmt::Write as _;
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A backup that is being written: beside its place, and put there when it is whole. Readable by its owner alone, as
/// it may hold secrets.
pub(crate) struct Writer {
    out: BufWriter<tempfile::NamedTempFile>,
    sum: Sha256,
    keys: u64,
}

impl Writer {
    /// Begins the file that will be at `path`.
    pub(crate) fn create(path: &Path, store_revision: i64, taken_at: Timestamp) -> Result<Self, Failure> {
        if path.exists() {
            return Err(Failure::failed(
                format!("{} is there already", path.display()),
                "name another file; a backup is never overwritten",
            ));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // tempfile makes it 0600.
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
            .map_err(|error| Failure::io(path.display(), &error))?;
        let mut writer = Self { out: BufWriter::new(file), sum: Sha256::new(), keys: 0 };
        let program = env!("CARGO_PKG_VERSION").to_owned();
        writer.line(&Header { overlord_backup: VERSION, store_revision, taken_at, program })?;
        Ok(writer)
    }

    /// Adds a key.
    pub(crate) fn add(&mut self, key: &str, value: &[u8], mod_revision: i64) -> Result<(), Failure> {
        self.keys += 1;
        self.line(&Line { key: key.to_owned(), value: STANDARD.encode(value), mod_revision })
    }

    /// Ends the file and puts it at `path`; how many keys it has.
    pub(crate) fn finish(mut self, path: &Path) -> Result<u64, Failure> {
        let sha256 = hex(self.sum.clone().finalize());
        self.line(&Trailer { keys: self.keys, sha256 })?;
        let io = |error: &std::io::Error| Failure::io(path.display(), error);
        let file = self.out.into_inner().map_err(|error| io(error.error()))?;
        file.as_file().sync_all().map_err(|error| io(&error))?;
        file.persist_noclobber(path).map_err(|error| io(&error.error))?;
        Ok(self.keys)
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value)
            .map_err(|error| Failure::failed(format!("a line cannot be written as JSON: {error}"), ""))?;
        line.push(b'\n');
        self.sum.update(&line);
        self.out.write_all(&line).map_err(|error| Failure::io("the backup", &error))
    }
}

/// A backup that is being read. Whether it is whole is known when its last key was read: it is read once for nothing
/// before anything is done with it.
pub(crate) struct Reader {
    input: BufReader<File>,
    shown: String,
    header: Header,
    sum: Sha256,
    keys: u64,
    number: u64,
}

impl Reader {
    /// Opens the file at `path`, and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::io(&shown, &error))?;
        let header = Header {
            overlord_backup: VERSION,
            store_revision: 0,
            taken_at: Timestamp::UNIX_EPOCH,
            program: String::new(),
        };
        let mut reader =
            Self { input: BufReader::new(file), shown, header, sum: Sha256::new(), keys: 0, number: 0 };
        let line = reader.line()?;
        reader.header =
            serde_json::from_slice(&line).map_err(|_| reader.damaged("this is no backup of overlord"))?;
        let version = reader.header.overlord_backup;
        if version > VERSION {
            return Err(Failure::failed(
                format!(
                    "{} is of format version {version}, this program reads up to {VERSION}",
                    reader.shown
                ),
                "use the program that wrote it, or a newer one",
            ));
        }
        reader.sum.update(&line);
        Ok(reader)
    }

    /// When and of what it was made.
    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// The next key, in the order of the file; none at its sound end.
    pub(crate) fn next(&mut self) -> Result<Option<Saved>, Failure> {
        let line = self.line()?;
        if let Ok(end) = serde_json::from_slice::<Trailer>(&line) {
            if end.sha256 != hex(self.sum.clone().finalize()) || end.keys != self.keys {
                return Err(self.damaged("the checksum does not fit: the file was changed"));
            }
            return match self.input.read(&mut [0]) {
                Ok(0) => Ok(None),
                Ok(_) => Err(self.damaged("something follows the end")),
                Err(error) => Err(Failure::io(&self.shown, &error)),
            };
        }
        self.sum.update(&line);
        self.keys += 1;
        let entry: Line = serde_json::from_slice(&line).map_err(|error| self.damaged(&error.to_string()))?;
        let value = STANDARD.decode(&entry.value).map_err(|error| self.damaged(&error.to_string()))?;
        Ok(Some(Saved { key: entry.key, value }))
    }

    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        self.number += 1;
        let mut line = Vec::new();
        let read = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::io(&self.shown, &error))? == 0 {
            return Err(self.damaged("the end is missing: it was not written to its end, or cut"));
        }
        if line.last() != Some(&b'\n') {
            return Err(self.damaged("it is cut, or longer than any that a backup has"));
        }
        Ok(line)
    }

    fn damaged(&self, why: &str) -> Failure {
        let Self { shown, number, .. } = self;
        Failure::failed(format!("{shown}, line {number}: {why}"), "take another copy of the backup")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(path: &Path) -> u64 {
        let mut writer = Writer::create(path, 41, Timestamp::UNIX_EPOCH).unwrap();
        writer.add("/overlord/config/a", b"kind: Redis\n", 7).unwrap();
        writer.add("/overlord/config/b", &[0, 255], 9).unwrap();
        writer.finish(path).unwrap()
    }

    fn keys(path: &Path) -> Result<Vec<Saved>, Failure> {
        let mut reader = Reader::open(path)?;
        let mut all = Vec::new();
        while let Some(saved) = reader.next()? {
            all.push(saved);
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_reads_back_and_is_nobody_elses_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        assert_eq!(write(&path), 2);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let all = keys(&path).unwrap();
        assert_eq!(all[0], Saved { key: "/overlord/config/a".into(), value: b"kind: Redis\n".to_vec() });
        assert_eq!(all[1].value, [0, 255]);
        let header = Reader::open(&path).unwrap().header().clone();
        assert_eq!((header.store_revision, header.taken_at), (41, Timestamp::UNIX_EPOCH));
        assert!(Writer::create(&path, 1, Timestamp::UNIX_EPOCH).is_err(), "never overwritten");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no other file is left");
    }

    #[test]
    fn a_file_that_was_cut_or_changed_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        write(&path);
        let sound = std::fs::read(&path).unwrap();
        for at in 0..sound.len() {
            std::fs::write(&path, &sound[..at]).unwrap();
            assert!(keys(&path).is_err(), "cut at {at}");
            let mut changed = sound.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(keys(&path).is_err(), "changed at {at}");
        }
        std::fs::write(&path, [sound.clone(), b"x".to_vec()].concat()).unwrap();
        assert!(keys(&path).unwrap_err().message.contains("something follows"));
    }

    #[test]
    fn a_newer_format_is_refused_by_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        write(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"overlordBackup\":1", "\"overlordBackup\":2", 1)).unwrap();
        assert!(keys(&path).unwrap_err().message.contains("format version 2"));
    }
}
