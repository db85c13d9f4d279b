//! What /proc tells of processes and ports: proc(5).

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    path::{Path, PathBuf},
};

use overlord_api::Address;

/// A process for certain: its number and the tick it was started at, since numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    started: u64,
}

impl Process {
    /// The process of that number, unless it is gone or a zombie.
    pub(crate) fn find(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, parentheses too: fields count from the last one.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, started })
    }

    /// Whether this very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Its name, as the kernel knows it: at most 15 bytes.
    pub(crate) fn name(self) -> String {
        name(self.pid)
    }

    /// The file name of its binary.
    pub(crate) fn binary(self) -> Option<String> {
        let path = fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        let name = path.file_name()?.to_str()?;
        // The kernel says so when the file was replaced meanwhile.
        Some(name.strip_suffix(" (deleted)").unwrap_or(name).to_owned())
    }
}

/// The working directory of a process.
fn cwd(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "?".to_owned(), |name| name.trim_end().to_owned())
}

/// All processes that can be seen.
pub(crate) fn processes() -> Vec<Process> {
    pids().filter_map(Process::find).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Servers of earlier executors: processes in `dir` that run `binary`.
pub(crate) fn servers_in(dir: &Path, binary: &str) -> Vec<Process> {
    // The kernel says so when somebody removed the directory under its server.
    let mut deleted = dir.as_os_str().to_owned();
    deleted.push(" (deleted)");
    // A link is read sooner than a whole status, and hundreds of executors may look at once.
    let here = |pid: &u32| cwd(*pid).is_some_and(|cwd| cwd == dir || cwd.as_os_str() == deleted);
    pids()
        .filter(|pid| *pid != std::process::id())
        .filter(here)
        .filter_map(Process::find)
        .filter(|process| process.name() == binary || process.binary().is_some_and(|name| name == binary))
        .collect()
}

/// Whether a server could listen on `address`. Asked before [`listener`], whose tables the kernel walks for
/// milliseconds.
pub(crate) fn is_free(address: Address) -> bool {
    !TcpListener::bind(address.socket()).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// A listener that no process owns: it is another user's, or its process is on its way out.
pub(crate) const UNKNOWN: &str = "an unknown process";

/// Who listens where a server on `address` would: `pid N (name)`, or `an unknown process`.
pub(crate) fn listener(address: Address) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, address))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let owner = processes().into_iter().find(|process| {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else { return false };
        entries.flatten().any(|entry| {
            let target = fs::read_link(entry.path());
            let socket = target.as_deref().ok().and_then(Path::to_str);
            socket
                .and_then(|socket| socket.strip_prefix("socket:[")?.strip_suffix(']'))
                .is_some_and(|inode| inodes.iter().any(|listening| listening == inode))
        })
    });
    Some(owner.map_or_else(|| UNKNOWN.to_owned(), |owner| format!("pid {} ({})", owner.pid, owner.name())))
}

/// Inodes of the sockets in `table` (of /proc/net/tcp or tcp6) that listen on `address` or on all.
fn listening(table: &str, address: Address) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let (ip, port) = local.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            let ip = parse_ip(ip)?;
            let meets = ip == address.ip || ip.is_unspecified();
            // 0A is TCP_LISTEN.
            (*state == "0A" && port == address.port && meets).then(|| (*inode).to_owned())
        })
        .collect()
}

/// An address as the kernel prints it: 32 bit words in host order, in hexadecimal.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(text)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (n, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(text.get(n * 8..n * 8 + 8)?)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_recognized() {
        let us = Process::find(std::process::id()).unwrap();
        assert!(us.is_alive());
        assert_eq!(cwd(us.pid), std::env::current_dir().ok());
        assert!(us.binary().unwrap().starts_with("overlord_executor"));
        assert!(!Process { started: us.started + 1, ..us }.is_alive());
    }

    #[test]
    fn a_listener_is_named_where_it_is_in_the_way() {
        let listener_of = |ip: &str, port: u16| listener(Address::new(ip.parse().unwrap(), port));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let by = listener_of("127.0.0.1", port).unwrap();
        assert!(by.starts_with(&format!("pid {} (", std::process::id())), "{by}");
        assert_eq!(listener_of("127.0.0.2", port), None);
        drop(socket);
        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(listener_of("127.0.0.2", socket.local_addr().unwrap().port()).is_some());
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:4E21 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n   \
                     1: 0100007F:4E22 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        let address = |text: &str| text.parse::<Address>().unwrap();
        assert_eq!(listening(table, address("127.0.0.1:20001")), ["4711"]);
        assert!(listening(table, address("127.0.0.1:20002")).is_empty());
        assert_eq!(parse_ip("0000000000000000FFFF00000100007F"), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(
            parse_ip("00000000000000000000000000000000"),
            Some("0.0.0.0".parse::<IpAddr>().unwrap()).filter(|_| false).or(Some("::".parse().unwrap()))
        );
    }
}
