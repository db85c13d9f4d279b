//! Agents that go away, come back, or have forgotten us.

use overlord_api::OnAgentLoss;

use super::*;

fn loss(recoverable: bool) -> Input {
    Input::AgentLost(AgentLoss { waited: Duration::from_secs(900), recoverable })
}

fn stopping() -> Keys {
    let mut keys = keys(1, 0, "a 1");
    keys.info.on_agent_loss = OnAgentLoss::Stop;
    keys
}

#[test]
fn a_server_is_kept_without_its_agent_unless_the_spec_says_otherwise() {
    let mut story = Story::serving();
    assert!(story.step(loss(true)).effects.is_empty());
    assert_eq!(story.nudged(keys(1, 0, "a 1")).last().0, TaskState::Running);
    // The spec changes while the agent is gone.
    assert!(story.nudged(stopping()).signals(Signal::Terminate));
    assert_eq!(story.last().0, TaskState::Killing, "its port is not free yet");
    story.exited(Ended::Status(0), "");
    assert_eq!((story.last().0, story.last().1.state), (TaskState::Failed, State::Failed));
    assert!(story.last().1.message.contains("gone for more than 900 s"), "{}", story.last().1.message);
    assert_eq!(story.disposal(), Some(Disposal::Keep));
}

#[test]
fn an_agent_that_is_back_before_the_spec_changes_ends_nothing() {
    let mut story = Story::serving();
    story.step(loss(true)).step(Input::Subscribed { all_told: true });
    assert!(!story.nudged(stopping()).signals(Signal::Terminate));
    assert!(story.step(loss(true)).signals(Signal::Terminate));
}

#[test]
fn without_a_record_on_the_agent_the_server_ends_with_it() {
    let mut story = Story::serving();
    assert!(story.step(loss(false)).signals(Signal::Terminate));
    story.exited(Ended::Status(0), "");
    assert_eq!(story.last().0, TaskState::Failed);
    assert_eq!(story.disposal(), Some(Disposal::Keep));
}

#[test]
fn an_agent_that_has_forgotten_us_ends_the_server_whatever_the_spec_says() {
    let mut story = Story::serving();
    assert!(story.step(Input::Disowned("Executor cannot be found".to_owned())).signals(Signal::Terminate));
    story.exited(Ended::Status(0), "");
    assert_eq!(story.last().0, TaskState::Failed);
    assert!(story.last().1.message.contains("Executor cannot be found"));
    assert_eq!(story.disposal(), Some(Disposal::Keep), "its data may be the only copy");
}

#[test]
fn an_executor_without_a_task_leaves() {
    for input in [loss(true), loss(false), Input::Disowned(String::new())] {
        assert_eq!(Story::new().step(input).effects, [Effect::Finish]);
    }
    let mut story = Story::new();
    story.step(Input::Subscribed { all_told: true });
    assert_eq!(story.elapse(Timer::Idle).effects, [Effect::Finish]);
    // A task that comes in time stays.
    let mut story = Story::launched();
    story.step(Input::Subscribed { all_told: true });
    assert!(!story.keeper.timers.contains_key(&Timer::Idle));
}

#[test]
fn a_group_is_refused_task_by_task() {
    let group = || Input::LaunchGroup(vec!["a".to_owned(), "b".to_owned()]);
    let refused = |story: &Story| {
        let mut ids = Vec::new();
        for effect in &story.effects {
            if let Effect::Report { task_id, status } = effect {
                assert_eq!(status.state, TaskState::Failed);
                ids.push(task_id.clone());
            }
        }
        ids
    };
    let mut story = Story::new();
    story.step(group());
    assert_eq!(refused(&story), ["a", "b"]);
    assert_eq!(story.effects.last(), Some(&Effect::Finish));
    let mut story = Story::serving();
    story.step(group());
    assert_eq!(refused(&story), ["a", "b"]);
    assert!(!story.did(|effect| *effect == Effect::Finish));
}

#[test]
fn a_kill_of_a_task_that_never_arrived_is_answered() {
    let kill = || Input::Kill { task_id: "lost".to_owned(), grace: None };
    let mut story = Story::new();
    story.step(kill());
    assert_eq!((story.last().0, story.last().1.state), (TaskState::Killed, State::Gone));
    assert_eq!(story.effects.last(), Some(&Effect::Finish));
    let mut story = Story::serving();
    story.step(kill());
    assert!(!story.signals(Signal::Terminate) && story.last().0 == TaskState::Killed);
}

#[test]
fn a_later_kill_may_leave_less_time_and_never_more() {
    let mut story = Story::serving();
    story.kill();
    let hurry = Input::Kill { task_id: TASK.to_owned(), grace: Some(Duration::from_secs(1)) };
    story.step(hurry);
    assert!(story.keeper.timers.contains_key(&Timer::Stop), "the first deadline stands");
    assert!(story.elapse(Timer::StopSooner).signals(Signal::Kill));
    story.exited(Ended::Signal(9), "");
    assert!(!story.keeper.timers.contains_key(&Timer::StopSooner));
}
