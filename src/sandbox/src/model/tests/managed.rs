//! Captures 05, 07, 51 and 54: tasks with a command.

use overlord_mesos::v1::{DurationInfo, KillPolicy};

use super::*;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

fn capable() -> Value {
    let mut info = framework_info();
    info["capabilities"].as_array_mut().unwrap().push(json!({"type": "TASK_KILLING_STATE"}));
    info
}

fn states(statuses: &[TaskStatus]) -> Vec<TaskState> {
    statuses.iter().map(|status| status.state).collect()
}

fn kill(world: &mut World, scheduler: &Scheduler, policy: Option<u64>) {
    let mut body = json!({"type": "KILL", "kill": {"task_id": {"value": "t"}}});
    if let Some(seconds) = policy {
        body["kill"]["kill_policy"] = json!({"grace_period": {"nanoseconds": seconds * 1_000_000_000}});
    }
    world.tell(scheduler, body);
}

#[test]
fn a_command_starts_runs_and_finishes_without_a_failure_event() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |_| {});
    let statuses = world.drain(&scheduler);
    assert_eq!(states(&statuses), [TaskState::Starting, TaskState::Running]);
    for status in &statuses {
        assert_eq!(status.source, Some(Source::Executor));
        assert_eq!(status.executor_id, Some(ExecutorId::new("t")));
        assert_eq!(status.message, None);
        let container_status = status.container_status.as_ref().unwrap();
        assert_eq!(container_status["container_id"]["value"], container.as_str());
        assert_eq!(container_status["executor_pid"], 100);
    }
    world.pass(1.0);
    world.events(&scheduler);
    world.exits(&container, 0);
    let statuses = world.drain(&scheduler);
    assert_eq!(states(&statuses), [TaskState::Finished]);
    assert_eq!(statuses[0].message.as_deref(), Some("Command exited with status 0"));
    assert_eq!(statuses[0].reason, None);
    world.pass(2.0);
    // The task's resources are offered again; of its executor nothing is heard.
    assert_eq!(world.kinds(&scheduler), [EventType::Offers]);
    assert!(world.model.agents()[0].containers.is_empty());
}

#[test]
fn a_command_that_ends_badly_fails_with_how_it_ended() {
    for (status, text) in [
        (3 << 8, "Command exited with status 3"),
        (127 << 8, "Command exited with status 127"),
        (SIGKILL, "Command terminated with signal Killed"),
        (0x8b, "Command terminated with signal Segmentation fault (core dumped)"),
    ] {
        let mut world = World::new(1);
        let scheduler = world.subscribe();
        let container = world.run_command(&scheduler, |_| {});
        world.drain(&scheduler);
        world.exits(&container, status);
        let statuses = world.drain(&scheduler);
        assert_eq!(brief(&statuses[0]), (TaskState::Failed, "", text, true));
    }
}

#[test]
fn an_end_that_is_told_before_the_start_is_still_told_in_order() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![command_task("t", &agent)]);
    world.pass(0.2);
    let container = world.starts[0].container.clone();
    world.exits(&container, 0);
    world.step(Input::Started { container, pid: Some(1) });
    let statuses = world.drain(&scheduler);
    assert_eq!(states(&statuses), [TaskState::Starting, TaskState::Running, TaskState::Finished]);
}

#[test]
fn what_cannot_be_fetched_fails_the_task_before_it_starts() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![command_task("t", &agent)]);
    world.pass(0.2);
    let container = world.starts[0].container.clone();
    world.step(Input::NotStarted { container, message: "Failed to fetch all URIs".to_owned() });
    let events = world.events(&scheduler);
    assert_eq!(events.len(), 1, "{events:?}");
    let status = &events[0].update.as_ref().unwrap().status;
    let text = "Failed to launch container: Failed to fetch all URIs";
    assert_eq!(brief(status), (TaskState::Failed, "REASON_CONTAINER_LAUNCH_FAILED", text, true));
    assert_eq!((status.source, &status.executor_id), (Some(Source::Agent), &Some(ExecutorId::new("t"))));
    assert_eq!(status.container_status, None);
}

#[test]
fn kill_asks_first_and_kills_after_three_seconds() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(capable());
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    // The policy of the call does not reach this executor.
    kill(&mut world, &scheduler, Some(1));
    assert_eq!(states(&world.drain(&scheduler)), [TaskState::Killing]);
    assert_eq!((world.terminated.clone(), world.kills.len()), (vec![container.clone()], 0));
    world.pass(2.9);
    assert_eq!(world.kills, []);
    world.pass(0.2);
    assert_eq!(world.kills, std::slice::from_ref(&container));
    world.exits(&container, SIGKILL);
    let statuses = world.drain(&scheduler);
    let text = "Command terminated with signal Killed";
    assert_eq!(brief(&statuses[0]), (TaskState::Killed, "", text, true));
}

#[test]
fn the_task_s_own_kill_policy_counts_and_an_exit_code_does_not() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |task| {
        let grace_period = Some(DurationInfo { nanoseconds: 8_000_000_000 });
        task.kill_policy = Some(KillPolicy { grace_period });
    });
    world.drain(&scheduler);
    kill(&mut world, &scheduler, None);
    // Without the capability there is no KILLING.
    assert_eq!(world.drain(&scheduler), []);
    world.pass(7.9);
    assert_eq!(world.kills, []);
    world.exits(&container, 0);
    let statuses = world.drain(&scheduler);
    assert_eq!(brief(&statuses[0]), (TaskState::Killed, "", "Command exited with status 0", true));
    world.pass(1.0);
    assert_eq!(world.kills, []);
}

#[test]
fn a_command_executor_that_speaks_http_heeds_the_policy_of_the_call() {
    let mut config = config(1);
    config.http_command_executor = true;
    let mut world = World::with(&config, None);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    kill(&mut world, &scheduler, Some(1));
    world.pass(1.1);
    assert_eq!(world.kills, [container]);
}

#[test]
fn kill_right_behind_accept_takes_the_task_back() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![command_task("t", &agent)]);
    kill(&mut world, &scheduler, None);
    let statuses = world.drain(&scheduler);
    let text = "Killed before delivery to the executor";
    assert_eq!(brief(&statuses[0]), (TaskState::Killed, "REASON_TASK_KILLED_DURING_LAUNCH", text, true));
    world.pass(1.0);
    assert_eq!(world.starts, []);
}

#[test]
fn a_task_that_runs_too_long_fails_without_killing() {
    let mut world = World::new(1);
    let scheduler = world.subscribe_as(capable());
    let container = world.run_command(&scheduler, |task| {
        task.max_completion_time = Some(DurationInfo { nanoseconds: 3_000_000_000 });
    });
    world.drain(&scheduler);
    world.pass(3.1);
    assert_eq!(world.terminated, std::slice::from_ref(&container));
    assert_eq!(world.drain(&scheduler), []);
    world.exits(&container, SIGTERM);
    let statuses = world.drain(&scheduler);
    let text = "Command terminated with signal Terminated";
    assert_eq!(brief(&statuses[0]), (TaskState::Failed, "REASON_MAX_COMPLETION_TIME_REACHED", text, true));
}

#[test]
fn offers_do_not_show_executors_of_commands() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    world.run_command(&scheduler, |_| {});
    world.pass(1.0);
    let offers = world.events(&scheduler).into_iter().filter_map(|event| event.offers);
    let offer = offers.flat_map(|offers| offers.offers).next().unwrap();
    assert_eq!(offer.executor_ids, []);
}

#[test]
fn a_command_that_ends_while_its_agent_is_away_is_told_of_when_it_is_back() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    world.fault("agent1", AgentFault::Lost);
    world.pass(1.0);
    world.exits(&container, 0);
    world.pass(5.0);
    assert_eq!(world.statuses(&scheduler), []);
    world.fault("agent1", AgentFault::Return);
    world.pass(2.1);
    let statuses = world.statuses(&scheduler);
    assert_eq!(states(&statuses), [TaskState::Finished, TaskState::Finished]);
    assert_eq!(statuses[0].uuid, statuses[1].uuid);
}

#[test]
fn a_command_lives_on_through_a_restart_of_its_agent() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    world.fault("agent1", AgentFault::Restart);
    world.pass(10.0);
    assert_eq!((world.kills.clone(), world.statuses(&scheduler)), (vec![], vec![]));
    world.exits(&container, 0);
    assert_eq!(states(&world.drain(&scheduler)), [TaskState::Finished]);
}

#[test]
fn executors_give_up_when_their_agent_stays_away_for_longer_than_the_recovery_timeout() {
    let mut config = config(1);
    config.timings.recovery = Duration::from_secs(5);
    let mut world = World::with(&config, None);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    world.fault("agent1", AgentFault::Lost);
    world.pass(4.9);
    assert_eq!(world.kills, []);
    world.pass(0.2);
    assert_eq!(world.kills, std::slice::from_ref(&container));
    world.exits(&container, SIGKILL);
    world.pass(7.0);
    world.events(&scheduler);
    world.fault("agent1", AgentFault::Return);
    world.pass(2.1);
    let events = world.events(&scheduler);
    let statuses: Vec<_> = events.iter().filter_map(|event| event.update.as_ref()).collect();
    assert_eq!(statuses.len(), 2, "{events:?}");
    for update in statuses {
        let text = "Executor terminated";
        assert_eq!(brief(&update.status), (TaskState::Failed, "REASON_EXECUTOR_TERMINATED", text, true));
    }
    assert!(events.iter().all(|event| event.failure.is_none()));
}

#[test]
fn teardown_ends_commands_and_the_agent_tells_nobody() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |_| {});
    world.drain(&scheduler);
    world.tell(&scheduler, json!({"type": "TEARDOWN"}));
    assert_eq!(world.terminated, std::slice::from_ref(&container));
    world.exits(&container, SIGTERM);
    world.pass(10.0);
    assert!(world.model.agents()[0].containers.is_empty());
    assert_eq!(world.kills, []);
}
