//! The keeper's decisions, one story a test.

mod agent;
mod gated;

use overlord_api::{Kind, OnDisk, State};

use super::*;
use crate::Ended;

const TASK: &str = "01234567.3.1.9";

/// A keeper, and what a host would have done with its effects so far.
struct Story {
    keeper: Keeper,
    /// Effects of the last step.
    effects: Vec<Effect>,
    reports: Vec<Status>,
}

fn address() -> Address {
    "127.0.0.1:20001".parse().unwrap()
}

fn keys(config: u64, restart: u64, conf: &str) -> Keys {
    let mut info = crate::instance::tests::info(Kind::Redis, address(), TASK);
    info.desired.config = config;
    info.desired.restart = restart;
    Keys { info, server_conf: conf.to_owned(), nodes_conf: None }
}

fn healthy() -> Health {
    Health { serving: true, role: Some("single".to_owned()), ..Health::default() }
}

fn healthy_not() -> Health {
    Health { serving: false, ..healthy() }
}

impl Story {
    fn new() -> Self {
        Self { keeper: Keeper::new(Limits::default(), 7), effects: Vec::new(), reports: Vec::new() }
    }

    fn step(&mut self, input: Input) -> &mut Self {
        self.effects = self.keeper.step(input);
        for effect in &self.effects {
            if let Effect::Report { status, .. } = effect {
                self.reports.push(status.clone());
            }
        }
        self
    }

    fn launched() -> Self {
        let mut story = Self::new();
        let cluster = ClusterName::new("orders").unwrap();
        let task = Task { id: TASK.to_owned(), cluster, address: address(), grace: None };
        story.step(Input::Launch(TASK.to_owned(), Ok(task)));
        story
    }

    fn read(&mut self, keys: Result<Option<Keys>, String>) -> &mut Self {
        let number = self.keeper.reads.number;
        self.step(Input::Read { number, keys })
    }

    fn started(&mut self, pid: u32) -> &mut Self {
        let run = self.keeper.run;
        self.step(Input::Started { run, pid: Ok(pid) })
    }

    fn probed(&mut self, health: Result<Health, String>) -> &mut Self {
        let run = self.keeper.run;
        self.step(Input::Probed { run, health })
    }

    fn exited(&mut self, how: Ended, console: &str) -> &mut Self {
        let run = self.keeper.run;
        self.step(Input::Exited { run, exit: Exit { how, console: console.to_owned() } })
    }

    fn elapse(&mut self, timer: Timer) -> &mut Self {
        let number = *self.keeper.timers.get(&timer).unwrap_or_else(|| panic!("{timer:?} does not run"));
        self.step(Input::Elapsed(timer, number))
    }

    fn serving() -> Self {
        let mut story = Self::launched();
        story
            .read(Ok(Some(keys(1, 0, "a 1"))))
            .step(Input::Prepared(Ok(())))
            .started(100)
            .probed(Ok(healthy()));
        story
    }

    fn kill(&mut self) -> &mut Self {
        self.step(Input::Kill { task_id: TASK.to_owned(), grace: None })
    }

    fn nudged(&mut self, keys: Keys) -> &mut Self {
        self.step(Input::Nudge).read(Ok(Some(keys)))
    }

    fn last(&self) -> (TaskState, &Report) {
        let status = self.reports.last().expect("a report");
        (status.state, &status.report)
    }

    fn did(&self, what: impl Fn(&Effect) -> bool) -> bool {
        self.effects.iter().any(what)
    }

    fn starts(&self) -> bool {
        self.did(|effect| matches!(effect, Effect::Start { .. }))
    }

    fn applies(&self) -> bool {
        self.did(|effect| matches!(effect, Effect::Apply { .. }))
    }

    fn signals(&self, wanted: Signal) -> bool {
        self.did(|effect| matches!(effect, Effect::Signal { pid: 100, signal } if *signal == wanted))
    }

    fn disposal(&self) -> Option<Disposal> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::CleanUp { disposal, .. } => Some(*disposal),
            _ => None,
        })
    }
}

#[test]
fn a_start_is_two_reports_and_no_more() {
    let mut story = Story::serving();
    for _ in 0..5 {
        story.probed(Ok(healthy()));
    }
    let states: Vec<_> = story.reports.iter().map(|s| (s.state, s.report.state)).collect();
    assert_eq!(states, [(TaskState::Starting, State::Staging), (TaskState::Running, State::Running)]);
    let (_, report) = story.last();
    assert_eq!((report.config, report.restart, report.pid), (1, 0, Some(100)));
    assert_eq!(report.role.as_deref(), Some("single"));
}

#[test]
fn an_unreadable_etcd_is_reported_once_and_given_up_after_a_while() {
    let mut story = Story::launched();
    story.read(Err("etcd is away".to_owned()));
    assert_eq!(story.last().0, TaskState::Starting);
    assert!(story.last().1.message.contains("etcd is away"));
    story.elapse(Timer::Reread).read(Err("etcd is away".to_owned()));
    assert_eq!(story.reports.len(), 2);
    story.elapse(Timer::ReadDeadline);
    assert_eq!(story.last().0, TaskState::Failed);
    assert!(story.last().1.message.contains("etcd is away"));
    assert_eq!(story.effects.last(), Some(&Effect::Finish));
}

#[test]
fn a_task_whose_address_has_another_owner_fails() {
    let mut story = Story::launched();
    let mut keys = keys(1, 0, "");
    keys.info.mesos_task_id = "other".to_owned();
    story.read(Ok(Some(keys)));
    assert_eq!(story.last().0, TaskState::Failed);
    assert!(story.last().1.message.contains("other"), "{}", story.last().1.message);
    let mut story = Story::launched();
    story.read(Ok(None));
    assert!(story.last().1.message.contains("/overlord/clusters/orders/instances/127.0.0.1:20001/info"));
}

#[test]
fn a_dead_server_is_started_again_at_once_and_then_with_pauses() {
    let mut story = Story::serving();
    story.exited(Ended::Signal(9), "last line");
    assert!(story.starts());
    let (state, report) = story.last();
    assert_eq!(
        (state, report.state, report.restarts, report.pid),
        (TaskState::Running, State::Restarting, 1, None)
    );
    assert_eq!(report.message, "was killed by signal 9 (SIGKILL)");
    story.started(101).probed(Ok(healthy()));
    let (_, report) = story.last();
    assert_eq!((report.state, report.restarts, report.pid), (State::Running, 1, Some(101)));
    story.exited(Ended::Signal(11), "stack trace");
    assert!(!story.starts());
    assert!(story.last().1.message.contains("SIGSEGV): stack trace"));
    assert!(story.elapse(Timer::Restart).starts());
}

#[test]
fn deaths_are_forgiven_after_serving_for_a_while() {
    let mut story = Story::serving();
    for pid in 101..140 {
        story.exited(Ended::Status(1), "").started(pid).probed(Ok(healthy())).elapse(Timer::Healthy);
    }
    assert_eq!(story.last().1.restarts, 39);
    assert_eq!(story.last().0, TaskState::Running);
}

#[test]
fn a_crash_loop_ends_the_task_with_its_cause() {
    let mut story = Story::serving();
    for n in 1..10 {
        story.exited(Ended::Status(1), "out of cheese");
        if n > 1 {
            story.elapse(Timer::Restart);
        }
        story.started(100 + n);
    }
    assert_eq!(story.last().0, TaskState::Running);
    story.exited(Ended::Status(1), "out of cheese");
    let (state, report) = story.last();
    assert_eq!((state, report.state), (TaskState::Failed, State::Failed));
    assert_eq!(
        report.message,
        "the server ended 10 times in a row; the last one exited with status 1 at start: out of cheese"
    );
    assert_eq!(story.disposal(), Some(Disposal::Keep));
    assert_eq!(story.step(Input::CleanedUp).effects, [Effect::Finish]);
}

#[test]
fn a_server_that_never_served_is_given_up_sooner() {
    let mut story = Story::launched();
    story.read(Ok(Some(keys(1, 0, "a 1")))).step(Input::Prepared(Ok(())));
    story.started(100).exited(Ended::Status(1), "bad directive");
    assert_eq!(story.last().0, TaskState::Starting);
    assert_eq!(story.last().1.message, "exited with status 1 at start: bad directive");
    story.started(101).exited(Ended::Status(1), "bad directive");
    story.elapse(Timer::Restart).started(102).exited(Ended::Status(1), "bad directive");
    assert_eq!(story.last().0, TaskState::Failed);
}

#[test]
fn a_host_that_cannot_be_prepared_fails_the_task() {
    let mut story = Story::launched();
    story.read(Ok(Some(keys(1, 0, "a 1"))));
    story.step(Input::Prepared(Err("port 20001 is taken by pid 5 (nc)".to_owned())));
    assert_eq!(story.last().0, TaskState::Failed);
    assert_eq!(story.last().1.message, "port 20001 is taken by pid 5 (nc)");
}

#[test]
fn a_changed_configuration_is_applied_then_reported() {
    let mut story = Story::serving();
    assert!(story.nudged(keys(2, 0, "a 2")).applies());
    // While it is applied, nothing else happens to it.
    assert!(!story.nudged(keys(3, 1, "a 3")).applies());
    story.step(Input::Applied(Applied::Accepted { needs_restart: false }));
    assert_eq!(story.last().1.config, 2);
    assert!(story.applies());
    story.step(Input::Applied(Applied::Accepted { needs_restart: true }));
    let (_, report) = story.last();
    assert_eq!((report.config, report.restart_needed, report.restart), (3, true, 0));
    assert!(story.signals(Signal::Terminate), "the ordered restart comes after the configuration");
    story.exited(Ended::Status(0), "");
    assert!(story.starts());
    story.started(101).probed(Ok(healthy()));
    let (_, report) = story.last();
    assert_eq!((report.config, report.restart_needed, report.restart, report.restarts), (3, false, 1, 0));
    assert_eq!((report.state, report.message.as_str()), (State::Running, ""));
}

#[test]
fn an_equal_text_under_a_new_number_needs_no_work() {
    let mut story = Story::serving();
    assert!(!story.nudged(keys(2, 0, "a 1")).applies());
    assert_eq!(story.last().1.config, 2);
}

#[test]
fn a_refused_configuration_changes_nothing_and_is_not_tried_again() {
    let mut story = Story::serving();
    story.nudged(keys(2, 0, "a bad")).step(Input::Applied(Applied::Refused("ERR no such policy".to_owned())));
    let (_, report) = story.last();
    assert_eq!((report.config, report.config_refused), (1, Some(2)));
    assert!(report.message.contains("ERR no such policy"));
    let reports = story.reports.len();
    assert!(!story.nudged(keys(2, 0, "a bad")).applies());
    assert_eq!(story.reports.len(), reports);
    // A restart uses the text that works.
    story.exited(Ended::Signal(9), "");
    assert!(story.did(|effect| matches!(effect, Effect::Start { conf: Some(conf), .. } if conf == "a 1")));
    story.started(101).probed(Ok(healthy()));
    assert_eq!((story.last().1.config, story.last().1.config_refused), (1, Some(2)));
    assert!(story.nudged(keys(3, 0, "a 3")).applies());
    story.step(Input::Applied(Applied::Accepted { needs_restart: false }));
    assert_eq!((story.last().1.config, story.last().1.config_refused), (3, None));
}

#[test]
fn a_configuration_that_could_not_be_tried_is_tried_again_later() {
    let mut story = Story::serving();
    story.nudged(keys(2, 0, "a 2")).step(Input::Applied(Applied::Failed("timed out".to_owned())));
    assert!(!story.applies());
    assert!(story.last().1.message.contains("timed out"));
    assert!(story.elapse(Timer::Reread).read(Ok(Some(keys(2, 0, "a 2")))).applies());
}

#[test]
fn a_crashed_server_starts_with_the_newest_text() {
    let mut story = Story::serving();
    story.exited(Ended::Status(1), "").started(101).exited(Ended::Status(1), "");
    story.nudged(keys(2, 5, "a 2")).elapse(Timer::Restart);
    assert!(story.did(|effect| matches!(effect, Effect::Start { conf: Some(conf), .. } if conf == "a 2")));
    story.started(102).probed(Ok(healthy()));
    assert_eq!((story.last().1.config, story.last().1.restart), (2, 5));
}

#[test]
fn a_start_waits_for_a_change_that_is_being_applied() {
    let mut story = Story::serving();
    story.nudged(keys(2, 0, "a 2")).exited(Ended::Signal(9), "");
    assert!(!story.starts());
    story.step(Input::Applied(Applied::Failed("connection closed".to_owned())));
    assert!(story.did(|effect| matches!(effect, Effect::Start { conf: Some(conf), .. } if conf == "a 2")));
    story.started(101).probed(Ok(healthy()));
    assert_eq!(
        (story.last().1.config, story.last().1.message.as_str()),
        (2, "was killed by signal 9 (SIGKILL)")
    );
}

#[test]
fn a_server_with_a_full_disk_goes_on_and_says_so() {
    let mut story = Story::serving();
    let detail = format!("{}: its last snapshot failed", overlord_api::DISK_TROUBLE);
    story.probed(Ok(Health { detail: detail.clone(), ..healthy() }));
    let (state, report) = story.last();
    assert_eq!(
        (state, report.state, report.message.as_str()),
        (TaskState::Running, State::Running, &*detail)
    );
    assert!(!story.signals(Signal::Terminate) && !story.signals(Signal::Kill));
    story.probed(Ok(healthy()));
    assert_eq!(story.last().1.message, "");
}

#[test]
fn a_silent_server_is_reported_as_not_serving_and_left_alone() {
    let mut story = Story::serving();
    story.probed(Err("timed out".to_owned()));
    let reports = story.reports.len();
    story.probed(Err("timed out".to_owned()));
    assert_eq!(story.reports.len(), reports);
    story.elapse(Timer::Silent);
    let (state, report) = story.last();
    assert_eq!(
        (state, report.state, report.message.as_str(), report.pid),
        (TaskState::Running, State::Staging, "does not answer for 30 s: timed out", Some(100))
    );
    assert!(!story.signals(Signal::Terminate) && !story.signals(Signal::Kill));
    let reports = story.reports.len();
    story
        .probed(Err("timed out".to_owned()))
        .probed(Ok(Health { detail: "loading".into(), ..healthy_not() }));
    assert_eq!(story.reports.len(), reports);
    story.probed(Ok(healthy())).probed(Ok(healthy()));
    assert_eq!(story.reports.len(), reports + 1);
    let (state, report) = story.last();
    assert_eq!((state, report.state, report.message.as_str()), (TaskState::Running, State::Running, ""));
    assert_eq!((report.config, report.restarts), (1, 0));
}

#[test]
fn silence_is_no_good_health() {
    let mut story = Story::serving();
    story.exited(Ended::Signal(9), "").started(100).probed(Ok(healthy()));
    story.probed(Err("timed out".to_owned())).elapse(Timer::Silent);
    assert!(!story.keeper.timers.contains_key(&Timer::Healthy));
    story.probed(Ok(healthy())).elapse(Timer::Healthy);
    assert_eq!(story.keeper.deaths, 0);
}

#[test]
fn a_silent_server_is_restarted_by_order() {
    let mut story = Story::serving();
    story.probed(Err("timed out".to_owned())).elapse(Timer::Silent);
    assert!(story.nudged(keys(1, 1, "a 1")).signals(Signal::Terminate));
    assert_eq!(story.last().1.state, State::Restarting);
    assert!(story.exited(Ended::Signal(9), "").starts());
    story.started(101).probed(Ok(healthy()));
    assert_eq!((story.last().1.state, story.last().1.message.as_str()), (State::Running, ""));
}

#[test]
fn an_agent_that_is_back_hears_once_more_how_the_server_is() {
    let mut story = Story::serving();
    story.step(Input::Subscribed { all_told: true });
    assert_eq!(story.reports.len(), 3);
    assert_eq!(story.reports[1], story.reports[2]);
    assert!(story.did(|effect| matches!(effect, Effect::Read { .. })), "a nudge may have been lost");
    // A report that waits is sent again anyway.
    story.step(Input::Subscribed { all_told: false });
    assert_eq!(story.reports.len(), 3);
    story.kill().exited(Ended::Status(0), "");
    assert_eq!(story.last().0, TaskState::Killed);
    let reports = story.reports.len();
    story.step(Input::Subscribed { all_told: true });
    assert_eq!(story.reports.len(), reports, "nothing follows the end");
    let mut idle = Story::new();
    let told = idle.step(Input::Subscribed { all_told: true }).did(|e| matches!(e, Effect::Report { .. }));
    assert!(!told, "there is nothing to tell of");
}

#[test]
fn absence_is_no_order() {
    let mut story = Story::serving();
    story.step(Input::Nudge).read(Ok(None));
    assert_eq!(story.effects.len(), 1, "only the next read is planned: {:?}", story.effects);
    let mut foreign = keys(2, 9, "other");
    foreign.info.mesos_task_id = "other".to_owned();
    assert!(!story.nudged(foreign).applies() && !story.signals(Signal::Terminate));
}

#[test]
fn a_kill_stops_in_order_then_by_force_and_is_reported_once() {
    let mut story = Story::serving();
    story.kill();
    assert!(story.signals(Signal::Terminate));
    assert_eq!((story.last().0, story.last().1.state), (TaskState::Killing, State::Draining));
    let reports = story.reports.len();
    story.kill();
    assert_eq!((story.reports.len(), story.effects.len()), (reports, 0));
    assert!(story.elapse(Timer::Stop).signals(Signal::Kill));
    story.exited(Ended::Signal(9), "");
    assert_eq!((story.last().0, story.last().1.state), (TaskState::Killed, State::Gone));
    assert_eq!(story.disposal(), None, "the keys are awaited");
    story.read(Err("etcd is away".to_owned()));
    assert_eq!(story.disposal(), Some(Disposal::Keep));
    assert_eq!(story.step(Input::CleanedUp).effects, [Effect::Finish]);
}

#[test]
fn the_directory_goes_only_on_a_clear_word() {
    let end = |keys: Result<Option<Keys>, String>, retain: bool| {
        let mut story = Story::serving();
        if retain {
            let mut keys = self::keys(1, 0, "a 1");
            keys.info.on_disk = OnDisk::Retain;
            story.nudged(keys);
        }
        story.kill().read(keys);
        story.exited(Ended::Status(0), "");
        story.disposal().unwrap()
    };
    let with = |change: &dyn Fn(&mut overlord_api::Info)| {
        let mut keys = keys(1, 0, "a 1");
        change(&mut keys.info);
        Ok(Some(keys))
    };
    assert_eq!(end(Ok(None), false), Disposal::MoveAside);
    assert_eq!(end(Ok(None), true), Disposal::MoveAside);
    assert_eq!(end(with(&|info| info.desired.state = State::Gone), false), Disposal::Remove);
    assert_eq!(end(with(&|_| ()), false), Disposal::Keep);
    let relaunched = with(&|info| {
        info.desired.state = State::Gone;
        info.mesos_task_id = "next".to_owned();
    });
    assert_eq!(end(relaunched, false), Disposal::Keep);
}

#[test]
fn a_kill_finds_an_end_in_every_phase() {
    let mut stories: Vec<(&str, Story)> = Vec::new();
    stories.push(("reading", Story::launched()));
    let mut story = Story::launched();
    story.read(Ok(Some(keys(1, 0, "a 1"))));
    stories.push(("preparing", story));
    let mut story = Story::serving();
    story.exited(Ended::Status(1), "").started(101).exited(Ended::Status(1), "");
    stories.push(("pausing", story));
    let mut story = Story::serving();
    story.exited(Ended::Status(1), "");
    stories.push(("starting", story));
    let mut story = Story::serving();
    story.nudged(keys(1, 1, "a 1"));
    stories.push(("bouncing", story));
    let mut story = Story::serving();
    story.nudged(keys(2, 0, "a 2"));
    stories.push(("applying", story));
    for (phase, mut story) in stories {
        story.kill();
        if story.keeper.process == Process::Asked {
            assert!(story.started(100).signals(Signal::Terminate), "{phase}");
        }
        if matches!(story.keeper.process, Process::Lives(_)) {
            story.exited(Ended::Status(0), "");
        }
        if story.keeper.applying.is_some() {
            story.step(Input::Applied(Applied::Failed("gone".to_owned())));
        }
        assert_eq!(story.last().0, TaskState::Killed, "{phase}");
        if story.keeper.phase != Phase::Done {
            assert_eq!(story.read(Ok(None)).disposal(), Some(Disposal::MoveAside), "{phase}");
            story.step(Input::CleanedUp);
        }
        assert_eq!(story.effects.last(), Some(&Effect::Finish), "{phase}");
    }
}

#[test]
fn a_shutdown_keeps_the_directory() {
    let mut story = Story::serving();
    assert!(story.step(Input::Shutdown).signals(Signal::Terminate));
    story.exited(Ended::Status(0), "");
    assert_eq!(story.last().0, TaskState::Killed);
    assert_eq!(story.disposal(), Some(Disposal::Keep));
    let mut idle = Story::new();
    assert_eq!(idle.step(Input::Shutdown).effects, [Effect::Finish]);
}

#[test]
fn a_second_task_is_refused_and_a_repeated_launch_ignored() {
    let mut story = Story::serving();
    story.step(Input::Launch(TASK.to_owned(), Err("whatever".to_owned())));
    assert!(story.effects.is_empty());
    story.step(Input::Launch("second".to_owned(), Err("whatever".to_owned())));
    assert!(matches!(&story.effects[..], [Effect::Report { task_id, .. }] if task_id == "second"));
    assert_eq!(story.last().0, TaskState::Failed);
}
