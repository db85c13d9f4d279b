//! The benchmark: this system beside plain processes started by hand, on the same machine, in the same run.
//!
//! Nothing here is asserted: numbers depend on the machine and on what else it does. The table shows
//! medians, the floor beside ours, and the targets, for people to judge.

mod cluster;
mod create;
mod crowd;
mod floor;
mod history;
mod kill;
mod mesos;
mod options;
mod proc;
mod report;
mod sandbox;
mod serving;
mod specs;
mod stages;
mod stats;

use std::{error::Error, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use self::{
    options::{Asked, Options, Section},
    report::Report,
    specs::Setup,
};

/// What went wrong, in words for whoever ran it.
type Failure = Box<dyn Error + Send + Sync>;

/// What shells say of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, agents] = words.as_slice()
        && word == mesos::STUB
    {
        return outcome(mesos::stub(agents));
    }
    let options = match Options::parse(words) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("bench: {message}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    // One thread: the machine's cores are for what is measured.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Whatever is dropped in here, by an error, a signal or a panic, ends its processes and removes its files.
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupted() => None,
            outcome = run(&options) => Some(outcome),
        }
    });
    ended.map_or(ExitCode::from(INTERRUPTED), outcome)
}

fn outcome(ended: Result<(), Failure>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, or a polite kill.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let setup = Setup::find(options)?;
    let mut report = Report::new(&setup);
    println!("{}", report.preamble());
    if options.wants(Section::Create) || options.wants(Section::Cost) || options.wants(Section::Stages) {
        create::measure(&setup, options, &mut report).await?;
    }
    if options.wants(Section::Kill) {
        kill::measure(&setup, options, &mut report).await?;
    }
    if options.wants(Section::Crowd) {
        crowd::measure(&setup, options, &mut report).await?;
    }
    if options.wants(Section::Forming) {
        cluster::forming(&setup, options, &mut report).await?;
    }
    if options.wants(Section::Failover) {
        cluster::failover(&setup, options, &mut report).await?;
    }
    if options.wants(Section::Mesos) {
        mesos::measure(&setup, options, &mut report).await?;
    }
    println!("{}", report.table(options));
    if let Some(path) = &options.json {
        std::fs::write(path, report.json()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Says on standard error what is being done: the table comes at the end.
fn progress(text: &str) {
    eprintln!("bench: {text}");
}
