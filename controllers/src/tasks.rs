//! Which request on a cluster is at work, which waits, which is over: pure.

use jiff::Timestamp;
use overlord_api::{
    OnFailure, PARAM_ONLY, PARAM_ONLY_OUTDATED, PARAM_PROMOTE, PARAM_REVISION, Task, TaskDesired, TaskKind,
    TaskPhase, TaskState, TaskStatus, Unreadable,
};

use crate::members::plan::{Control, Plan, Progress};

/// Ended tasks kept of one cluster; older ones are removed with their status.
pub(crate) const KEPT_TASKS: usize = 10;

/// A request as it stands in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Last part of its key.
    pub id: String,
    /// What is asked.
    pub task: Task,
    /// Orders requests: the revision at which the key was made.
    pub create_revision: i64,
    /// Its progress as last written.
    pub status: Option<TaskStatus>,
    /// Why its progress cannot be read, if it cannot.
    pub unreadable: Option<Unreadable>,
}

impl Request {
    /// Whether it is a destroy that has not ended.
    pub(crate) fn is_open_destroy(&self) -> bool {
        self.task.kind == TaskKind::Destroy && !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.state.is_terminal())
    }

    /// The revision it works towards: the one it was made for, the one it began with, or the newest.
    fn revision(&self, newest: u64) -> u64 {
        let made_for = self.task.params.get(PARAM_REVISION).and_then(|text| text.parse().ok());
        made_for.or_else(|| self.status.as_ref().map(|s| s.revision).filter(|&n| n > 0)).unwrap_or(newest)
    }
}

/// What is known of the cluster before its plan is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// The accepted revision; 0 without one.
    pub revision: u64,
    /// The revision at which this life of the cluster began; 0 when that is not known.
    pub born: i64,
    /// Whether the accepted spec forbids deletion.
    pub protected: bool,
    /// Whether the cluster is being deleted or was.
    pub deleting: bool,
    /// Whether nothing of it is left.
    pub deleted: bool,
    /// A change without progress for this long fails.
    pub deadline: std::time::Duration,
    /// What happens then.
    pub on_failure: OnFailure,
    /// Now.
    pub now: Timestamp,
}

/// What the requests come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Whether declared changes may go on.
    pub control: Control,
    /// A destroy request that takes effect now, and the revision at which it was made.
    pub destroy: Option<(String, i64)>,
    /// The request by which a person takes note of what was lost, and gives up what is; and the revision at which it was made.
    pub recover: Option<(String, i64)>,
    /// The deploy, update or restart request at work.
    pub current: Option<String>,
    /// Whether that is a request to launch anew what runs with other settings than those of now.
    pub renew: bool,
    /// Requests whose state is settled without a plan.
    pub settled: Vec<(String, TaskState, String)>,
    /// Ended requests to be removed.
    pub archive: Vec<String>,
}

/// Admits `requests`, which are in the order they were made.
pub(crate) fn admit(requests: &[Request], situation: Situation) -> Admission {
    let mut admission = Admission {
        control: Control::Run { promoted: false },
        destroy: None,
        recover: None,
        current: None,
        renew: false,
        settled: Vec::new(),
        archive: Vec::new(),
    };
    let over: Vec<&Request> = requests.iter().filter(|request| request.is_over()).collect();
    admission.archive =
        over.iter().take(over.len().saturating_sub(KEPT_TASKS)).map(|request| request.id.clone()).collect();

    let mut restarts: Vec<&Request> = Vec::new();
    for request in requests.iter().filter(|request| !request.is_over()) {
        let mut settle = |state, error: String| admission.settled.push((request.id.clone(), state, error));
        match &request.unreadable {
            // Left alone, and not acted on.
            Some(Unreadable::Newer(_)) => continue,
            // What is declared is seen from the plan; of the others nobody knows whether they were done.
            Some(Unreadable::Damaged(why))
                if !matches!(request.task.kind, TaskKind::Deploy | TaskKind::Update) =>
            {
                settle(
                    TaskState::Failed,
                    format!(
                        "/overlord/task/{}/status could not be read ({why}), so nobody knows whether it was done: \
                         ask again under another id",
                        request.id
                    ),
                );
                continue;
            }
            Some(Unreadable::Damaged(_)) | None => {}
        }
        match request.task.kind {
            // It was asked of a cluster of that name that is gone.
            TaskKind::Destroy if request.create_revision < situation.born => {
                settle(TaskState::Done, String::new());
            }
            TaskKind::Destroy if request.task.desired == TaskDesired::Abort && !situation.deleting => {
                settle(TaskState::Aborted, String::from("aborted before it began"));
            }
            TaskKind::Destroy if request.task.desired == TaskDesired::Pause && !situation.deleting => {
                settle(TaskState::Paused, String::from("paused before it began"));
            }
            TaskKind::Destroy if situation.deleted => settle(TaskState::Done, String::new()),
            TaskKind::Destroy if situation.protected && !situation.deleting => settle(
                TaskState::Failed,
                String::from("the cluster is protected: apply it with deletion.protected: false first"),
            ),
            TaskKind::Destroy => {
                admission.destroy.get_or_insert_with(|| (request.id.clone(), request.create_revision));
            }
            TaskKind::Deploy | TaskKind::Update => declared(request, situation, &mut admission),
            // There is nothing to take note of in what is not there.
            TaskKind::Recover if situation.revision == 0 => {
                settle(TaskState::Failed, String::from("there is no such cluster"));
            }
            TaskKind::Recover => {
                settle(TaskState::Done, String::new());
                admission.recover = Some((request.id.clone(), request.create_revision));
            }
            TaskKind::Restart => restarts.push(request),
            kind => {
                settle(TaskState::Failed, format!("tasks of kind {kind} are not supported by this version"));
            }
        }
    }
    if admission.current.is_none() {
        // The newest word on this revision counts: a change that was stopped stays stopped.
        let last = over.iter().rev().find(|request| {
            matches!(request.task.kind, TaskKind::Deploy | TaskKind::Update)
                && request.status.as_ref().is_some_and(|status| status.revision == situation.revision)
        });
        if let Some((request, status)) = last.and_then(|request| Some((request, request.status.as_ref()?))) {
            let stopped = match status.state {
                TaskState::Aborted => Some("Aborted"),
                TaskState::Failed if situation.on_failure == OnFailure::Pause => Some("Failed"),
                _ => None,
            };
            if let Some(reason) = stopped {
                admission.control = Control::Hold {
                    reason,
                    message: format!(
                        "task {} is {}: {}; apply another spec or put another update task to go on",
                        request.id, status.state, status.error
                    ),
                };
            } else if request.task.params.get(PARAM_PROMOTE).is_some_and(|value| value == "true") {
                admission.control = Control::Run { promoted: true };
            }
        }
    }
    for request in restarts {
        renewal(request, situation, &mut admission);
    }
    admission
}

/// A request to launch anew what is outdated: it waits for declared changes, and for the word on one that stopped.
fn renewal(request: &Request, situation: Situation, admission: &mut Admission) {
    let only = request.task.params.get(PARAM_ONLY).map(String::as_str);
    let (state, error) = if situation.revision == 0 {
        (TaskState::Failed, String::from("there is no such cluster"))
    } else if situation.deleting {
        (TaskState::Superseded, String::from("the cluster is being deleted"))
    } else if only != Some(PARAM_ONLY_OUTDATED) {
        let expected =
            format!("restart tasks need params.{PARAM_ONLY}: {PARAM_ONLY_OUTDATED} in this version");
        (TaskState::Failed, expected)
    } else if request.task.desired == TaskDesired::Abort {
        (TaskState::Aborted, String::from("aborted"))
    } else if let Some(current) = &admission.current {
        (TaskState::Queued, format!("task {current} is at work"))
    } else if let Control::Hold { message, .. } = &admission.control {
        (TaskState::Queued, message.clone())
    } else {
        admission.current = Some(request.id.clone());
        if request.task.desired == TaskDesired::Pause {
            let message = format!("task {} is paused", request.id);
            admission.control = Control::Hold { reason: "Paused", message };
        } else {
            admission.renew = true;
            if request.task.params.get(PARAM_PROMOTE).is_some_and(|value| value == "true") {
                admission.control = Control::Run { promoted: true };
            }
        }
        return;
    };
    admission.settled.push((request.id.clone(), state, error));
}

/// A deploy or update request: the first one works, later ones wait, a newer revision takes over.
fn declared(request: &Request, situation: Situation, admission: &mut Admission) {
    let mut settle = |state, error: String| admission.settled.push((request.id.clone(), state, error));
    if situation.deleting {
        return settle(TaskState::Superseded, String::from("the cluster is being deleted"));
    }
    if situation.revision == 0 && request.task.params.contains_key(PARAM_REVISION) {
        // The leader made it for a revision of a cluster that is gone.
        return settle(TaskState::Superseded, String::from("the cluster was deleted"));
    }
    if situation.revision == 0 {
        let asked = request.task.requested_at.unwrap_or(situation.now);
        let late = asked.saturating_add(situation.deadline).is_ok_and(|until| until <= situation.now);
        let cluster = &request.task.cluster;
        let text = format!("there is no accepted spec at /overlord/config/{cluster}");
        return if late { settle(TaskState::Failed, text) } else { settle(TaskState::Queued, text) };
    }
    if request.revision(situation.revision) < situation.revision {
        return settle(TaskState::Superseded, format!("revision {} took its place", situation.revision));
    }
    if request.task.desired == TaskDesired::Abort {
        return settle(TaskState::Aborted, String::from("aborted"));
    }
    if let Some(current) = &admission.current {
        let text = format!("task {current} is at work");
        return settle(TaskState::Queued, text);
    }
    admission.current = Some(request.id.clone());
    admission.control = if request.task.desired == TaskDesired::Pause {
        Control::Hold { reason: "Paused", message: format!("task {} is paused", request.id) }
    } else {
        let promoted = request.task.params.get(PARAM_PROMOTE).is_some_and(|value| value == "true");
        Control::Run { promoted }
    };
}

/// The status of the request at work, from the plan and from how long nothing moved.
pub(crate) fn progress(
    request: &Request,
    situation: Situation,
    plan: &Plan,
    stalled: std::time::Duration,
) -> TaskStatus {
    let old = request.status.as_ref();
    let done = plan.is_converged() && plan.progress.serving == plan.progress.wanted;
    let (state, error) = if done {
        (TaskState::Done, String::new())
    } else if request.task.desired == TaskDesired::Pause {
        (TaskState::Paused, String::from("paused"))
    } else if let Some(blocked) = plan.blocked.first() {
        (TaskState::Paused, format!("{}: {}", blocked.reason, blocked.message))
    } else if stalled >= situation.deadline {
        let what = plan.waiting.first().map_or("no member could be placed", |waiting| waiting.why.as_str());
        (TaskState::Failed, format!("nothing moved for {} s: {what}", situation.deadline.as_secs()))
    } else {
        (TaskState::Running, String::new())
    };
    TaskStatus {
        version: 1,
        state,
        revision: situation.revision,
        phases: phases(plan),
        wanted: plan.progress.wanted,
        running: plan.progress.serving,
        started_at: old.and_then(|status| status.started_at).or(Some(situation.now)),
        finished_at: state.is_terminal().then_some(situation.now),
        error,
    }
}

/// A request settled without a plan.
pub(crate) fn settled(request: &Request, state: TaskState, error: &str, situation: Situation) -> TaskStatus {
    let old = request.status.as_ref();
    TaskStatus {
        version: 1,
        state,
        revision: old.map_or(situation.revision, |status| status.revision),
        phases: old.map(|status| status.phases.clone()).unwrap_or_default(),
        wanted: old.map_or(0, |status| status.wanted),
        running: old.map_or(0, |status| status.running),
        started_at: old.and_then(|status| status.started_at),
        finished_at: state.is_terminal().then_some(situation.now),
        error: error.to_owned(),
    }
}

/// What is done and to do, for people.
pub(crate) fn phases(plan: &Plan) -> Vec<TaskPhase> {
    let Progress { wanted, serving, updated, launching, configuring, restarting, removing } = plan.progress;
    let mut steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    steps.extend(plan.waiting.iter().map(|waiting| waiting.why.clone()));
    steps.truncate(8);
    let phase = |name: &str, open: u32, done: u32, total: u32| {
        (open > 0).then(|| TaskPhase {
            name: name.to_owned(),
            done: done.min(total),
            total,
            steps: Vec::new(),
        })
    };
    let mut phases: Vec<TaskPhase> = [
        phase("launch", launching, serving, wanted),
        phase("config", configuring, updated, wanted),
        phase("restart", restarting, updated, wanted),
        phase("remove", removing, 0, removing),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(first) = phases.first_mut() {
        first.steps = steps;
    }
    phases
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::samples;

    fn situation() -> Situation {
        Situation {
            revision: 2,
            born: 0,
            protected: false,
            deleting: false,
            deleted: false,
            deadline: Duration::from_secs(600),
            on_failure: OnFailure::Pause,
            now: samples::at(0),
        }
    }

    fn request(id: &str, kind: TaskKind, create_revision: i64) -> Request {
        let task = Task {
            version: overlord_api::VALUES_VERSION,
            kind,
            cluster: samples::cluster(),
            params: BTreeMap::new(),
            requested_by: String::new(),
            requested_at: None,
            desired: TaskDesired::Run,
        };
        Request { id: id.to_owned(), task, create_revision, status: None, unreadable: None }
    }

    fn ended(mut request: Request, state: TaskState, revision: u64) -> Request {
        let mut status = settled(&request, state, "because", situation());
        status.revision = revision;
        request.status = Some(status);
        request
    }

    #[test]
    fn one_declared_change_at_a_time() {
        let requests = [request("a", TaskKind::Update, 1), request("b", TaskKind::Update, 2)];
        let admission = admit(&requests, situation());
        assert_eq!(admission.current.as_deref(), Some("a"));
        assert_eq!(
            admission.settled,
            [(String::from("b"), TaskState::Queued, String::from("task a is at work"))]
        );
    }

    #[test]
    fn a_newer_revision_supersedes_the_change_at_work() {
        let mut old = request("r1", TaskKind::Deploy, 1);
        old.task.params.insert(PARAM_REVISION.into(), "1".into());
        let mut new = request("r2", TaskKind::Update, 2);
        new.task.params.insert(PARAM_REVISION.into(), "2".into());
        let admission = admit(&[old, new], situation());
        assert_eq!(admission.current.as_deref(), Some("r2"));
        assert_eq!(admission.settled[0].1, TaskState::Superseded);
    }

    #[test]
    fn a_stopped_change_stays_stopped_until_a_new_word() {
        let aborted = ended(request("a", TaskKind::Update, 1), TaskState::Aborted, 2);
        let admission = admit(std::slice::from_ref(&aborted), situation());
        assert!(matches!(admission.control, Control::Hold { reason: "Aborted", .. }));
        let admission = admit(&[aborted, request("b", TaskKind::Update, 2)], situation());
        assert_eq!(admission.control, Control::Run { promoted: false });
        let older = ended(request("a", TaskKind::Update, 1), TaskState::Aborted, 1);
        assert_eq!(admit(&[older], situation()).control, Control::Run { promoted: false });
    }

    #[test]
    fn a_protected_cluster_is_not_destroyed() {
        let requests = [request("d", TaskKind::Destroy, 1)];
        let protected = Situation { protected: true, ..situation() };
        assert_eq!(admit(&requests, protected).settled[0].1, TaskState::Failed);
        assert_eq!(admit(&requests, situation()).destroy, Some((String::from("d"), 1)));
        let deleted = Situation { deleting: true, deleted: true, ..situation() };
        assert_eq!(admit(&requests, deleted).settled[0].1, TaskState::Done);
    }

    #[test]
    fn what_was_asked_of_a_cluster_that_is_gone_does_not_destroy_the_next_one_of_its_name() {
        let requests = [request("old", TaskKind::Destroy, 6), request("new", TaskKind::Destroy, 8)];
        let admission = admit(&requests, Situation { born: 7, ..situation() });
        assert_eq!(admission.settled, [(String::from("old"), TaskState::Done, String::new())]);
        assert_eq!(admission.destroy, Some((String::from("new"), 8)));
    }

    #[test]
    fn a_loss_is_taken_note_of_once() {
        let admission = admit(&[request("r", TaskKind::Recover, 1)], situation());
        assert_eq!(admission.recover, Some((String::from("r"), 1)));
        assert_eq!(admission.settled, [(String::from("r"), TaskState::Done, String::new())]);
        let gone = Situation { revision: 0, ..situation() };
        assert_eq!(admit(&[request("r", TaskKind::Recover, 1)], gone).recover, None);
    }

    #[test]
    fn a_deleted_cluster_leaves_no_change_behind() {
        let mut made = request("r1", TaskKind::Update, 1);
        made.task.params.insert(PARAM_REVISION.into(), "1".into());
        let gone = Situation { revision: 0, deleted: true, ..situation() };
        let settled = admit(&[made, request("by-hand", TaskKind::Deploy, 2)], gone).settled;
        assert_eq!(
            settled.iter().map(|(_, state, _)| *state).collect::<Vec<_>>(),
            [TaskState::Superseded, TaskState::Queued]
        );
    }

    #[test]
    fn only_the_newest_ended_requests_are_kept() {
        let requests: Vec<Request> = (0..13)
            .map(|n| ended(request(&format!("t{n}"), TaskKind::Update, n), TaskState::Done, 1))
            .collect();
        assert_eq!(admit(&requests, situation()).archive, ["t0", "t1", "t2"]);
    }

    fn renewal(id: &str, revision: i64) -> Request {
        let mut request = request(id, TaskKind::Restart, revision);
        request.task.params.insert(PARAM_ONLY.into(), PARAM_ONLY_OUTDATED.into());
        request
    }

    #[test]
    fn what_is_outdated_is_launched_anew_after_declared_changes_and_never_past_a_stopped_one() {
        let admission = admit(&[renewal("n", 1)], situation());
        assert_eq!((admission.current.as_deref(), admission.renew), (Some("n"), true));
        let admission = admit(&[renewal("n", 1), request("u", TaskKind::Update, 2)], situation());
        assert_eq!((admission.current.as_deref(), admission.renew), (Some("u"), false));
        assert_eq!(admission.settled[0].1, TaskState::Queued);
        let stopped = ended(request("a", TaskKind::Update, 1), TaskState::Aborted, 2);
        let admission = admit(&[stopped, renewal("n", 3)], situation());
        assert!(matches!(admission.control, Control::Hold { .. }) && !admission.renew);
        assert_eq!(admission.settled[0].1, TaskState::Queued);
        let admission = admit(&[request("all", TaskKind::Restart, 1)], situation());
        assert_eq!((admission.settled[0].1, admission.renew), (TaskState::Failed, false));
    }

    #[test]
    fn a_request_whose_progress_cannot_be_read_is_not_done_again() {
        let damaged = |mut request: Request, why| {
            request.unreadable = Some(why);
            request
        };
        let nonsense = || Unreadable::Damaged(String::from("?"));
        let admission = admit(&[damaged(request("d", TaskKind::Destroy, 1), nonsense())], situation());
        assert_eq!((admission.destroy, admission.settled[0].1), (None, TaskState::Failed));
        let admission = admit(&[damaged(request("r", TaskKind::Recover, 1), nonsense())], situation());
        assert_eq!((admission.recover, admission.settled[0].1), (None, TaskState::Failed));
        let admission = admit(&[damaged(request("u", TaskKind::Update, 1), nonsense())], situation());
        assert_eq!(admission.current.as_deref(), Some("u"), "what is declared is seen from the plan");
        let newer = admit(&[damaged(request("d", TaskKind::Destroy, 1), Unreadable::Newer(2))], situation());
        assert_eq!((newer.destroy, newer.settled), (None, Vec::new()));
    }

    #[test]
    fn a_task_is_done_only_when_all_serve() {
        let request = request("a", TaskKind::Update, 1);
        let mut plan = Plan::default();
        plan.progress.wanted = 2;
        plan.progress.serving = 1;
        let running = progress(&request, situation(), &plan, Duration::ZERO);
        assert_eq!((running.state, running.running), (TaskState::Running, 1));
        let late = progress(&request, situation(), &plan, Duration::from_secs(600));
        assert_eq!(late.state, TaskState::Failed);
        plan.progress.serving = 2;
        let done = progress(&request, situation(), &plan, Duration::ZERO);
        assert_eq!((done.state, done.finished_at), (TaskState::Done, Some(samples::at(0))));
    }
}
