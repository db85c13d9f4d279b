//! Spans of time as listings show them: one or two units, as `42s`, `5m`, `3h12m`, `9d`.

use std::time::Duration;

use jiff::Timestamp;

/// How long ago `then` was. A time to come counts as now: clocks differ.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> String {
    short(Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

/// A span in its largest units.
pub(crate) fn short(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=599 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..=7199 => format!("{minutes}m"),
        7200..=35_999 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        7200..=172_799 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_two_units_at_most() {
        let text = |seconds| short(Duration::from_secs(seconds));
        let samples = [(0, "0s"), (119, "119s"), (120, "2m"), (130, "2m10s"), (3000, "50m"), (7260, "2h1m")];
        for (seconds, expected) in samples {
            assert_eq!(text(seconds), expected);
        }
        assert_eq!(text(36_060), "10h");
        assert_eq!(text(200_000), "2d");
    }

    #[test]
    fn a_time_to_come_is_now() {
        let now = Timestamp::UNIX_EPOCH;
        let later: Timestamp = "1970-01-01T01:00:00Z".parse().unwrap();
        assert_eq!(since(later, now), "0s");
        assert_eq!(since(now, later), "60m");
    }
}
