//! The value of redis's `client-output-buffer-limit`: limits for one or more classes of client.

use std::fmt::Write as _;

use crate::value::bytes;

/// Limits of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    class: usize,
    hard: String,
    soft: String,
    seconds: u32,
}

/// What is said about some of the classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits(Vec<Limit>);

/// Classes in the order of `CONFIG GET`, which calls replicas slaves in all releases.
const CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// What redis uses for classes that are not spoken of (all releases since 4.0): bytes, bytes, seconds.
const DEFAULTS: [(u64, u64, u32); 3] = [(0, 0, 0), (256 << 20, 64 << 20, 60), (32 << 20, 8 << 20, 60)];

impl Limits {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
        if !words.len().is_multiple_of(4) {
            return None;
        }
        let mut limits: Vec<Limit> = Vec::with_capacity(words.len() / 4);
        for part in words.chunks(4) {
            let name = if part[0] == "replica" { "slave" } else { part[0].as_str() };
            let class = CLASSES.iter().position(|class| *class == name)?;
            if limits.iter().any(|limit| limit.class == class) {
                return None;
            }
            bytes(&part[1])?;
            bytes(&part[2])?;
            let seconds = part[3].parse().ok().filter(|n| i32::try_from(*n).is_ok())?;
            limits.push(Limit { class, hard: part[1].clone(), soft: part[2].clone(), seconds });
        }
        Some(Self(limits))
    }

    /// All three classes in bytes, as `CONFIG GET` answers; also what every release takes in a CONFIG SET
    /// (4.0 knows no units there).
    pub(crate) fn canonical(&self) -> String {
        let mut text = String::new();
        for (class, (name, default)) in CLASSES.iter().zip(DEFAULTS).enumerate() {
            let limit = self.0.iter().find(|limit| limit.class == class);
            let (hard, soft, seconds) = limit.map_or(default, |limit| {
                (bytes(&limit.hard).unwrap_or(0), bytes(&limit.soft).unwrap_or(0), limit.seconds)
            });
            let gap = if class == 0 { "" } else { " " };
            let _ = write!(text, "{gap}{name} {hard} {soft} {seconds}");
        }
        text
    }

    /// One line per class, sizes as they were written: releases before 7.0 take one class a line.
    pub(crate) fn lines(&self, replica: &str) -> Vec<Vec<String>> {
        let mut limits: Vec<&Limit> = self.0.iter().collect();
        limits.sort_by_key(|limit| limit.class);
        limits
            .into_iter()
            .map(|limit| {
                let class = if limit.class == 1 { replica } else { CLASSES[limit.class] };
                vec![class.to_owned(), limit.hard.clone(), limit.soft.clone(), limit.seconds.to_string()]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_left_out_keep_their_defaults() {
        let limits = Limits::parse("pubsub 64mb 16mb 90 replica 1gb 0 0").unwrap();
        assert_eq!(limits.canonical(), "normal 0 0 0 slave 1073741824 0 0 pubsub 67108864 16777216 90");
        assert_eq!(limits.lines("replica")[0].join(" "), "replica 1gb 0 0");
        assert_eq!(limits.lines("slave")[1].join(" "), "pubsub 64mb 16mb 90");
        for bad in
            ["normal 0 0", "master 0 0 0", "normal x 0 0", "normal 0 0 -1", "slave 0 0 0 replica 0 0 0"]
        {
            assert_eq!(Limits::parse(bad), None, "{bad}");
        }
    }
}
