//! The columns of listings.

use jiff::Timestamp;
use overlord_api::{Condition, ConditionType, Phase, Status, Truth};
use overlord_server::view::{ClusterView, ControllerView, InstanceView, TaskView};

use crate::{age, commands::shards::slot_count, output::Format, table::Table};

/// How many columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    Few,
    All,
}

impl Columns {
    pub(crate) fn of(format: Option<Format>) -> Self {
        if format == Some(Format::Wide) { Self::All } else { Self::Few }
    }
}

fn headings(columns: Columns, few: &[&'static str], more: &[&'static str]) -> Table {
    match columns {
        Columns::Few => Table::new(few),
        Columns::All => Table::new(&[few, more].concat()),
    }
}

fn wide(columns: Columns, mut few: Vec<String>, more: impl FnOnce() -> Vec<String>) -> Vec<String> {
    if columns == Columns::All {
        few.extend(more());
    }
    few
}

/// What is wrong with a cluster, the gravest first. The first [`GRAVE`] stand beside whatever else is told.
const TROUBLES: [ConditionType; 7] = [
    ConditionType::Accepted,
    ConditionType::DataLost,
    ConditionType::QuorumLost,
    ConditionType::SpecMissing,
    ConditionType::Unplaceable,
    ConditionType::Degraded,
    ConditionType::Stale,
];

const GRAVE: usize = 3;

/// The first of these conditions that is wrong.
fn trouble<'a>(status: &'a Status, of: &[ConditionType]) -> Option<&'a Condition> {
    let bad = |condition: &&Condition| match condition.kind {
        ConditionType::Accepted => condition.status == Truth::False,
        ConditionType::Degraded
        | ConditionType::Unplaceable
        | ConditionType::QuorumLost
        | ConditionType::DataLost
        | ConditionType::SpecMissing
        | ConditionType::Stale => condition.status == Truth::True,
        ConditionType::Ready | ConditionType::Progressing => false,
    };
    of.iter().find_map(|kind| status.condition(*kind).filter(bad))
}

/// What a person should read first. Every phase but Ready has a reason.
pub(crate) fn note(view: &ClusterView) -> String {
    if let Some(error) = view.errors.first() {
        return error.clone();
    }
    let Some(status) = &view.status else { return "no controller has looked at it yet".to_owned() };
    let wrong = |of| trouble(status, of).map(|c| format!("{}: {}", c.kind, c.message));
    let progressing = status.condition(ConditionType::Progressing);
    // Here the phase itself is what a person must know about, or has asked for.
    if let (Phase::Paused | Phase::Deleting | Phase::Deleted, Some(why)) = (status.phase, progressing) {
        let grave = wrong(&TROUBLES[..GRAVE]).map(|wrong| format!("{wrong}; ")).unwrap_or_default();
        return format!("{grave}{}: {}", why.reason, why.message);
    }
    if let Some(wrong) = wrong(&TROUBLES) {
        return wrong;
    }
    if let Some(doing) = progressing.filter(|condition| condition.status == Truth::True) {
        return doing.message.clone();
    }
    if status.phase == Phase::Ready {
        return String::new();
    }
    // What holds back a cluster without trouble and without progress.
    let missing = status.condition(ConditionType::Ready).filter(|condition| condition.status != Truth::True);
    match missing.or(progressing) {
        Some(condition) => condition.message.clone(),
        None if status.phase == Phase::Pending => "no spec of it has been accepted yet".to_owned(),
        None => "its status gives no reason".to_owned(),
    }
}

pub(crate) fn cluster_table(columns: Columns, items: &[ClusterView]) -> Table {
    let few = ["NAME", "KIND", "PHASE", "READY", "UPDATED", "NOTE"];
    let mut table = headings(columns, &few, &["REVISION", "CONFIG-REVISION", "UID"]);
    for view in items {
        let status = view.status.as_ref();
        let of = |count: fn(&Status) -> u32| {
            status.map(|s| format!("{}/{}", count(s), s.wanted)).unwrap_or_default()
        };
        let cells = vec![
            view.name.clone(),
            view.kind.map(|kind| kind.to_string()).unwrap_or_default(),
            status.map(|status| status.phase.to_string()).unwrap_or_default(),
            of(|status| status.ready),
            of(|status| status.updated),
            note(view),
        ];
        table.row(wide(columns, cells, || {
            vec![
                status.map(|status| status.revision.to_string()).unwrap_or_default(),
                view.config_revision.map(|revision| revision.to_string()).unwrap_or_default(),
                view.record.as_ref().map(|record| record.uid.clone()).unwrap_or_default(),
            ]
        }));
    }
    table
}

pub(crate) fn instance_table(columns: Columns, now: Timestamp, items: &[InstanceView]) -> Table {
    let few = ["CLUSTER", "MEMBER", "ADDRESS", "STATE", "ROLE", "RACK", "RESTARTS", "SINCE", "MESSAGE"];
    let more = [
        "ALIAS",
        "WEIGHT",
        "VERSION",
        "INCARNATION",
        "CONFIG",
        "PID",
        "AGENT",
        "MESOS-TASK",
        "HOST",
        "SHARD",
        "SLOTS",
        "LINK",
        "EPOCH",
        "NODE-ID",
        "TEMPLATE",
    ];
    let mut table = headings(columns, &few, &more);
    for view in items {
        let Some(info) = &view.info else {
            let mut cells =
                vec![String::new(); few.len() + if columns == Columns::All { more.len() } else { 0 }];
            cells[0].clone_from(&view.cluster);
            cells[2] = view.address.to_string();
            cells[8] = view.error.clone().unwrap_or_default();
            table.row(cells);
            continue;
        };
        let observed = &info.observed;
        let cells = vec![
            view.cluster.clone(),
            info.member.to_string(),
            view.address.to_string(),
            observed.state.to_string(),
            observed.role.clone().unwrap_or_default(),
            info.rack.clone().unwrap_or_default(),
            observed.restarts.to_string(),
            age::since(observed.since, now),
            observed.message.clone(),
        ];
        table.row(wide(columns, cells, || {
            let config = if observed.config == info.desired.config {
                observed.config.to_string()
            } else {
                format!("{} of {}", observed.config, info.desired.config)
            };
            vec![
                info.alias.clone(),
                info.weight.to_string(),
                info.engine_version.clone(),
                info.incarnation.to_string(),
                config,
                observed.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                info.agent_id.clone(),
                info.mesos_task_id.clone(),
                info.host.clone(),
                info.shard.map(|shard| shard.to_string()).unwrap_or_default(),
                observed.slots.as_deref().map(slot_count).unwrap_or_default(),
                observed.link.clone().unwrap_or_default(),
                observed.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
                info.node_id.clone().unwrap_or_default(),
                info.template.clone().unwrap_or_default(),
            ]
        }));
    }
    table
}

pub(crate) fn task_table(columns: Columns, now: Timestamp, items: &[TaskView]) -> Table {
    let few = ["ID", "KIND", "CLUSTER", "STATE", "RUNNING", "AGE", "NOTE"];
    let mut table = headings(columns, &few, &["REVISION", "DESIRED", "REQUESTED-BY"]);
    for view in items {
        let task = view.task.as_ref();
        let status = view.status.as_ref();
        let begun =
            task.and_then(|task| task.requested_at).or_else(|| status.and_then(|status| status.started_at));
        let doing = || status.and_then(|s| s.phases.iter().find_map(|phase| phase.steps.first()).cloned());
        let note = view.errors.first().cloned().or_else(|| {
            status.map(|status| status.error.clone()).filter(|error| !error.is_empty()).or_else(doing)
        });
        let cells = vec![
            view.id.clone(),
            task.map(|task| task.kind.to_string()).unwrap_or_default(),
            task.map(|task| task.cluster.to_string()).unwrap_or_default(),
            status.map(|status| status.state.to_string()).unwrap_or_default(),
            status.map(|status| format!("{}/{}", status.running, status.wanted)).unwrap_or_default(),
            begun.map(|begun| age::since(begun, now)).unwrap_or_default(),
            note.unwrap_or_default(),
        ];
        table.row(wide(columns, cells, || {
            vec![
                status.map(|status| status.revision.to_string()).unwrap_or_default(),
                task.map(|task| format!("{:?}", task.desired).to_lowercase()).unwrap_or_default(),
                task.map(|task| task.requested_by.clone()).unwrap_or_default(),
            ]
        }));
    }
    table
}

pub(crate) fn controller_table(columns: Columns, now: Timestamp, items: &[ControllerView]) -> Table {
    let few = ["ID", "ROLE", "API", "VERSION", "AGE", "NOTE"];
    let mut table = headings(columns, &few, &["EPOCH", "SINCE"]);
    for view in items {
        let unlisted = || view.since.is_none().then(|| "it has not said yet that it runs".to_owned());
        let cells = vec![
            view.id.clone(),
            view.role.to_string(),
            view.api.clone().unwrap_or_default(),
            view.program.clone().unwrap_or_default(),
            view.since.map(|since| age::since(since, now)).unwrap_or_default(),
            view.error.clone().or_else(unlisted).unwrap_or_default(),
        ];
        table.row(wide(columns, cells, || {
            vec![
                view.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
                view.since.map(|since| since.to_string()).unwrap_or_default(),
            ]
        }));
    }
    table
}

#[cfg(test)]
mod tests {
    use overlord_api::Kind;

    use super::*;

    fn condition(kind: ConditionType, status: Truth, message: &str) -> Condition {
        Condition {
            kind,
            status,
            reason: "Because".into(),
            message: message.into(),
            last_transition: Timestamp::UNIX_EPOCH,
            observed_revision: 1,
        }
    }

    fn status(conditions: Vec<Condition>) -> Status {
        Status {
            version: 1,
            kind: Some(Kind::Redis),
            phase: Phase::Creating,
            revision: 1,
            config_revision: 7,
            conditions,
            counts: std::collections::BTreeMap::new(),
            wanted: 3,
            ready: 2,
            updated: 1,
            outdated: 0,
            template: None,
        }
    }

    #[test]
    fn the_gravest_trouble_is_noted() {
        let view = ClusterView {
            name: "orders".into(),
            kind: Some(Kind::Redis),
            status: Some(status(vec![
                condition(ConditionType::Degraded, Truth::True, "one is down"),
                condition(ConditionType::Unplaceable, Truth::True, "mem 2 agents"),
            ])),
            ..ClusterView::default()
        };
        let text = cluster_table(Columns::Few, &[view]).render();
        let expected = "NAME     KIND    PHASE      READY   UPDATED   NOTE\n\
                        orders   redis   Creating   2/3     1/3       Unplaceable: mem 2 agents\n";
        assert_eq!(text, expected);
    }

    fn noted(phase: Phase, conditions: &[(ConditionType, Truth, &str)]) -> String {
        let conditions = conditions.iter().map(|(kind, status, message)| condition(*kind, *status, message));
        let status = Status { phase, ..status(conditions.collect()) };
        note(&ClusterView { status: Some(status), ..ClusterView::default() })
    }

    #[test]
    fn a_paused_cluster_says_what_it_waits_for() {
        use ConditionType::{Accepted, Degraded, Progressing};
        let paused = (Progressing, Truth::False, "1 of 3 runs revision 2");
        let degraded = (Degraded, Truth::True, "one is down");
        assert_eq!(noted(Phase::Paused, &[paused]), "Because: 1 of 3 runs revision 2");
        assert_eq!(noted(Phase::Paused, &[paused, degraded]), "Because: 1 of 3 runs revision 2");
        let refused = (Accepted, Truth::False, "line 3");
        assert_eq!(
            noted(Phase::Paused, &[refused, paused, degraded]),
            "Accepted: line 3; Because: 1 of 3 runs revision 2"
        );
    }

    #[test]
    fn every_phase_but_ready_has_a_reason() {
        use ConditionType::{Degraded, Progressing, Ready, Unplaceable};
        let all = [
            Phase::Pending,
            Phase::Creating,
            Phase::Updating,
            Phase::Degraded,
            Phase::Paused,
            Phase::Deleting,
            Phase::Deleted,
        ];
        let missing = (Ready, Truth::False, "1 of 2 members serve");
        let idle = (Progressing, Truth::False, "nothing is left to do");
        for phase in all {
            assert_ne!(noted(phase, &[]), "", "{phase}");
            assert_ne!(noted(phase, &[idle]), "", "{phase}");
            assert_ne!(noted(phase, &[missing]), "", "{phase}");
        }
        assert_eq!(noted(Phase::Degraded, &[missing, idle]), "1 of 2 members serve");
        let working = (Progressing, Truth::True, "launching member 1");
        assert_eq!(noted(Phase::Creating, &[missing, working]), "launching member 1");
        let unplaceable = (Unplaceable, Truth::True, "mem 2 agents");
        for phase in [Phase::Creating, Phase::Updating, Phase::Degraded] {
            let degraded = (Degraded, Truth::True, "one is down");
            assert_eq!(noted(phase, &[missing, working, degraded, unplaceable]), "Unplaceable: mem 2 agents");
        }
        let deletion = (Progressing, Truth::True, "deletion by task x");
        assert_eq!(noted(Phase::Deleting, &[missing, deletion, unplaceable]), "Because: deletion by task x");
        assert_eq!(noted(Phase::Ready, &[(Ready, Truth::True, "2 of 2 members serve"), idle]), "");
    }

    #[test]
    fn a_value_that_cannot_be_read_has_a_row_too() {
        let view = InstanceView {
            cluster: "orders".into(),
            address: "127.0.0.1:20000".parse().unwrap(),
            info: None,
            error: Some("/overlord/…/info: bad".into()),
        };
        for columns in [Columns::Few, Columns::All] {
            let text = instance_table(columns, Timestamp::UNIX_EPOCH, std::slice::from_ref(&view)).render();
            assert!(text.contains("127.0.0.1:20000") && text.contains("bad"), "{text}");
        }
        let text = instance_table(
            Columns::All,
            Timestamp::UNIX_EPOCH,
            &[crate::commands::shards::tests::view(4, "running", "slave", 7, "")],
        )
        .render();
        assert!(text.contains("up     7       000000"), "{text}");
        let text =
            cluster_table(Columns::All, &[ClusterView { name: "Bad Name".into(), ..ClusterView::default() }]);
        assert!(text.render().contains("no controller has looked at it yet"));
    }
}
