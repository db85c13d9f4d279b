//! `overlord describe cluster`

use std::fmt::Write as _;

use jiff::Timestamp;
use overlord_api::{Cluster, EventLevel, Kind, Persistence, Shape, parse_revision, quantity};
use overlord_reconcile::{Clock as _, SystemClock};
use overlord_server::view::{ClusterView, EventView, InstanceView, ListView, TaskView};
use serde::Serialize;

use crate::{
    age,
    client::{Client, segment},
    client_settings::ServerArgs,
    commands::{
        get::{Columns, instance_table, note, task_table},
        shards::{ShardView, Wanted, order, shards},
    },
    failure::Failure,
    output,
    table::{Table, printable},
};

/// Tasks shown: the newest.
const TASKS: usize = 8;
/// Width of the first column of the head.
const KEY: usize = 14;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A cluster: spec, conditions, members with what happened to them, tasks, events
    #[command(alias = "clusters")]
    Cluster(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: String,

    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<PageFormat>,

    #[command(flatten)]
    server: ServerArgs,
}

/// `-o`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PageFormat {
    /// All of it as JSON.
    Json,
    /// All of it as YAML.
    Yaml,
}

/// All that is known of a cluster. Field names are interfaces.
#[derive(Debug, Serialize)]
struct Page {
    cluster: ClusterView,
    /// `redis_cluster` only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shards: Vec<ShardView>,
    instances: Vec<InstanceView>,
    tasks: Vec<TaskView>,
    events: Vec<EventView>,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let What::Cluster(which) = args.what;
    let client = Client::new(&which.server)?;
    let path = format!("/v1/clusters/{}", segment(&which.name));
    let cluster: ClusterView = client.get(&path).await?;
    let legal = overlord_api::ClusterName::new(which.name.as_str()).is_ok();
    // A badly named key has nothing below it.
    let (instances, events) = if legal {
        let instances: ListView<InstanceView> = client.get(&format!("{path}/instances")).await?;
        let events: ListView<EventView> = client.get(&format!("{path}/events")).await?;
        (instances.items, events.items)
    } else {
        (Vec::new(), Vec::new())
    };
    let tasks: ListView<TaskView> = client.get("/v1/tasks").await?;
    let of_cluster =
        |view: &TaskView| view.task.as_ref().is_some_and(|task| task.cluster.as_str() == which.name);
    let tasks = tasks.items.into_iter().filter(of_cluster).collect();
    let page = Page::new(cluster, instances, tasks, events);
    let text = match which.output {
        None => page.render(SystemClock::new().now()),
        Some(PageFormat::Json) => output::json(&page)?,
        Some(PageFormat::Yaml) => output::yaml(&page)?,
    };
    output::print(&text)
}

impl Page {
    fn new(
        cluster: ClusterView,
        mut instances: Vec<InstanceView>,
        mut tasks: Vec<TaskView>,
        mut events: Vec<EventView>,
    ) -> Self {
        instances.sort_by_key(order);
        tasks.sort_by_key(|view| std::cmp::Reverse(view.task.as_ref().and_then(|task| task.requested_at)));
        tasks.truncate(TASKS);
        events.sort_by_key(|view| view.event.as_ref().map(|event| event.last));
        let shards = match cluster.kind {
            Some(Kind::RedisCluster) => shards(&instances, wanted(&cluster)),
            Some(Kind::Redis | Kind::Memcache) | None => Vec::new(),
        };
        Self { cluster, shards, instances, tasks, events }
    }

    fn render(&self, now: Timestamp) -> String {
        let mut text = String::new();
        self.head(&mut text);
        self.spec(&mut text);
        self.conditions(&mut text, now);
        if self.shards.is_empty() {
            let table = instance_table(Columns::Few, now, &self.instances);
            section(&mut text, "Members", &table.without("CLUSTER"));
        } else {
            self.shards(&mut text, now);
        }
        self.messages(&mut text);
        section(&mut text, "Tasks", &task_table(Columns::Few, now, &self.tasks).without("CLUSTER"));
        self.events(&mut text, now);
        text
    }

    fn head(&self, text: &mut String) {
        let view = &self.cluster;
        line(text, "Name", &view.name);
        line(text, "Kind", &view.kind.map(|kind| kind.to_string()).unwrap_or_default());
        let Some(status) = &view.status else {
            line(text, "Phase", "unknown: no controller has looked at it yet");
            view.errors.iter().for_each(|error| line(text, "Error", error));
            return;
        };
        line(text, "Phase", &status.phase.to_string());
        // Values that cannot be read have lines of their own.
        let note = if view.errors.is_empty() { note(view) } else { String::new() };
        if !note.is_empty() {
            line(text, "Note", &note);
        }
        let seen = match view.config_revision {
            Some(revision) if revision > status.config_revision => " (a newer spec waits to be looked at)",
            Some(_) => "",
            None => " (the spec's key is gone)",
        };
        line(text, "Revision", &format!("{}{seen}", status.revision));
        let members =
            format!("{} wanted, {} ready, {} up to date", status.wanted, status.ready, status.updated);
        let outdated = match status.outdated {
            0 => String::new(),
            n => format!(
                ", {n} outdated (their executors were started with older settings; overlord task restart {} --outdated)",
                view.name
            ),
        };
        line(text, "Members", &(members + &outdated));
        if let Some(deletion) = view.record.as_ref().and_then(|record| record.deletion.as_ref()) {
            line(text, "Deletion", &format!("since {} by {}", deletion.at, deletion.by));
        }
        view.errors.iter().for_each(|error| line(text, "Error", error));
    }

    fn spec(&self, text: &mut String) {
        let Some(cluster) =
            self.cluster.manifest.as_deref().and_then(|manifest| parse_revision(manifest).ok())
        else {
            return;
        };
        text.push_str("\nSpec:\n");
        for (key, value) in summary(&cluster) {
            let _ = writeln!(text, "  {key:KEY$}{}", printable(&value));
        }
    }

    fn conditions(&self, text: &mut String, now: Timestamp) {
        let mut table = Table::new(&["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"]);
        for condition in self.cluster.status.iter().flat_map(|status| &status.conditions) {
            table.row([
                condition.kind.to_string(),
                condition.status.to_string(),
                condition.reason.clone(),
                age::since(condition.last_transition, now),
                condition.message.clone(),
            ]);
        }
        section(text, "Conditions", &table);
    }

    /// The members of a redis cluster, shard by shard, and what is odd about a shard below them all.
    fn shards(&self, text: &mut String, now: Timestamp) {
        let mut table = Table::new(&[
            "SHARD", "ROLE", "MEMBER", "STATE", "ADDRESS", "HOST", "RACK", "SLOTS", "LINK", "EPOCH",
            "RESTARTS", "SINCE", "MESSAGE",
        ]);
        let number = |shard: Option<u32>| shard.map(|shard| shard.to_string()).unwrap_or_default();
        let members = self.shards.iter().flat_map(|shard| {
            shard.members.iter().map(|member| (Some(shard.shard), Some(member), member.address))
        });
        // Values that cannot be read belong to no shard that is known.
        let listed = |address| {
            self.shards.iter().flat_map(|shard| &shard.members).any(|member| member.address == address)
        };
        let others = self.instances.iter().map(|view| view.address).filter(|address| !listed(*address));
        for (shard, member, address) in members.chain(others.map(|address| (None, None, address))) {
            let view = self.instances.iter().find(|view| view.address == address);
            let info = view.and_then(|view| view.info.as_ref());
            let role = member.and_then(|member| {
                let role = member.role.clone()?;
                Some(if member.current { role } else { format!("was {role}") })
            });
            table.row([
                number(shard),
                role.unwrap_or_default(),
                number(info.map(|info| info.member)),
                info.map(|info| info.observed.state.to_string()).unwrap_or_default(),
                address.to_string(),
                info.map(|info| info.host.clone()).unwrap_or_default(),
                info.and_then(|info| info.rack.clone()).unwrap_or_default(),
                member.and_then(|member| member.slots.clone()).unwrap_or_default(),
                member.and_then(|member| member.link.clone()).unwrap_or_default(),
                member.and_then(|member| member.epoch).map(|epoch| epoch.to_string()).unwrap_or_default(),
                info.map(|info| info.observed.restarts.to_string()).unwrap_or_default(),
                info.map(|info| age::since(info.observed.since, now)).unwrap_or_default(),
                info.map(|info| info.observed.message.clone())
                    .or_else(|| view.and_then(|view| view.error.clone()))
                    .unwrap_or_default(),
            ]);
        }
        section(text, "Shards", &table);
        for ShardView { shard, notes, .. } in &self.shards {
            for note in notes {
                let _ = writeln!(text, "  shard {shard}: {}", printable(note));
            }
        }
    }

    /// Long messages, whole and one below the other: what the engine said, the last lines of console.log.
    fn messages(&self, text: &mut String) {
        for view in &self.instances {
            let Some(info) = &view.info else { continue };
            if info.observed.message.contains('\n') {
                let _ = writeln!(text, "  member {} at {}:", info.member, view.address);
                for part in info.observed.message.lines() {
                    let _ = writeln!(text, "    {}", printable(part));
                }
            }
        }
    }

    fn events(&self, text: &mut String, now: Timestamp) {
        let mut table = Table::new(&["LAST", "FIRST", "COUNT", "LEVEL", "OBJECT", "REASON", "MESSAGE"]);
        for view in &self.events {
            if let Some(event) = &view.event {
                table.row([
                    age::since(event.last, now),
                    age::since(event.first, now),
                    event.count.to_string(),
                    match event.level {
                        EventLevel::Normal => "normal".to_owned(),
                        EventLevel::Warning => "warning".to_owned(),
                    },
                    event.object.clone(),
                    event.reason.clone(),
                    event.message.clone(),
                ]);
            } else {
                let mut cells = vec![String::new(); 6];
                cells.push(view.error.clone().unwrap_or_default());
                table.row(cells);
            }
        }
        section(text, "Events", &table);
    }
}

fn line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{:KEY$}{}", format!("{key}:"), printable(value));
}

fn section(text: &mut String, title: &str, table: &Table) {
    if table.is_empty() {
        let _ = writeln!(text, "\n{title}: none");
    } else {
        let _ = write!(text, "\n{title}:\n{}", table.indented(2));
    }
}

/// What the accepted spec of a redis cluster wants.
fn wanted(cluster: &ClusterView) -> Option<Wanted> {
    match parse_revision(cluster.manifest.as_deref()?).ok()?.spec.shape {
        Shape::RedisCluster { masters, replicas_per_master } => Some(Wanted { masters, replicas_per_master }),
        Shape::Redis { .. } | Shape::Memcache { .. } => None,
    }
}

/// The spec in a few lines; `overlord get cluster NAME -o yaml` has it whole.
fn summary(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let spec = &cluster.spec;
    let resources = format!(
        "{} cpu, {} memory, {} disk",
        quantity::print_cpu(spec.resources.cpu_millis),
        quantity::print_bytes(spec.resources.memory),
        quantity::print_bytes(spec.resources.disk)
    );
    let persistence = match spec.persistence {
        Persistence::None => "none",
        Persistence::Rdb => "rdb",
        Persistence::Aof => "aof",
    };
    let spread: Vec<String> = spec
        .placement
        .spread
        .iter()
        .map(|spread| format!("{} {:?}", spread.by.as_str(), spread.rule).to_lowercase())
        .collect();
    let config: Vec<String> = spec.config.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let size = match spec.shape {
        Shape::RedisCluster { masters, replicas_per_master } => {
            ("masters", format!("{masters}, replicas of each: {replicas_per_master}"))
        }
        Shape::Redis { .. } | Shape::Memcache { .. } => ("members", spec.shape.members().to_string()),
    };
    let mut lines = vec![
        ("version", spec.version.clone()),
        size,
        ("resources", resources),
        ("persistence", persistence.to_owned()),
    ];
    if !config.is_empty() {
        lines.push(("config", config.join(", ")));
    }
    if !spread.is_empty() {
        lines.push(("spread", spread.join(", ")));
    }
    if spec.deletion.protected {
        lines.push(("protected", "against deletion".to_owned()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use overlord_api::{Event, Phase, Status};

    use super::*;
    use crate::commands::shards::tests::view;

    #[test]
    fn a_page_has_every_section_even_when_there_is_nothing() {
        let cluster =
            ClusterView { name: "orders".into(), config_revision: Some(3), ..ClusterView::default() };
        let page = Page::new(cluster, Vec::new(), Vec::new(), Vec::new());
        let text = page.render(Timestamp::UNIX_EPOCH);
        assert!(text.contains("no controller has looked at it yet"), "{text}");
        for section in ["Conditions: none", "Members: none", "Tasks: none", "Events: none"] {
            assert!(text.contains(section), "{text}");
        }
    }

    #[test]
    fn events_are_shown_with_counts_and_ages_the_newest_last() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let event = |reason: &str, last| EventView {
            id: format!("member/0.{reason}"),
            event: Some(Event {
                version: overlord_api::VALUES_VERSION,
                object: "member/0".into(),
                reason: reason.into(),
                level: EventLevel::Warning,
                message: "exited".into(),
                count: 3,
                first: at(0),
                last: at(last),
            }),
            error: None,
        };
        let status = Status {
            version: 1,
            kind: Some(Kind::Redis),
            phase: Phase::Ready,
            revision: 2,
            config_revision: 3,
            conditions: Vec::new(),
            counts: std::collections::BTreeMap::new(),
            wanted: 1,
            ready: 1,
            updated: 1,
            outdated: 0,
            template: None,
        };
        let mut cluster = ClusterView {
            name: "orders".into(),
            config_revision: Some(4),
            status: Some(status),
            ..ClusterView::default()
        };
        let events = vec![event("Restarted", 90), event("Launched", 10)];
        let page = Page::new(cluster.clone(), Vec::new(), Vec::new(), events);
        let text = page.render(at(100));
        assert!(!text.contains("Note:"), "{text}");
        assert!(text.contains("2 (a newer spec waits to be looked at)"), "{text}");
        assert!(text.find("Launched").unwrap() < text.find("Restarted").unwrap(), "{text}");
        assert!(text.contains("10s    100s    3       warning"), "{text}");
        cluster.status.iter_mut().for_each(|status| status.phase = Phase::Creating);
        let page = Page::new(cluster, Vec::new(), Vec::new(), Vec::new());
        let text = page.render(at(100));
        assert!(
            text.contains("Phase:        Creating\nNote:         its status gives no reason\n"),
            "{text}"
        );
    }

    #[test]
    fn a_redis_cluster_is_shown_shard_by_shard_with_what_is_odd() {
        let cluster =
            ClusterView { name: "orders".into(), kind: Some(Kind::RedisCluster), ..ClusterView::default() };
        let unreadable = InstanceView {
            cluster: "orders".into(),
            address: "127.0.0.9:20009".parse().unwrap(),
            info: None,
            error: Some("cannot be read".into()),
        };
        let instances = vec![
            view(0, "unreachable", "master", 1, "5461:x"),
            view(1, "running", "master", 2, "5461:x"),
            view(3, "running", "slave", 1, ""),
            unreadable,
        ];
        let page = Page::new(cluster, instances, Vec::new(), Vec::new());
        let text = page.render(Timestamp::UNIX_EPOCH);
        let shown: Vec<String> = text
            .lines()
            .skip_while(|line| *line != "Shards:")
            .take_while(|line| !line.is_empty())
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            shown,
            [
                "Shards:",
                "SHARD ROLE MEMBER STATE ADDRESS HOST RACK SLOTS LINK EPOCH RESTARTS SINCE MESSAGE",
                "0 slave 3 running 127.0.0.1:20003 127.0.0.1 r1 - up 1 0 0s -",
                "0 was master 0 unreachable 127.0.0.1:20000 127.0.0.1 r1 5461 slots - 1 0 0s -",
                "1 master 1 running 127.0.0.1:20001 127.0.0.1 r1 5461 slots - 2 0 0s -",
                "- - - - 127.0.0.9:20009 - - - - - - - cannot be read",
                "shard 0: no master: nobody is known to serve 0-8191; the last one was member 0 (epoch 1), which is \
                 unreachable",
                "shard 1: member 1 (epoch 2) serves other slots than 8192-16383",
            ]
        );
        let json = output::json(&page).unwrap();
        for part in ["\"shards\": [", "\"cluster\": {", "\"instances\": [", "\"tasks\": []", "\"notes\": ["] {
            assert!(json.contains(part), "{part}: {json}");
        }
    }
}
