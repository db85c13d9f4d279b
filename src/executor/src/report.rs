//! What is told to the controller: [`Report`] as JSON in `TaskStatus.data`, never too large.

use overlord_api::{INFO_VERSION, MAX_REPORT, Report, State};
use overlord_mesos::v1::TaskState;

/// Bytes of a report's message: a few console lines, and room for everything else.
pub(crate) const MAX_MESSAGE: usize = 1024;

/// A report of nothing yet.
pub(crate) const fn blank() -> Report {
    Report {
        version: INFO_VERSION,
        state: State::Staging,
        cluster: None,
        address: None,
        bus_port: None,
        engine_version: None,
        config: 0,
        restart: 0,
        restarts: 0,
        pid: None,
        role: None,
        epoch: None,
        link: None,
        slots: None,
        restart_needed: false,
        emptied: 0,
        config_refused: None,
        store: None,
        store_term: None,
        store_went_back: false,
        message: String::new(),
    }
}

/// A status of the Mesos task, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// Mesos' word.
    pub(crate) state: TaskState,
    /// Ours.
    pub(crate) report: Report,
}

impl Status {
    /// Whether nothing has changed that is worth an update: who the instance is, which is known once its keys are
    /// read, goes with the next one.
    pub(crate) fn tells_the_same(&self, other: &Self) -> bool {
        let Report { address, bus_port, engine_version, .. } = &self.report;
        let report = Report {
            address: *address,
            bus_port: *bus_port,
            engine_version: engine_version.clone(),
            ..other.report.clone()
        };
        self.state == other.state && self.report == report
    }

    /// The JSON of the report, at most [`MAX_REPORT`] bytes. The message gives way first.
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut report = self.report.clone();
        let mut limit = MAX_MESSAGE;
        loop {
            cut(&self.report.message, limit).clone_into(&mut report.message);
            // A struct of numbers and texts always serializes; an empty value would be reported as unreadable.
            let json = serde_json::to_vec(&report).unwrap_or_default();
            if json.len() <= MAX_REPORT || limit == 0 {
                return json;
            }
            limit /= 2;
        }
    }
}

/// At most `limit` bytes of `text`, never half a character.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One line without control characters, so that a console cannot paint a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn no_report_is_larger_than_allowed() {
        let message = "\u{1}é\"".repeat(5000);
        let status = Status { state: TaskState::Running, report: Report { message, ..blank() } };
        let data = status.data();
        assert!(data.len() <= MAX_REPORT, "{}", data.len());
        let back: Report = serde_json::from_slice(&data).unwrap();
        assert!(!back.message.is_empty());
    }
}
