//! Types of directive values: what is accepted, and the one text that all spellings of a value share
//! (`1gb` and `1073741824`; `AKE` and `KEA`), so that a configuration can be compared with a live server.

use crate::{obuf, version::Minor};

/// Longest value of a directive. redis before 7.0 reads lines of at most 1024 bytes.
pub const MAX_VALUE: usize = 512;

/// What values a directive takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueType {
    /// `yes` or `no`; `true` and `false` are taken too, as YAML writes them.
    Bool,
    /// A whole number.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// Bytes in redis's notation: `k` is 1000, `kb` is 1024, and so on.
    Bytes {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// [`ValueType::Bytes`], or a share of `maxmemory` such as `5%`.
    BytesOrPercent,
    /// Bytes in memcached's notation: `k` is 1024, `m` is 1024 of these.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Only multiples of this.
        step: u64,
    },
    /// One of these words.
    Enum(&'static [&'static str]),
    /// 0 to 100, without a sign.
    Percent,
    /// Seconds, without a unit.
    Seconds {
        /// Smallest.
        min: u32,
    },
    /// A decimal number.
    Decimal {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// Quantiles from 0 to 100, separated by spaces.
    Quantiles,
    /// Letters of `notify-keyspace-events`.
    KeyspaceEvents,
    /// `<class> <hard> <soft> <seconds>`, once or for several classes.
    ClientOutputBufferLimit,
    /// `<seconds> <changes>`, any number of times.
    Save,
}

impl ValueType {
    /// The canonical text of a value, or what was expected instead.
    pub fn canonical(&self, value: &str, release: Minor) -> Result<String, String> {
        let text = value.trim();
        let canonical = match *self {
            Self::Bool => bool_of(text).map(|yes| if yes { "yes" } else { "no" }.to_owned()),
            Self::Int { min, max } => int(text, min, max).map(|n| n.to_string()),
            Self::Bytes { min, max } => {
                bytes(text).filter(|n| (min..=max).contains(n)).map(|n| n.to_string())
            }
            Self::BytesOrPercent => bytes_or_percent(text),
            Self::Size { min, max, step } => {
                size(text).filter(|n| (min..=max).contains(n) && n % step == 0).map(|n| n.to_string())
            }
            Self::Enum(words) => {
                words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| (*word).to_owned())
            }
            Self::Percent => int(text, 0, 100).map(|n| n.to_string()),
            Self::Seconds { min } => int(text, i64::from(min), i64::from(i32::MAX)).map(|n| n.to_string()),
            Self::Decimal { min, max } => {
                decimal(text).filter(|n| (min..=max).contains(n)).map(|n| n.to_string())
            }
            Self::Quantiles => quantiles(text),
            Self::KeyspaceEvents => keyspace_events(text, release),
            Self::ClientOutputBufferLimit => obuf::Limits::parse(text).map(|limits| limits.canonical()),
            Self::Save => save_points(text),
        };
        canonical.ok_or_else(|| self.expected(release))
    }

    /// What is accepted, for people: `expected ...` goes before it.
    pub fn expected(&self, release: Minor) -> String {
        match *self {
            Self::Bool => "yes or no".to_owned(),
            Self::Int { min, max } if max >= i64::from(i32::MAX) => format!("a whole number of at least {min}"),
            Self::Int { min, max } => format!("a whole number from {min} to {max}"),
            Self::Bytes { min, max } if max >= u64::MAX / 2 => {
                format!("a size of at least {}, such as 64mb (units: b, k, kb, m, mb, g, gb)", human(min))
            }
            Self::Bytes { min, max } => {
                format!("a size from {} to {} (units: b, k, kb, m, mb, g, gb)", human(min), human(max))
            }
            Self::BytesOrPercent => "a size such as 64mb, or a share such as 5%".to_owned(),
            Self::Size { min, max, step } => {
                format!("a size from {}k to {}k in steps of {}k (units: k, m)", min >> 10, max >> 10, step >> 10)
            }
            Self::Enum(words) => format!("one of {}", words.join(", ")),
            Self::Percent => "a percentage from 0 to 100, without a sign".to_owned(),
            Self::Seconds { min: 0 } => "a number of seconds, without a unit".to_owned(),
            Self::Seconds { min } => format!("a number of seconds, at least {min}, without a unit"),
            Self::Decimal { min, max } => format!("a number from {min} to {max}"),
            Self::Quantiles => "quantiles from 0 to 100, such as \"50 99 99.9\"".to_owned(),
            Self::KeyspaceEvents => {
                format!("letters of \"{}\", such as KEA", events_of(release).iter().collect::<String>())
            }
            Self::ClientOutputBufferLimit => {
                "<class> <hard limit> <soft limit> <soft seconds>, such as \"pubsub 32mb 8mb 60\"; classes are \
                 normal, replica and pubsub"
                    .to_owned()
            }
            Self::Save => "pairs of seconds and changes, such as \"3600 1 300 100\"".to_owned(),
        }
    }
}

/// A yes or a no.
pub(crate) fn bool_of(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

fn int(text: &str, min: i64, max: i64) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| (min..=max).contains(n))
}

/// redis's `memtoull`: digits and a unit without a space.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn bytes_or_percent(text: &str) -> Option<String> {
    match text.strip_suffix('%') {
        Some(share) => int(share, 0, 100).map(|n| format!("{n}%")),
        None => bytes(text).map(|n| n.to_string()),
    }
}

/// memcached's `-I`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn decimal(text: &str) -> Option<f64> {
    // `inf`, `nan` and exponents are numbers to Rust.
    text.bytes().all(|b| b.is_ascii_digit() || b == b'.').then(|| text.parse().ok())?
}

fn quantiles(text: &str) -> Option<String> {
    let each: Option<Vec<String>> = text
        .split_whitespace()
        .map(|word| decimal(word).filter(|n| (0.0..=100.0).contains(n)).map(|n| n.to_string()))
        .collect();
    each.filter(|list| list.len() <= 16).map(|list| list.join(" "))
}

fn save_points(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if !words.len().is_multiple_of(2) {
        return None;
    }
    let mut canonical = Vec::with_capacity(words.len());
    for pair in words.chunks(2) {
        canonical.push(int(pair[0], 1, i64::from(i32::MAX))?.to_string());
        canonical.push(int(pair[1], 0, i64::from(i32::MAX))?.to_string());
    }
    Some(canonical.join(" "))
}

/// Event classes that `A` stands for come first; then the ones it does not cover (redis's notify.c).
fn events_of(release: Minor) -> Vec<char> {
    let mut events: Vec<char> = all_events(release).chars().collect();
    events.push('A');
    if release >= (7, 0) {
        events.push('n');
    }
    events.extend(['K', 'E']);
    if release >= (6, 0) {
        events.push('m');
    }
    events
}

/// What `A` means: streams since 5.0, modules since 6.2.
const fn all_events(release: Minor) -> &'static str {
    match release {
        (0..=4, _) => "g$lshzxe",
        (5, _) | (6, 0..=1) => "g$lshzxet",
        _ => "g$lshzxetd",
    }
}

fn keyspace_events(text: &str, release: Minor) -> Option<String> {
    let known = events_of(release);
    if text.chars().any(|c| !known.contains(&c)) {
        return None;
    }
    let all = all_events(release);
    let every = text.contains('A') || all.chars().all(|c| text.contains(c));
    let mut canonical = String::new();
    for event in known {
        let covered = every && all.contains(event);
        let wanted = if event == 'A' { every } else { text.contains(event) && !covered };
        if wanted {
            canonical.push(event);
        }
    }
    Some(canonical)
}

fn human(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(value: ValueType, text: &str) -> Option<String> {
        value.canonical(text, (7, 0)).ok()
    }

    #[test]
    fn spellings_of_one_value_share_one_text() {
        let bytes = ValueType::Bytes { min: 0, max: u64::MAX };
        for (text, expected) in [
            ("1gb", Some("1073741824")),
            ("1GB", Some("1073741824")),
            ("1g", Some("1000000000")),
            ("1024", Some("1024")),
            ("7b", Some("7")),
            ("1 gb", None),
            ("gb", None),
            ("-1", None),
            ("512Mi", None),
            ("99999999999gb", None),
        ] {
            assert_eq!(canonical(bytes, text).as_deref(), expected, "{text}");
        }
        assert_eq!(canonical(ValueType::Bool, "True").as_deref(), Some("yes"));
        assert_eq!(canonical(ValueType::Bool, "1"), None);
        assert_eq!(canonical(ValueType::Enum(&["no", "yes"]), "NO").as_deref(), Some("no"));
        assert_eq!(canonical(ValueType::Int { min: -1, max: 9 }, "-01").as_deref(), Some("-1"));
        assert_eq!(canonical(ValueType::Int { min: -1, max: 9 }, "+1"), None);
        assert_eq!(canonical(ValueType::Int { min: -1, max: 9 }, "10"), None);
        assert_eq!(canonical(ValueType::Decimal { min: 1.0, max: 2.0 }, "1.250").as_deref(), Some("1.25"));
        assert_eq!(canonical(ValueType::Decimal { min: 1.0, max: 2.0 }, "nan"), None);
        assert_eq!(canonical(ValueType::Quantiles, "50.0  99.90").as_deref(), Some("50 99.9"));
        assert_eq!(canonical(ValueType::Save, "900 1  300 10").as_deref(), Some("900 1 300 10"));
        assert_eq!(canonical(ValueType::Save, "900"), None);
        assert_eq!(canonical(ValueType::BytesOrPercent, "5%").as_deref(), Some("5%"));
        let size = ValueType::Size { min: 512 << 10, max: 1 << 30, step: 512 << 10 };
        assert_eq!(canonical(size, "2m").as_deref(), Some("2097152"));
        assert_eq!(canonical(size, "700k"), None);
    }

    #[test]
    fn keyspace_events_read_as_redis_writes_them() {
        let of = |text, release| keyspace_events(text, release);
        assert_eq!(of("KEA", (7, 0)).as_deref(), Some("AKE"));
        assert_eq!(of("g$lshzxetdKE", (7, 0)).as_deref(), Some("AKE"));
        assert_eq!(of("g$lshzxetKE", (6, 0)).as_deref(), Some("AKE"));
        assert_eq!(of("g$lshzxetKE", (7, 0)).as_deref(), Some("g$lshzxetKE"));
        assert_eq!(of("Exg", (7, 0)).as_deref(), Some("gxE"));
        assert_eq!(of("Kn", (6, 2)), None);
        assert_eq!(of("", (7, 0)).as_deref(), Some(""));
    }
}
