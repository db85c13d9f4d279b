//! Capture 18, and the end of 09.

use super::*;

/// The answer to a task in an ACCEPT of an agent's whole offer.
fn answer(change: impl FnOnce(&mut TaskInfo)) -> TaskStatus {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    let mut task = task("t", &agent);
    change(&mut task);
    assert_eq!(world.accept(&scheduler, &[offer], vec![task]), Answer::Accepted);
    world.statuses(&scheduler).remove(0)
}

#[test]
fn a_bad_task_is_answered_by_task_error_without_uuid() {
    let whole = "ports(allocated: *):[20000-29999]; cpus(allocated: *):8; mem(allocated: *):8192; disk(allocated: *):20000";
    let cases: Vec<(TaskStatus, String)> = vec![
        (answer(|task| task.resources.clear()), "Task uses no resources".to_owned()),
        (
            answer(|task| task.executor = None),
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present".to_owned(),
        ),
        (
            answer(|task| task.command = Some(CommandInfo::default())),
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present".to_owned(),
        ),
        (answer(|task| task.task_id = TaskId::new("a/b")), "'a/b' contains invalid characters".to_owned()),
        (answer(|task| task.task_id = TaskId::new("")), "ID must not be empty".to_owned()),
        (
            answer(|task| task.executor.as_mut().unwrap().command = None),
            "'ExecutorInfo.command' must be set".to_owned(),
        ),
        (
            answer(|task| task.resources = resources(-1.0, 64.0)),
            "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0".to_owned(),
        ),
        (
            answer(|task| {
                task.resources = resources(0.1, 32.0);
                task.executor.as_mut().unwrap().resources.clear();
                task.resources.push(Resource::ranges("ports", &[(10, 11)]));
            }),
            format!(
                "Total resources cpus(allocated: *):0.1; mem(allocated: *):32; ports(allocated: *):[10-11] required by \
                 task and its executor is more than available {whole}"
            ),
        ),
    ];
    for (status, text) in cases {
        assert_eq!(brief(&status), (TaskState::Error, "REASON_TASK_INVALID", text.as_str(), false));
        assert_eq!(status.source, Some(Source::Master));
    }
}

#[test]
fn a_task_for_another_agent_or_of_another_framework_is_an_error() {
    let status = answer(|task| task.agent_id = AgentId::new("nope"));
    let text = status.message.unwrap();
    assert!(
        text.starts_with("Task uses invalid agent nope while agent ") && text.ends_with("-S0 is expected"),
        "{text}"
    );
    let status = answer(|task| task.executor.as_mut().unwrap().framework_id = Some(FrameworkId::new("nope")));
    let text = status.message.unwrap();
    assert!(
        text.starts_with("ExecutorInfo has an invalid FrameworkID (Actual: nope vs Expected: "),
        "{text}"
    );
}

#[test]
fn a_duplicate_id_is_an_error_for_the_id_of_the_task_that_runs_on() {
    let mut world = World::new(2);
    let scheduler = world.subscribe();
    let offers = world.offers(&scheduler);
    world.accept(&scheduler, &[offers[0].0.clone()], vec![task("t", &offers[0].1)]);
    world.accept(&scheduler, &[offers[1].0.clone()], vec![task("t", &offers[1].1)]);
    let statuses = world.statuses(&scheduler);
    assert_eq!(
        brief(&statuses[0]),
        (TaskState::Error, "REASON_TASK_INVALID", "Task has duplicate ID: t", false)
    );
    assert_eq!(world.model.tasks()[0].agent_id, offers[0].1);
}

#[test]
fn bad_offers_drop_every_task_and_good_ones_among_them_come_back() {
    let mut world = World::new(2);
    let scheduler = world.subscribe();
    let offers = world.offers(&scheduler);
    let ids: Vec<OfferId> = offers.iter().map(|(id, _)| id.clone()).collect();
    let dropped = |world: &mut World, ids: &[OfferId]| {
        world.accept(&scheduler, ids, vec![task("t", &offers[0].1)]);
        let status = world.statuses(&scheduler).remove(0);
        assert_eq!(
            (status.state, status.reason.as_deref()),
            (TaskState::Dropped, Some("REASON_INVALID_OFFERS"))
        );
        status.message.unwrap()
    };
    let invalid = "Task launched with invalid offers: ";
    assert_eq!(dropped(&mut world, &[]), format!("{invalid}No offers specified"));
    let unknown = OfferId::new("no-such-offer");
    assert_eq!(dropped(&mut world, &[unknown]), format!("{invalid}Offer no-such-offer is no longer valid"));
    let text = dropped(&mut world, &ids);
    assert_eq!(
        text,
        format!(
            "{invalid}Aggregated offers must belong to one single agent. Offer {} uses agent {} and agent {}",
            ids[1], offers[1].1, offers[0].1
        )
    );
    world.pass(1.0);
    let again = world.offers(&scheduler);
    assert_eq!(again.len(), 2);
    let doubled = [again[0].0.clone(), again[0].0.clone()];
    let text = dropped(&mut world, &doubled);
    assert_eq!(text, format!("{invalid}Duplicate offer {} in offer list", again[0].0));
}

#[test]
fn one_bad_task_does_not_hurt_the_others() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    let mut large = task("large", &agent);
    large.resources = resources(1000.0, 64.0);
    world.accept(&scheduler, &[offer], vec![task("good", &agent), large]);
    let statuses = world.statuses(&scheduler);
    assert_eq!((statuses.len(), statuses[0].task_id.as_str()), (1, "large"));
    assert_eq!(world.starts.len(), 1);
}

#[test]
fn another_executor_info_with_a_known_id_is_an_error() {
    let mut world = World::new(1);
    let scheduler = world.subscribe();
    let (offer, agent) = world.offers(&scheduler).remove(0);
    world.accept(&scheduler, &[offer], vec![task("t", &agent)]);
    let launch = |world: &mut World, value: &str| {
        world.pass(1.0);
        let (offer, agent) = world.offers(&scheduler).remove(0);
        let mut second = task("t", &agent);
        second.task_id = TaskId::new(value);
        second.executor.as_mut().unwrap().command.as_mut().unwrap().value = Some(value.to_owned());
        world.accept(&scheduler, &[offer], vec![second]);
        world.statuses(&scheduler)
    };
    let statuses = launch(&mut world, "other");
    let text = statuses[0].message.as_deref().unwrap();
    assert!(
        text.starts_with("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n"),
        "{text}"
    );
    assert!(launch(&mut world, "run").is_empty());
    assert_eq!((world.starts.len(), world.model.tasks().len()), (1, 2));
}
