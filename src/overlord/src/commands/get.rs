//! `overlord get`

use jiff::Timestamp;
use overlord_api::Address;
use overlord_reconcile::{Clock as _, SystemClock};
use overlord_server::view::{ClusterView, ControllerView, InstanceView, ListView, TaskView, WatchLine};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::{Client, Refusal, segment},
    client_settings::ServerArgs,
    commands::shards::order,
    failure::Failure,
    output::{self, Format},
    table::Table,
};

mod rows;
pub(crate) use rows::{Columns, instance_table, note, task_table};
use rows::{cluster_table, controller_table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to list
    #[arg(value_name = "clusters|instances|tasks|controllers")]
    what: What,

    /// Only this one: a cluster's name; for instances a cluster's name or ip:port; for tasks and controllers an id
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Go on and print each change
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    #[value(alias = "cluster")]
    Clusters,
    #[value(alias = "instance")]
    Instances,
    #[value(alias = "task")]
    Tasks,
    #[value(alias = "controller")]
    Controllers,
}

/// An object that can be listed.
trait Listed: Serialize + DeserializeOwned {
    fn name(&self) -> String;
    fn table(columns: Columns, now: Timestamp, items: &[Self]) -> Table;
}

impl Listed for ClusterView {
    fn name(&self) -> String {
        format!("cluster/{}", self.name)
    }

    fn table(columns: Columns, _now: Timestamp, items: &[Self]) -> Table {
        cluster_table(columns, items)
    }
}

impl Listed for InstanceView {
    fn name(&self) -> String {
        format!("instance/{}", self.address)
    }

    fn table(columns: Columns, now: Timestamp, items: &[Self]) -> Table {
        instance_table(columns, now, items)
    }
}

impl Listed for TaskView {
    fn name(&self) -> String {
        format!("task/{}", self.id)
    }

    fn table(columns: Columns, now: Timestamp, items: &[Self]) -> Table {
        task_table(columns, now, items)
    }
}

impl Listed for ControllerView {
    fn name(&self) -> String {
        format!("controller/{}", self.id)
    }

    fn table(columns: Columns, now: Timestamp, items: &[Self]) -> Table {
        controller_table(columns, now, items)
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let name = args.name.as_deref();
    let format = args.output;
    match args.what {
        What::Clusters => match name {
            Some(name) => {
                let path = format!("/v1/clusters/{}", segment(name));
                if args.watch {
                    return follow::<ClusterView>(&client, &path, format, |_| true).await;
                }
                show_cluster(&client.get(&path).await?, format)
            }
            None if args.watch => follow::<ClusterView>(&client, "/v1/clusters", format, |_| true).await,
            None => show(&client.get::<ListView<ClusterView>>("/v1/clusters").await?.items, format),
        },
        What::Instances => {
            let address = name.and_then(|name| name.parse::<Address>().ok());
            let path = match (name, address) {
                (Some(cluster), None) => format!("/v1/clusters/{}/instances", segment(cluster)),
                _ => "/v1/instances".to_owned(),
            };
            let wanted = |view: &InstanceView| address.is_none_or(|address| view.address == address);
            if args.watch {
                return follow(&client, &path, format, wanted).await;
            }
            let mut items = client.get::<ListView<InstanceView>>(&path).await?.items;
            items.retain(wanted);
            items.sort_by_key(order);
            if let (Some(address), true) = (address, items.is_empty()) {
                return Err(Failure::failed(
                    format!("there is no instance {address}"),
                    "`overlord get instances`",
                ));
            }
            if let (Some(cluster), None, true) = (name, address, items.is_empty()) {
                // An unknown name is told from a cluster without instances.
                client.get::<ClusterView>(&format!("/v1/clusters/{}", segment(cluster))).await?;
            }
            show(&items, format)
        }
        What::Tasks => match name {
            Some(id) => {
                let path = format!("/v1/tasks/{}", segment(id));
                if args.watch {
                    return follow::<TaskView>(&client, &path, format, |_| true).await;
                }
                show_one(&client.get::<TaskView>(&path).await?, format)
            }
            None if args.watch => follow::<TaskView>(&client, "/v1/tasks", format, |_| true).await,
            None => show(&client.get::<ListView<TaskView>>("/v1/tasks").await?.items, format),
        },
        What::Controllers => controllers(&client, name, args.watch, format).await,
    }
}

async fn controllers(
    client: &Client,
    name: Option<&str>,
    watch: bool,
    format: Option<Format>,
) -> Result<(), Failure> {
    if watch {
        return Err(Failure::usage("controllers cannot be watched", "ask again now and then"));
    }
    let items = client.get::<ListView<ControllerView>>("/v1/controllers").await?.items;
    let Some(name) = name else { return show(&items, format) };
    match items.iter().find(|view| view.id == name) {
        Some(view) => show_one(view, format),
        None => {
            Err(Failure::failed(format!("there is no controller {name:?}"), "`overlord get controllers`"))
        }
    }
}

/// `-o yaml` of one cluster is its manifest with all defaults, so that it can be edited and applied.
fn show_cluster(view: &ClusterView, format: Option<Format>) -> Result<(), Failure> {
    if format != Some(Format::Yaml) {
        return show_one(view, format);
    }
    match (&view.manifest, &view.spec) {
        (Some(manifest), _) => output::print(manifest),
        (None, Some(spec)) => {
            anstream::eprintln!("nothing of it was accepted yet: this is the text as it was given");
            output::print(spec)
        }
        (None, None) => show_one(view, format),
    }
}

fn show_one<T: Listed>(view: &T, format: Option<Format>) -> Result<(), Failure> {
    match format {
        Some(Format::Json) => output::print(&output::json(view)?),
        Some(Format::Yaml) => output::print(&output::yaml(view)?),
        Some(Format::Name | Format::Wide) | None => show(std::slice::from_ref(view), format),
    }
}

fn show<T: Listed>(items: &[T], format: Option<Format>) -> Result<(), Failure> {
    let text = match format {
        Some(Format::Json) => output::json(&items)?,
        Some(Format::Yaml) => output::yaml(&items)?,
        Some(Format::Name) => items.iter().fold(String::new(), |text, item| text + &item.name() + "\n"),
        Some(Format::Wide) | None => {
            let table = T::table(Columns::of(format), SystemClock::new().now(), items);
            if table.is_empty() {
                anstream::eprintln!("there are none");
                return Ok(());
            }
            table.render()
        }
    };
    output::print(&text)
}

/// Prints what is there, then each object that changes, until interrupted.
async fn follow<T: Listed>(
    client: &Client,
    path: &str,
    format: Option<Format>,
    wanted: impl Fn(&T) -> bool,
) -> Result<(), Failure> {
    let clock = SystemClock::new();
    let mut watch = client.watch::<T>(path).await.map_err(refusal)?;
    let mut first: Option<Vec<T>> = Some(Vec::new());
    let mut widths = Vec::new();
    let mut seen = std::collections::BTreeMap::new();
    while let Some(line) = watch.next().await? {
        match line {
            WatchLine::Put { id, object } if wanted(&object) => {
                seen.insert(id, object.name());
                match &mut first {
                    Some(items) => items.push(object),
                    None => print_change(&object, format, clock.now(), &widths)?,
                }
            }
            WatchLine::Synced => {
                if let Some(items) = first.take() {
                    widths = print_first(&items, format, clock.now())?;
                }
            }
            WatchLine::Delete { id } => {
                if let Some(name) = seen.remove(&id) {
                    anstream::eprintln!("{name} is gone");
                }
            }
            WatchLine::Stale { message } => anstream::eprintln!("what is shown may be old: {message}"),
            WatchLine::Put { .. } | WatchLine::Heartbeat => {}
        }
    }
    Err(Failure::failed("the controller ended the watch", "it is shutting down; start the watch again"))
}

fn refusal(refusal: Refusal) -> Failure {
    refusal.into()
}

/// Gives the widths of the table's columns, for the rows to come.
fn print_first<T: Listed>(
    items: &[T],
    format: Option<Format>,
    now: Timestamp,
) -> Result<Vec<usize>, Failure> {
    if matches!(format, None | Some(Format::Wide)) {
        let table = T::table(Columns::of(format), now, items);
        output::print(&table.render())?;
        return Ok(table.widths());
    }
    items.iter().try_for_each(|item| print_change(item, format, now, &[]))?;
    Ok(Vec::new())
}

fn print_change<T: Listed>(
    item: &T,
    format: Option<Format>,
    now: Timestamp,
    widths: &[usize],
) -> Result<(), Failure> {
    let text = match format {
        // One object a line, for programs that read as it comes.
        Some(Format::Json) => {
            serde_json::to_string(item).map_err(|error| Failure::failed(format!("no JSON: {error}"), ""))?
                + "\n"
        }
        Some(Format::Yaml) => format!("---\n{}", output::yaml(item)?),
        Some(Format::Name) => item.name() + "\n",
        Some(Format::Wide) | None => {
            let mut table = T::table(Columns::of(format), now, std::slice::from_ref(item));
            table.align(widths);
            table.render_rows()
        }
    };
    output::print(&text)
}
