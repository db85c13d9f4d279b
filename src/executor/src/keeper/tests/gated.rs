//! Nodes of a redis cluster: the gate before each start, and what is told of their place.

use super::*;

fn node_keys() -> Keys {
    let info = crate::instance::tests::info(Kind::RedisCluster, address(), TASK);
    Keys { info, server_conf: "a 1".to_owned(), nodes_conf: Some("seed".to_owned()) }
}

fn go() -> Clearance {
    Clearance::Start { nodes_conf: None, emptied: false, note: String::new() }
}

fn member(serving: bool, role: &str, epoch: u64, link: Option<&str>) -> Health {
    let detail = if serving { String::new() } else { "cluster_state is fail".to_owned() };
    let (role, epoch, link) = (Some(role.to_owned()), Some(epoch), link.map(str::to_owned));
    Health { serving, role, epoch, link, detail, ..Health::default() }
}

impl Story {
    fn prepared() -> Self {
        let mut story = Self::launched();
        story.read(Ok(Some(node_keys()))).step(Input::Prepared(Ok(())));
        story
    }

    fn gated(&mut self, clearance: Result<Clearance, String>) -> &mut Self {
        let run = self.keeper.run;
        self.step(Input::Gated { run, clearance })
    }

    fn master() -> Self {
        let mut story = Self::prepared();
        story.gated(Ok(go())).started(100).probed(Ok(member(true, "master", 1, None)));
        story
    }

    fn asked(&self) -> Option<&StartRequest> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Gate { request, .. } => Some(request),
            _ => None,
        })
    }

    fn probe_after(&self) -> Duration {
        let after = self.effects.iter().find_map(|effect| match effect {
            Effect::Probe { after, .. } => Some(*after),
            _ => None,
        });
        after.expect("a probe")
    }
}

#[test]
fn a_node_asks_before_its_first_start_and_starts_with_what_it_is_given() {
    let mut story = Story::prepared();
    assert!(!story.starts());
    assert_eq!(
        story.asked(),
        Some(&StartRequest { seed: Some("seed".to_owned()), first: true, asks: 0, given_up: false })
    );
    let nodes_conf = Some("nodes".to_owned());
    story.gated(Ok(Clearance::Start {
        nodes_conf: nodes_conf.clone(),
        emptied: false,
        note: "news".to_owned(),
    }));
    let given = |effect: &Effect| matches!(effect, Effect::Start { conf: None, nodes_conf: n, .. } if *n == nodes_conf);
    assert!(story.did(given));
    story.started(100).probed(Ok(member(true, "master", 1, None)));
    let (state, report) = story.last();
    assert_eq!(
        (state, report.role.as_deref(), report.message.as_str()),
        (TaskState::Running, Some("master"), "news")
    );
}

#[test]
fn a_dead_master_waits_as_long_as_it_is_told_to_and_says_why_once() {
    let mut story = Story::master();
    story.exited(Ended::Signal(9), "");
    assert!(!story.starts());
    assert_eq!(story.asked().map(|request| request.first), Some(false));
    assert_eq!(story.last().1.state, State::Restarting);
    let wait = || Ok(Clearance::Wait("replica x holds the data".to_owned()));
    story.gated(wait());
    let (state, report) = story.last();
    assert_eq!((state, report.state), (TaskState::Running, State::Restarting));
    assert_eq!(report.message, "waits: replica x holds the data; was killed by signal 9 (SIGKILL)");
    let reports = story.reports.len();
    for asks in 1..20 {
        story.elapse(Timer::Gate);
        assert_eq!(story.asked().map(|request| request.asks), Some(asks));
        story.gated(wait());
    }
    assert_eq!((story.reports.len(), story.last().1.restarts), (reports, 1));
    story.elapse(Timer::Gate).gated(Ok(go()));
    assert!(
        story.did(|effect| matches!(effect, Effect::Start { conf: Some(_), .. })),
        "its files are made again"
    );
    story.started(101).probed(Ok(member(true, "slave", 7, Some("up"))));
    let (_, report) = story.last();
    assert_eq!(
        (report.state, report.role.as_deref(), report.epoch),
        (State::Running, Some("slave"), Some(7))
    );
    assert_eq!((report.message.as_str(), report.emptied), ("was killed by signal 9 (SIGKILL)", 0));
}

#[test]
fn a_verdict_counts_for_the_start_it_was_asked_for() {
    let mut story = Story::master();
    story.exited(Ended::Signal(9), "");
    let run = story.keeper.run;
    story.gated(Ok(go())).started(101).exited(Ended::Status(1), "");
    story.elapse(Timer::Restart);
    assert!(story.asked().is_some() && !story.starts());
    assert!(!story.step(Input::Gated { run, clearance: Ok(go()) }).starts(), "that was for the start before");
    assert!(story.gated(Ok(go())).starts());
}

#[test]
fn a_master_that_starts_without_its_keys_is_counted() {
    let mut story = Story::master();
    story.exited(Ended::Signal(9), "");
    story.gated(Ok(Clearance::Start { nodes_conf: None, emptied: true, note: "nobody has it".to_owned() }));
    story.started(101).probed(Ok(member(true, "master", 1, None)));
    let (_, report) = story.last();
    assert_eq!(report.emptied, 1);
    assert_eq!(report.message, "nobody has it; was killed by signal 9 (SIGKILL)");
}

#[test]
fn a_node_without_a_usable_file_fails_with_the_reason() {
    let mut story = Story::prepared();
    story.gated(Err("etcd has no nodes.conf".to_owned()));
    assert_eq!(
        (story.last().0, story.last().1.message.as_str()),
        (TaskState::Failed, "etcd has no nodes.conf")
    );
    // One that served is not given up for a file that cannot be read once.
    let mut story = Story::master();
    story.exited(Ended::Signal(9), "").gated(Err("cannot read".to_owned()));
    assert_eq!((story.last().0, story.last().1.message.as_str()), (TaskState::Running, "cannot read"));
    assert!(story.elapse(Timer::Restart).asked().is_some());
}

#[test]
fn a_kill_ends_the_waiting() {
    let mut story = Story::master();
    story.exited(Ended::Signal(9), "").gated(Ok(Clearance::Wait("x".to_owned())));
    story.kill();
    assert_eq!((story.last().0, story.last().1.state), (TaskState::Killed, State::Gone));
    let mut story = Story::prepared();
    story.kill();
    assert_eq!(story.last().0, TaskState::Killed);
    assert!(!story.gated(Ok(go())).starts());
}

#[test]
fn role_epoch_and_link_are_told_when_they_change_and_only_then() {
    let mut story = Story::master();
    let reports = story.reports.len();
    story.probed(Ok(member(true, "master", 1, None))).probed(Ok(member(true, "master", 1, None)));
    assert_eq!(story.reports.len(), reports);
    story.probed(Ok(member(true, "slave", 4, Some("up"))));
    story.probed(Ok(member(false, "slave", 4, Some("down"))));
    story.probed(Ok(Health {
        loading: true,
        role: Some("slave".to_owned()),
        link: Some("down".to_owned()),
        ..healthy_not()
    }));
    let (_, report) = story.last();
    assert_eq!(
        (report.role.as_deref(), report.epoch, report.link.as_deref()),
        (Some("slave"), Some(4), Some("down"))
    );
    // A cluster that fails for a moment, as in a failover elsewhere, is no change of this node.
    assert_eq!((report.state, story.reports.len()), (State::Running, reports + 2));
    story.elapse(Timer::Silent);
    let (_, report) = story.last();
    assert_eq!(report.state, State::Staging);
    assert!(report.message.starts_with("does not serve for 30 s"), "{}", report.message);
}

#[test]
fn a_start_is_looked_at_often_around_the_time_when_redis_lets_it_serve() {
    let mut story = Story::prepared();
    story.gated(Ok(go())).started(100);
    let (mut at, mut looks) = (story.probe_after(), Vec::new());
    while at < Duration::from_secs(40) {
        looks.push(at);
        story.probed(Ok(member(false, "master", 1, None)));
        at += story.probe_after();
    }
    let within = |from: u64, to: u64| {
        let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
        looks.iter().filter(|at| (from..to).contains(*at)).count()
    };
    assert!((6..16).contains(&within(0, 1900)), "{looks:?}");
    assert!((8..12).contains(&within(1975, 2450)), "{looks:?}");
    assert!((38..42).contains(&within(10_000, 20_000)), "{looks:?}");
    assert!(within(35_000, 40_000) <= 5, "{looks:?}");
}
