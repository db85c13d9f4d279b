//! Capture 05: health checks and checks.

use overlord_mesos::v1::{CheckInfo, CheckType, CommandCheck, HealthCheck, HealthCheckType};

use super::*;
use crate::model::{ProbeOutcome, ProbeUse};

fn health(failures: u32) -> HealthCheck {
    HealthCheck {
        kind: HealthCheckType::Command,
        delay_seconds: Some(0.0),
        interval_seconds: Some(1.0),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(failures),
        command: Some(CommandInfo { value: Some("true".to_owned()), ..CommandInfo::default() }),
        ..HealthCheck::default()
    }
}

fn see(world: &mut World, container: &ContainerId, which: ProbeUse, outcome: ProbeOutcome) {
    assert_eq!(world.probes.len(), 1, "one look at a time");
    assert_eq!((&world.probes[0].container, world.probes[0].which), (container, which));
    world.probes.clear();
    world.step(Input::Probed { container: container.clone(), which, outcome });
}

#[test]
fn only_a_change_to_healthy_is_told() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |task| task.health_check = Some(health(3)));
    world.drain(&scheduler);
    world.pass(0.01);
    see(&mut world, &container, ProbeUse::Health, ProbeOutcome::ExitCode(0));
    let statuses = world.drain(&scheduler);
    assert_eq!(
        brief(&statuses[0]),
        (TaskState::Running, "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED", "", true)
    );
    assert_eq!(statuses[0].healthy, Some(true));
    for _ in 0..3 {
        world.pass(1.01);
        see(&mut world, &container, ProbeUse::Health, ProbeOutcome::ExitCode(0));
        assert_eq!(world.drain(&scheduler), []);
    }
}

#[test]
fn so_many_failures_in_a_row_kill_the_task() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |task| task.health_check = Some(health(2)));
    world.drain(&scheduler);
    world.pass(0.01);
    see(&mut world, &container, ProbeUse::Health, ProbeOutcome::ExitCode(1));
    assert_eq!(world.drain(&scheduler)[0].healthy, Some(false));
    assert_eq!(world.terminated, []);
    world.pass(1.01);
    see(&mut world, &container, ProbeUse::Health, ProbeOutcome::Silent);
    assert_eq!(world.drain(&scheduler)[0].healthy, Some(false));
    assert_eq!(world.terminated, std::slice::from_ref(&container));
    world.exits(&container, 15);
    let statuses = world.drain(&scheduler);
    let text = "Command terminated with signal Terminated";
    assert_eq!(brief(&statuses[0]), (TaskState::Killed, "", text, true));
    assert_eq!(statuses[0].healthy, Some(false));
    world.pass(5.0);
    assert!(world.probes.is_empty());
}

#[test]
fn failures_within_the_grace_period_do_not_count() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let check = HealthCheck { grace_period_seconds: Some(10.0), ..health(1) };
    let container = world.run_command(&scheduler, |task| task.health_check = Some(check));
    world.drain(&scheduler);
    world.pass(0.01);
    for _ in 0..5 {
        see(&mut world, &container, ProbeUse::Health, ProbeOutcome::ExitCode(1));
        assert_eq!(world.drain(&scheduler), []);
        world.pass(1.01);
    }
    world.pass(6.0);
    see(&mut world, &container, ProbeUse::Health, ProbeOutcome::ExitCode(1));
    assert_eq!(world.terminated, [container]);
}

#[test]
fn a_check_is_in_every_status_and_told_when_it_changes() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let container = world.run_command(&scheduler, |task| {
        let command = CommandInfo { value: Some("exit 2".to_owned()), ..CommandInfo::default() };
        task.check = Some(CheckInfo {
            kind: CheckType::Command,
            delay_seconds: Some(0.0),
            interval_seconds: Some(1.0),
            command: Some(CommandCheck { command }),
            ..CheckInfo::default()
        });
    });
    let shape = |status: &TaskStatus| serde_json::to_value(&status.check_status).unwrap();
    let empty = json!({"type": "COMMAND", "command": {}});
    let statuses = world.drain(&scheduler);
    assert_eq!(statuses.iter().map(shape).collect::<Vec<_>>(), [empty.clone(), empty.clone()]);
    world.pass(0.01);
    see(&mut world, &container, ProbeUse::Check, ProbeOutcome::ExitCode(2));
    let statuses = world.drain(&scheduler);
    assert_eq!(brief(&statuses[0]), (TaskState::Running, "REASON_TASK_CHECK_STATUS_UPDATED", "", true));
    assert_eq!(shape(&statuses[0]), json!({"type": "COMMAND", "command": {"exit_code": 2}}));
    world.pass(1.01);
    see(&mut world, &container, ProbeUse::Check, ProbeOutcome::ExitCode(2));
    assert_eq!(world.drain(&scheduler), []);
    world.exits(&container, 0);
    assert_eq!(shape(&world.drain(&scheduler)[0]), empty);
}
