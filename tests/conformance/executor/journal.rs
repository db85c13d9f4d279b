//! The transcript: what the executor sent, what came back and when, one entry after the other.

use std::{
    env,
    fmt::Write as _,
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The file being written.
pub(crate) struct Journal {
    file: Mutex<File>,
    start: Instant,
}

impl Journal {
    /// `<dir>/<executor>.executor_wire.txt`, made anew.
    pub(crate) fn open(directory: &Path, executor: &str) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let file = File::create(directory.join(format!("{executor}.executor_wire.txt")))?;
        Ok(Self { file: Mutex::new(file), start: clock().0 })
    }

    /// Who it is, and what it was given.
    pub(crate) fn start(&self) -> io::Result<()> {
        let (pid, directory) = (std::process::id(), env::current_dir()?);
        self.write(&format!("=== executor started pid={pid} cwd={}\n", directory.display()));
        let mut variables: Vec<(String, String)> = env::vars().collect();
        variables.sort();
        let mut text = "=== environment\n".to_owned();
        for (name, value) in variables {
            writeln!(text, "{name}={value}").map_err(io::Error::other)?;
        }
        self.write(&text);
        Ok(())
    }

    /// A remark.
    pub(crate) fn note(&self, text: &str) {
        self.write(&format!("=== {text}\n"));
    }

    /// A remark with its time.
    pub(crate) fn noted(&self, text: &str) {
        self.write(&format!("=== +{:.3} {text}\n", self.elapsed()));
    }

    /// A request as it left.
    pub(crate) fn sent(&self, request: &str) {
        self.write(&format!(">>> +{:.3}\n{}\n", self.elapsed(), request.replace("\r\n", "\n")));
    }

    /// What came; `label` says what it is, an answer to a call has none.
    pub(crate) fn received(&self, label: &str, text: &str) {
        let space = if label.is_empty() { "" } else { " " };
        self.write(&format!("<<< +{:.3}{space}{label}\n{}\n", self.elapsed(), text.replace("\r\n", "\n")));
    }

    fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// One write per entry, so that a reader never sees half of one for long. A full disk must not end an executor.
    fn write(&self, entry: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(format!("\n{entry}").as_bytes()) {
            eprintln!("recorded-executor: transcript: {error}");
        }
    }
}

/// Seconds since 1970, as statuses carry them.
pub(crate) fn timestamp() -> f64 {
    clock().1.as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "a process of its own, which is told no time")]
pub(crate) fn clock() -> (Instant, Duration) {
    (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
