//! `--wait`: follows the status of clusters until they are Ready, or cannot become so by themselves.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use overlord_api::{ConditionType, Phase, Truth};
use overlord_server::view::{ClusterView, WatchLine};
use tokio::time;

use crate::{
    client::Client,
    failure::{Exit, Failure},
};

/// Between two pictures of a spinner.
const TICK: Duration = Duration::from_millis(100);

/// What is waited for: the cluster, with the config revision that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) revision: i64,
}

/// How far a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Not there yet; what is being done.
    Pending(String),
    Ready(String),
    /// It will not become Ready without somebody's help.
    Failed(String),
}

fn judge(view: &ClusterView, revision: i64) -> Verdict {
    let Some(status) = view.status.as_ref().filter(|status| status.config_revision >= revision) else {
        return Verdict::Pending("waiting for the controller".to_owned());
    };
    let message = |kind| {
        let condition = status.condition(kind)?;
        Some((condition.status, format!("{}: {}", condition.reason, condition.message)))
    };
    if let Some((Truth::False, message)) = message(ConditionType::Accepted) {
        return Verdict::Failed(format!("not accepted: {message}"));
    }
    let members = format!("{}/{} ready, {} up to date", status.ready, status.wanted, status.updated);
    match status.phase {
        Phase::Ready if status.is(ConditionType::Ready) => Verdict::Ready(format!("{members}, Ready")),
        Phase::Paused => {
            let why = message(ConditionType::Progressing).map(|(_, message)| message).unwrap_or_default();
            Verdict::Failed(format!("paused: {why}"))
        }
        Phase::Deleting | Phase::Deleted => {
            let mark = view.record.as_ref().and_then(|record| record.deletion.as_ref());
            if view.config_revision.is_some() && mark.is_some_and(|mark| mark.config_revision < revision) {
                return Verdict::Pending("the former one is being deleted first".to_owned());
            }
            Verdict::Failed("it is being deleted".to_owned())
        }
        phase => {
            let why = [ConditionType::Unplaceable, ConditionType::QuorumLost, ConditionType::Degraded]
                .into_iter()
                .filter_map(message)
                .find(|(status, _)| *status == Truth::True)
                .map(|(_, message)| format!(": {message}"))
                .unwrap_or_default();
            Verdict::Pending(format!("{members}, {phase}{why}"))
        }
    }
}

/// Shows progress: spinners on a terminal, a line per change elsewhere.
pub(crate) enum Display {
    Live { bars: MultiProgress, of: BTreeMap<String, ProgressBar> },
    Lines,
}

impl Display {
    pub(crate) fn for_this_terminal() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Live { bars: MultiProgress::new(), of: BTreeMap::new() }
        } else {
            Self::Lines
        }
    }

    fn show(&mut self, name: &str, verdict: &Verdict) {
        match self {
            Self::Live { bars, of } => {
                let bar = of.entry(name.to_owned()).or_insert_with(|| {
                    let bar = bars.add(ProgressBar::new_spinner());
                    bar.set_style(ProgressStyle::default_spinner());
                    bar.set_prefix(name.to_owned());
                    bar.enable_steady_tick(TICK);
                    bar
                });
                match verdict {
                    Verdict::Pending(what) => bar.set_message(format!("{name}: {what}")),
                    Verdict::Ready(what) => bar.finish_with_message(format!("{name}: {what}")),
                    Verdict::Failed(why) => bar.abandon_with_message(format!("{name}: {why}")),
                }
            }
            Self::Lines => {
                let (Verdict::Pending(what) | Verdict::Ready(what) | Verdict::Failed(what)) = verdict;
                anstream::eprintln!("{name}: {what}");
            }
        }
    }
}

/// Waits until all are Ready. Fails when one cannot become so by itself, and when time is up.
pub(crate) async fn wait(
    client: &Client,
    wanted: Vec<Wanted>,
    limit: Duration,
    display: &mut Display,
) -> Result<(), Failure> {
    let mut verdicts: BTreeMap<String, (i64, Verdict)> = wanted
        .into_iter()
        .map(|wanted| {
            (wanted.name, (wanted.revision, Verdict::Pending("waiting for the controller".to_owned())))
        })
        .collect();
    if verdicts.is_empty() {
        return Ok(());
    }
    let watched = time::timeout(limit, follow(client, &mut verdicts, display)).await;
    let failed: Vec<String> = verdicts
        .iter()
        .filter(|(_, (_, verdict))| matches!(verdict, Verdict::Failed(_)))
        .map(|(name, _)| name.clone())
        .collect();
    let pending: Vec<String> = verdicts
        .iter()
        .filter_map(|(name, (_, verdict))| match verdict {
            Verdict::Pending(what) => Some(format!("{name} ({what})")),
            Verdict::Ready(_) | Verdict::Failed(_) => None,
        })
        .collect();
    match watched {
        Ok(Err(failure)) => Err(failure),
        Err(_) if !pending.is_empty() => Err(Failure::new(
            Exit::TimedOut,
            format!("not Ready after {}: {}", crate::age::short(limit), pending.join(", ")),
            "it goes on by itself; `overlord describe cluster NAME` tells what it waits for",
        )),
        Ok(Ok(())) | Err(_) if failed.is_empty() => Ok(()),
        Ok(Ok(())) | Err(_) => Err(Failure::failed(
            format!("{} will not become Ready", failed.join(", ")),
            "see `overlord describe cluster NAME`, correct it, and apply again",
        )),
    }
}

async fn follow(
    client: &Client,
    verdicts: &mut BTreeMap<String, (i64, Verdict)>,
    display: &mut Display,
) -> Result<(), Failure> {
    // One watch serves any number of clusters. It is opened again when it breaks: a controller may restart meanwhile.
    loop {
        let mut watch = client.watch::<ClusterView>("/v1/clusters").await.map_err(Failure::from)?;
        while verdicts.values().any(|(_, verdict)| matches!(verdict, Verdict::Pending(_))) {
            let Ok(Some(line)) = watch.next().await else { break };
            if let WatchLine::Put { id, object } = line
                && let Some((revision, verdict)) = verdicts.get_mut(&id)
            {
                let now = judge(&object, *revision);
                if *verdict != now {
                    display.show(&id, &now);
                    *verdict = now;
                }
            }
        }
        if verdicts.values().all(|(_, verdict)| !matches!(verdict, Verdict::Pending(_))) {
            return Ok(());
        }
        // The controller went away, in order or not; it may be back in a moment.
        time::sleep(Duration::from_millis(500)).await;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use overlord_api::{Condition, Kind, Record, Status};

    use super::*;

    fn view(phase: Phase, config_revision: i64, conditions: &[(ConditionType, Truth)]) -> ClusterView {
        let conditions = conditions.iter().map(|(kind, status)| Condition {
            kind: *kind,
            status: *status,
            reason: "Why".into(),
            message: "because".into(),
            last_transition: Timestamp::UNIX_EPOCH,
            observed_revision: 1,
        });
        let status = Status {
            version: 1,
            kind: Some(Kind::Memcache),
            phase,
            revision: 1,
            config_revision,
            conditions: conditions.collect(),
            counts: BTreeMap::new(),
            wanted: 2,
            ready: 1,
            updated: 1,
            outdated: 0,
            template: None,
        };
        ClusterView { name: "a".into(), status: Some(status), ..ClusterView::default() }
    }

    #[test]
    fn an_older_ready_is_not_the_one_waited_for() {
        let ready = [(ConditionType::Accepted, Truth::True), (ConditionType::Ready, Truth::True)];
        assert!(matches!(judge(&view(Phase::Ready, 4, &ready), 5), Verdict::Pending(_)));
        assert!(matches!(judge(&view(Phase::Ready, 5, &ready), 5), Verdict::Ready(_)));
        assert!(matches!(judge(&view(Phase::Updating, 6, &ready), 5), Verdict::Pending(_)));
        assert!(matches!(judge(&ClusterView::default(), 0), Verdict::Pending(_)));
    }

    #[test]
    fn a_deletion_that_was_overtaken_by_a_new_spec_is_waited_for() {
        let deleting = |at: i64| {
            let record: Record = serde_json::from_value(serde_json::json!({
                "version": 1,
                "uid": "0".repeat(32),
                "kind": "memcache",
                "formed": true,
                "nextMember": 2,
                "revision": 1,
                "configRevision": 4,
                "attempts": 2,
                "deletion": {"at": Timestamp::UNIX_EPOCH, "by": "task x", "configRevision": at},
            }))
            .unwrap();
            ClusterView {
                record: Some(record),
                config_revision: Some(5),
                ..view(Phase::Deleting, 5, &[(ConditionType::Accepted, Truth::True)])
            }
        };
        assert!(matches!(judge(&deleting(4), 5), Verdict::Pending(_)));
        assert!(matches!(judge(&deleting(5), 5), Verdict::Failed(_)));
        let gone = ClusterView { config_revision: None, ..deleting(4) };
        assert!(matches!(judge(&gone, 5), Verdict::Failed(_)));
    }

    #[test]
    fn what_needs_a_person_ends_the_wait() {
        let refused = judge(&view(Phase::Pending, 5, &[(ConditionType::Accepted, Truth::False)]), 5);
        assert_eq!(refused, Verdict::Failed("not accepted: Why: because".into()));
        let paused = judge(&view(Phase::Paused, 5, &[(ConditionType::Progressing, Truth::False)]), 5);
        assert_eq!(paused, Verdict::Failed("paused: Why: because".into()));
        let unplaceable = judge(&view(Phase::Creating, 5, &[(ConditionType::Unplaceable, Truth::True)]), 5);
        assert_eq!(unplaceable, Verdict::Pending("1/2 ready, 1 up to date, Creating: Why: because".into()));
    }
}
