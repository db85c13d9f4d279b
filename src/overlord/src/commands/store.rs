//! `overlord store`: whether the controllers believe etcd, and the word of a person that they shall. An etcd that was
//! restored from an older backup of its own has forgotten what came after it, and only a person knows what that was.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
};

use clap::ValueEnum;
use overlord_api::StoreWentBack;
use overlord_server::view::{StoreAccept, StoreView};

use crate::{client::Client, client_settings::ServerArgs, failure::Failure, output};

/// Clusters named in a line.
const NAMED: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Tell how far etcd is, and whether it is older than it was
    Status(Status),
    /// Go on with an etcd that is older than it was: what it has forgotten is lost
    Accept(Accept),
}

#[derive(Debug, clap::Args)]
struct Status {
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    #[command(flatten)]
    server: ServerArgs,
}

/// `-o`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON, as the API gives it
    Json,
}

#[derive(Debug, clap::Args)]
struct Accept {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::Status(args) => {
            let view: StoreView = Client::new(&args.server)?.get("/v1/store").await?;
            output::print(&match args.output {
                Some(Format::Json) => output::json(&view)?,
                None => status(&view),
            })
        }
        What::Accept(args) => {
            let client = Client::new(&args.server)?;
            let view: StoreView = client.get("/v1/store").await?;
            let (Some(back), Some(generation)) = (view.went_back, view.next_generation) else {
                return Err(Failure::failed(
                    "the controllers believe etcd as it is: there is nothing to accept",
                    "`overlord store status` shows it",
                ));
            };
            output::print(&prospect(&view, back, generation))?;
            if !args.yes {
                confirm(generation)?;
            }
            let accepted = client.accept_store(StoreAccept { generation }).await?;
            output::print(&format!(
                "etcd is accepted as generation {}; nothing is launched before mesos has told what runs\n",
                accepted.generation
            ))
        }
    }
}

fn status(view: &StoreView) -> String {
    let mut text = format!("etcd is at {}.{} (generation.revision)", view.generation, view.revision);
    // Writing to a string does not fail.
    let _ = match view.went_back {
        None => writeln!(text, ", and the controllers believe it"),
        Some(_) if view.next_generation.is_some_and(|next| view.generation >= next) => {
            writeln!(text, ", and was accepted: the controllers go on in a moment")
        }
        Some(back) => writeln!(text, "\n{}\naccept it with `overlord store accept`", seen(back)),
    };
    text
}

fn seen(StoreWentBack { known, found }: StoreWentBack) -> String {
    format!(
        "it was seen at {known}, and that is no part of its past since it was found at {found}: it was restored from an \
         older backup, or is another etcd\nwhat runs goes on; nothing is launched, changed or removed until it is accepted"
    )
}

/// What is found, and what comes of accepting it.
fn prospect(view: &StoreView, back: StoreWentBack, generation: u64) -> String {
    let mut text =
        format!("etcd is at {}.{} (generation.revision)\n{}\n", view.generation, view.revision, seen(back));
    let _ = writeln!(text, "\nIf you accept it, as generation {generation}:");
    let _ =
        writeln!(text, "- the specs in it count as they are now: {}", named(&view.declared, "there is none"));
    if !view.undeclared.is_empty() {
        let _ = writeln!(
            text,
            "- clusters that it records and has no spec of are deleted unless they are protected: {}",
            named(&view.undeclared, "none")
        );
    }
    text.push_str(
        "- what was declared, changed or asked for after the backup is forgotten: put those specs right first\n\
         - instances that run and are not recorded are found again where their cluster is recorded; the others are left \
         alone and named (UnknownTask)\n",
    );
    text
}

fn named(clusters: &[String], none: &str) -> String {
    match clusters.len() {
        0 => none.to_owned(),
        n if n > NAMED => format!("{} and {} more", clusters[..NAMED].join(", "), n - NAMED),
        _ => clusters.join(", "),
    }
}

fn confirm(generation: u64) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask whether to accept it", "add --yes"));
    }
    anstream::eprint!("\nAccept it? Type {generation}: ");
    let mut answer = String::new();
    std::io::stderr()
        .flush()
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::io("the terminal", &error))?;
    if answer.trim() == generation.to_string() {
        Ok(())
    } else {
        Err(Failure::failed("nothing was accepted", ""))
    }
}

#[cfg(test)]
mod tests {
    use overlord_api::StoreMark;

    use super::*;

    fn view(went_back: bool) -> StoreView {
        let mark = |revision| StoreMark { generation: 0, revision };
        let went_back = went_back.then(|| StoreWentBack { known: mark(900), found: mark(70) });
        StoreView {
            generation: 0,
            revision: 80,
            went_back,
            next_generation: went_back.map(|_| 1),
            declared: vec!["orders".to_owned()],
            undeclared: (0..10).map(|n| format!("c{n}")).collect(),
        }
    }

    #[test]
    fn what_is_found_and_what_comes_of_it_is_said_before_anything_is_accepted() {
        let view = view(true);
        let text = prospect(&view, view.went_back.unwrap(), 1);
        for part in
            ["at 0.80", "seen at 0.900", "found at 0.70", "generation 1", "now: orders", "c7 and 2 more"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_status_says_whether_a_person_is_needed() {
        assert_eq!(
            status(&view(false)),
            "etcd is at 0.80 (generation.revision), and the controllers believe it\n"
        );
        assert!(status(&view(true)).contains("overlord store accept"));
        let accepted = StoreView { generation: 1, ..view(true) };
        assert!(status(&accepted).contains("was accepted"));
    }
}
