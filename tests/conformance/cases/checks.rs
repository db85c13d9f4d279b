//! What time has to do with it: how long filters, offers, grace periods and retries last, with room for a busy
//! machine.

use overlord_conformance::{
    model::{Entry, Transcript, What, updated_task},
    unify::Difference,
};

/// What begins a time may be seen late, so that the time seems shorter: by a part of it, and by this.
const EARLY: f64 = 0.1;
const EARLY_PART: f64 = 0.15;
/// A busy machine may be late by this.
const LATE: f64 = 5.0;

/// Heartbeats come as often as SUBSCRIBED says.
pub(crate) fn heartbeats(_: &Transcript, got: &Transcript, _: f64) -> Vec<Difference> {
    let interval = got.entries.iter().find_map(|entry| match &entry.what {
        What::Record(record) => record.pointer("/subscribed/heartbeat_interval_seconds")?.as_f64(),
        _ => None,
    });
    let interval = interval.unwrap_or(0.0);
    let times: Vec<f64> = events(got, "HEARTBEAT").map(|entry| entry.at).collect();
    let mut out = Vec::new();
    expect(&mut out, "at least 3 HEARTBEATs", times.len() >= 3, &format!("{times:?}"));
    for pair in times.windows(2) {
        within(&mut out, "between two HEARTBEATs", pair[1] - pair[0], interval * 0.7, interval * 1.3);
    }
    out
}

/// Declined resources come back when the filter is over, and not before.
pub(crate) fn refusals(_: &Transcript, got: &Transcript, _: f64) -> Vec<Difference> {
    let mut out = Vec::new();
    // Less than the next allocation away: at once.
    let at_once = [("c7", 0.0), ("c11", 0.0)];
    let declined = [("c2", 5.0), ("c3", 2.0), ("c4", 0.0), ("c5", 5.0), ("c8", 5.0)];
    for (connection, seconds) in declined.into_iter().chain(at_once) {
        let Some(sent) = sent(got, connection) else { continue };
        let place = format!("from the call on {connection} to the next OFFERS");
        match events(got, "OFFERS").find(|entry| entry.at > sent) {
            Some(entry) => within(&mut out, &place, entry.at - sent, seconds, seconds),
            None => expect(&mut out, &place, false, "no OFFERS at all"),
        }
    }
    for (from, to) in [("c6", "c7"), ("c10", "c11")] {
        let (Some(from_at), Some(to_at)) = (sent(got, from), sent(got, to)) else { continue };
        let early = events(got, "OFFERS").filter(|entry| entry.at > from_at && entry.at < to_at).count();
        expect(
            &mut out,
            &format!("no OFFERS between {from} and {to}"),
            early == 0,
            &format!("{early} OFFERS"),
        );
    }
    out
}

/// An offer is rescinded after `--offer_timeout=3secs`.
pub(crate) fn offers_live_three_seconds(_: &Transcript, got: &Transcript, _: f64) -> Vec<Difference> {
    let mut out = Vec::new();
    let offered = events(got, "OFFERS").next().map(|entry| entry.at);
    let rescinded: Vec<f64> = events(got, "RESCIND").map(|entry| entry.at).collect();
    if let (Some(offered), Some(first)) = (offered, rescinded.first()) {
        within(&mut out, "from OFFERS to RESCIND", first - offered, 3.0, 3.0);
    }
    expect(&mut out, "a RESCIND for each offer", !rescinded.is_empty(), &format!("{rescinded:?}"));
    out
}

/// An update that is not acknowledged is repeated after a time, twice that time, and four times that time.
pub(crate) fn retries_double(_: &Transcript, got: &Transcript, scale: f64) -> Vec<Difference> {
    let mut out = Vec::new();
    let times: Vec<f64> = updates(got, "TASK_STARTING").map(|entry| entry.at).collect();
    let wanted = [10.0, 20.0, 40.0].map(|seconds| seconds * scale);
    expect(&mut out, "TASK_STARTING four times", times.len() == 4, &format!("{times:?}"));
    for (pair, wanted) in times.windows(2).zip(wanted) {
        within(&mut out, "between two attempts", pair[1] - pair[0], wanted * 0.9, wanted * 1.1);
    }
    out
}

/// SIGKILL comes 3 s after SIGTERM, or as late as the task's own policy says; the call's policy does not count.
pub(crate) fn graces(_: &Transcript, got: &Transcript, _: f64) -> Vec<Difference> {
    let mut out = Vec::new();
    for (connection, seconds) in [("c5", 0.0), ("c11", 3.0), ("c17", 3.0), ("c23", 8.0), ("c29", 0.0)] {
        let Some(kill) = got.entries.iter().find(|entry| entry.connection == connection) else { continue };
        let What::Sent(request) = &kill.what else { continue };
        let task =
            request.json().and_then(|call| call.pointer("/kill/task_id/value")?.as_str().map(str::to_owned));
        let ended = updates(got, "TASK_KILLED").find(|entry| match &entry.what {
            What::Record(record) => updated_task(record) == task.as_deref(),
            _ => false,
        });
        if let Some(ended) = ended {
            within(
                &mut out,
                &format!("from KILL on {connection} to TASK_KILLED"),
                ended.at - kill.at,
                seconds,
                seconds,
            );
        }
    }
    out
}

fn sent(transcript: &Transcript, connection: &str) -> Option<f64> {
    let mut all = transcript.entries.iter();
    all.find(|e| e.connection == connection && matches!(e.what, What::Sent(_))).map(|entry| entry.at)
}

fn events<'a>(transcript: &'a Transcript, kind: &'a str) -> impl Iterator<Item = &'a Entry> {
    transcript.entries.iter().filter(move |entry| entry.event() == Some(kind))
}

fn updates<'a>(transcript: &'a Transcript, state: &'a str) -> impl Iterator<Item = &'a Entry> {
    events(transcript, "UPDATE").filter(move |entry| match &entry.what {
        What::Record(record) => {
            let reconciled =
                record.pointer("/update/status/reason").is_some_and(|r| r == "REASON_RECONCILIATION");
            !reconciled && record.pointer("/update/status/state").is_some_and(|s| s == state)
        }
        _ => false,
    })
}

fn within(out: &mut Vec<Difference>, what: &str, seconds: f64, least: f64, most: f64) {
    let fits = seconds >= least * (1.0 - EARLY_PART) - EARLY && seconds <= most + LATE;
    expect(out, &format!("{what}: {least:.1} to {:.1} s", most + LATE), fits, &format!("{seconds:.2} s"));
}

fn expect(out: &mut Vec<Difference>, what: &str, holds: bool, got: &str) {
    if !holds {
        out.push(Difference { place: "time".to_owned(), expected: what.to_owned(), got: got.to_owned() });
    }
}
