//! What /proc says of processes.

use std::{fs, time::Duration};

use tokio::time::sleep;

/// Memory of a process, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// Resident, shared pages counted in full.
    pub(crate) rss: f64,
    /// Resident, shared pages counted by share.
    pub(crate) pss: f64,
    /// Pages of its own.
    pub(crate) private: f64,
}

/// Of a process that runs.
pub(crate) fn memory(pid: u32) -> Option<Memory> {
    parse(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse(text: &str) -> Option<Memory> {
    let kib = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let private = kib("Private_Clean")? + kib("Private_Dirty")?;
    Some(Memory { rss: kib("Rss")? / 1024.0, pss: kib("Pss")? / 1024.0, private: private / 1024.0 })
}

/// Processor time that the threads of a process have used so far. Finer than the ticks of `stat`, of which a
/// young process has few.
pub(crate) fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let used = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}

/// The most memory that this process had resident since [`reset_peak`], in MiB.
pub(crate) fn peak() -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Forgets the peak so far.
pub(crate) fn reset_peak() {
    // 5 is the kernel's number for it (proc(5)); without the right the peak is that of the whole run.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Waits until a killed process takes no more connections: gone, or a zombie.
pub(crate) async fn dead(pid: u32) {
    while fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(!stat.rsplit_once(')')?.1.trim_start().starts_with(['Z', 'X'])))
        .unwrap_or(false)
    {
        sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mib() {
        let text = "0-1 ---p 00000000 00:00 0  [rollup]\nRss:  2048 kB\nPss:  1024 kB\nPss_Dirty: 1 kB\n\
                    Private_Clean: 256 kB\nPrivate_Dirty: 256 kB\n";
        assert_eq!(parse(text), Some(Memory { rss: 2.0, pss: 1.0, private: 0.5 }));
        assert!(memory(std::process::id()).is_some());
        assert!(!cpu(std::process::id()).is_zero());
    }
}
