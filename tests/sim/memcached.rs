//! A memcached, as far as it is asked and commanded here: its text protocol, and how many items it holds.

use std::collections::BTreeMap;

/// Bytes of one MiB.
const MIB: u64 = 1 << 20;

/// What one process has.
#[derive(Debug, Clone)]
pub(crate) struct Memcached {
    pub(crate) pid: u32,
    pub(crate) items: u64,
}

impl Memcached {
    /// The answer to one line. Settings are those of the process, as its command line names them.
    pub(crate) fn answer(&self, line: &str, settings: &mut BTreeMap<String, String>) -> String {
        let number = |settings: &BTreeMap<String, String>, name: &str| -> u64 {
            settings.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["stats"] => format!(
                "STAT pid {}\r\nSTAT accepting_conns 1\r\nSTAT curr_items {}\r\nEND\r\n",
                self.pid, self.items
            ),
            ["stats", "settings"] => format!(
                "STAT maxbytes {}\r\nSTAT verbosity {}\r\nEND\r\n",
                number(settings, "memory-limit") * MIB,
                number(settings, "verbose")
            ),
            ["version"] => "VERSION 1.6.18\r\n".to_owned(),
            ["cache_memlimit", value] => {
                settings.insert("memory-limit".to_owned(), (*value).to_owned());
                "OK\r\n".to_owned()
            }
            ["verbosity", value] => {
                settings.insert("verbose".to_owned(), (*value).to_owned());
                "OK\r\n".to_owned()
            }
            _ => "ERROR\r\n".to_owned(),
        }
    }
}
