//! Processes of a sandbox, told by where they work.

use std::path::{Path, PathBuf};

/// The `overlord` binary beside this test's own.
///
/// # Panics
/// When it was not built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OVERLORD_BINARY") {
        return PathBuf::from(path);
    }
    let me = std::env::current_exe().unwrap_or_default();
    let found =
        me.ancestors().skip(1).take(3).map(|folder| folder.join("overlord")).find(|path| path.is_file());
    #[expect(clippy::expect_used, reason = "the tests' own way to fail")]
    found.expect("the overlord binary is not built: cargo build --bin overlord")
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Every process whose working directory lies in `root`, with its command line.
pub fn processes_in(root: &Path) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let inside = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(root));
        if inside {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// The program's name in a command line.
pub fn name_of(command_line: &str) -> &str {
    let program = command_line.split_whitespace().next().unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default()
}

/// The parent of a process.
pub fn parent_of(pid: u32) -> Option<u32> {
    // The name in brackets may hold anything: what counts comes after the last one.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
