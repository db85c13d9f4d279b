//! Events as a script sees them: all that were recorded of a cluster since it last looked.

use std::{collections::BTreeMap, fmt::Write as _};

use overlord_api::{Event, EventLevel, keys};

use super::{command::EventLine, words::is_like};
use crate::view::View;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The newest of each object and reason, by cluster and key.
    seen: BTreeMap<(String, String), Event>,
    /// Up to which count the script has looked.
    looked: BTreeMap<(String, String), u64>,
}

impl Events {
    /// Takes what is in the store.
    pub(crate) fn take(&mut self, view: &View) {
        for key in view.keys(keys::EVENTS) {
            let Some((cluster, name)) = key.strip_prefix(keys::EVENTS).and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            let value = view.entries.get(&key).map(|entry| entry.value.to_vec()).unwrap_or_default();
            if let Ok(event) = serde_json::from_slice::<Event>(&value) {
                self.seen.insert((cluster.to_owned(), name.to_owned()), event);
            }
        }
    }

    /// Whether such an event was recorded, ever.
    pub(crate) fn has(
        &self,
        cluster: &str,
        reason: &str,
        object: Option<&str>,
        message: Option<&str>,
    ) -> bool {
        self.seen.iter().any(|((of, _), event)| {
            of == cluster
                && event.reason == reason
                && object.is_none_or(|object| event.object == object)
                && message.is_none_or(|pattern| is_like(&event.message, pattern))
        })
    }

    /// What was recorded of a cluster since the last look, in the order of time.
    pub(crate) fn news(&self, cluster: &str) -> Vec<EventLine> {
        let own = self.seen.iter().filter(|((of, _), _)| of == cluster);
        let mut news: Vec<(jiff::Timestamp, EventLine)> = own
            .filter_map(|(key, event)| {
                let count = event.count - self.looked.get(key).copied().unwrap_or(0);
                let line = EventLine {
                    level: if event.level == EventLevel::Normal { "Normal" } else { "Warning" }.to_owned(),
                    reason: event.reason.clone(),
                    object: event.object.clone(),
                    count,
                    message: event.message.clone(),
                };
                (count > 0).then_some((event.first, line))
            })
            .collect();
        news.sort_by(|(a, one), (b, two)| a.cmp(b).then_with(|| one.reason.cmp(&two.reason)));
        news.into_iter().map(|(_, line)| line).collect()
    }

    /// The script has looked.
    pub(crate) fn looked(&mut self, cluster: &str) {
        let own = self.seen.iter().filter(|((of, _), _)| of == cluster);
        self.looked.extend(own.map(|(key, event)| (key.clone(), event.count)));
    }
}

/// How what happened differs from what is written; nothing when it does not.
pub(crate) fn difference(written: &[EventLine], news: &[EventLine]) -> Option<String> {
    let same = |written: &EventLine, new: &EventLine| {
        (&written.level, &written.reason, &written.object, written.count)
            == (&new.level, &new.reason, &new.object, new.count)
            && is_like(&new.message, &written.message)
    };
    let missing: Vec<&EventLine> =
        written.iter().filter(|written| !news.iter().any(|new| same(written, new))).collect();
    let surplus: Vec<&EventLine> =
        news.iter().filter(|new| !written.iter().any(|written| same(written, new))).collect();
    if missing.is_empty() && surplus.is_empty() {
        return None;
    }
    let mut text = String::from("the events are others:");
    for line in missing {
        let _ = write!(text, "\n  did not happen:  {}", print(line));
    }
    for line in surplus {
        let _ = write!(text, "\n  is not written:  {}", print(line));
    }
    Some(text)
}

/// An event as a script writes it.
pub(crate) fn print(line: &EventLine) -> String {
    let EventLine { level, reason, object, count, message } = line;
    let times = if *count == 1 { String::new() } else { format!(" x{count}") };
    format!("{level} {reason} {object}{times} \"{}\"", message.replace('"', "*"))
}
