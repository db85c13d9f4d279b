//! What a node has written about itself, and when: asking it would take time from what is measured.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// redis 7: the first when all slots are served by nodes that it reaches, the second on replicas.
const STATE_OK: &str = "Cluster state changed: ok";
const SYNCED: &str = "MASTER <-> REPLICA sync: Finished with success";

/// Zones are apart by whole quarters of an hour.
const QUARTER: i64 = 15 * 60;

/// When a node came to where, first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// It said `cluster_state:ok`.
    pub(crate) ok: Option<Timestamp>,
    /// Its link to its master was up; masters have none.
    pub(crate) linked: Option<Timestamp>,
}

/// Reads the output of a node that was started with it as a new file.
pub(crate) fn passed(file: &Path) -> Passed {
    let text = fs::read_to_string(file).unwrap_or_default();
    let born = fs::metadata(file).and_then(|meta| meta.created()).ok();
    parse(&text, born.and_then(|born| Timestamp::try_from(born).ok()))
}

/// redis writes local time without its zone: the birth of the file tells it.
fn parse(text: &str, born: Option<Timestamp>) -> Passed {
    let mut lines = text.lines().filter_map(line).peekable();
    let ahead = match (lines.peek(), born) {
        (Some((first, _)), Some(born)) => {
            let quarters = (first.as_second() - born.as_second()) as f64 / QUARTER as f64;
            SignedDuration::from_secs(quarters.round() as i64 * QUARTER)
        }
        _ => SignedDuration::ZERO,
    };
    let mut passed = Passed::default();
    for (at, message) in lines {
        let place = match message {
            STATE_OK => &mut passed.ok,
            SYNCED => &mut passed.linked,
            _ => continue,
        };
        if place.is_none() {
            *place = at.checked_sub(ahead).ok();
        }
    }
    passed
}

/// `<pid>:<role> <day> <month> <year> <time> <level> <message>`, its time as if it were UTC.
fn line(line: &str) -> Option<(Timestamp, &str)> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = line.splitn(7, ' ');
    let (_, day, month, year, time) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let at: DateTime = format!("{year}-{month:02}-{day}T{time}").parse().ok()?;
    let message = words.nth(1)?;
    Some((at.to_zoned(TimeZone::UTC).ok()?.timestamp(), message))
}

/// How long after `start` it was; nothing before it.
pub(crate) fn since(start: Timestamp, at: Timestamp) -> Duration {
    SystemTime::from(at).duration_since(SystemTime::from(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
12:C 22 Nov 2026 23:46:30.003 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo
12:M 22 Nov 2026 23:46:30.005 * Running mode=cluster, port=20000.
no line of redis
12:M 22 Nov 2026 23:46:32.015 # Cluster state changed: ok
12:S 22 Nov 2026 23:46:32.020 * MASTER <-> REPLICA sync: Finished with success
12:M 22 Nov 2026 23:50:00.000 # Cluster state changed: ok
";

    #[test]
    fn the_first_time_of_each_is_read_in_whatever_zone_it_was_written() {
        for (born, ahead) in [("2026-11-22T23:46:30Z", 0), ("2026-11-22T22:46:29.9Z", 3600)] {
            let passed = parse(TEXT, Some(born.parse().unwrap()));
            let utc: Timestamp = "2026-11-22T23:46:32.015Z".parse().unwrap();
            assert_eq!(passed.ok, Some(utc - SignedDuration::from_secs(ahead)));
            assert_eq!(since(passed.ok.unwrap(), passed.linked.unwrap()), Duration::from_millis(5));
        }
        assert_eq!(parse("", None), Passed::default());
    }
}
