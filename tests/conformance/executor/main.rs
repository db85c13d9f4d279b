//! The executor of the recordings: started by an agent as the custom executor of a case, it speaks raw HTTP to
//! `MESOS_AGENT_ENDPOINT` and writes what it sent and got, with its environment, as the captures have it.
//!
//! `recorded-executor <dir> <capture> <pace>`: the transcript becomes `<dir>/<executor id>.executor_wire.txt`; the
//! seconds that tasks ask for are multiplied by the pace. `EXEC_MODE` says what it does. Not set: it is an orderly
//! executor that obeys each task's `data`; `probe` and `probe2`: it sends what the capture's executor sent;
//! `exit_now`, `never_subscribe`: what they say.

mod journal;
mod keeper;
mod link;
mod script;

use std::{
    env, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{journal::Journal, link::Agent};

/// What an agent tells its executor.
struct Settings {
    agent: Agent,
    executor: String,
    framework: String,
    directory: PathBuf,
    recovery: Duration,
    pace: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("recorded-executor: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> io::Result<ExitCode> {
    let settings = settings()?;
    let journal = Arc::new(Journal::open(&settings.directory, &settings.executor)?);
    journal.start()?;
    // Held to the end: dropping it would not bring back the default, but nobody would wait for the signal.
    let _deaf = if flag("EXEC_IGNORE_TERM") { Some(signal(SignalKind::terminate())?) } else { None };
    match env::var("EXEC_MODE").as_deref() {
        Ok("exit_now") => Ok(ExitCode::from(7)),
        Ok("never_subscribe") => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => {
            let capture = env::args().nth(2).ok_or_else(|| io::Error::other("no capture to speak"))?;
            let capture = format!("{capture}.{}.executor_wire.txt", settings.executor);
            script::run(&settings, &journal, Path::new(&capture)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Err(_) => keeper::run(settings, journal).await,
    }
}

fn settings() -> io::Result<Settings> {
    let directory = env::args().nth(1).map(PathBuf::from);
    let directory = directory.map_or_else(|| variable("MESOS_SANDBOX").map(PathBuf::from), Ok)?;
    Ok(Settings {
        agent: Agent::new(variable("MESOS_AGENT_ENDPOINT")?),
        executor: variable("MESOS_EXECUTOR_ID")?,
        framework: variable("MESOS_FRAMEWORK_ID")?,
        directory,
        recovery: variable("MESOS_RECOVERY_TIMEOUT")
            .ok()
            .and_then(|text| duration(&text))
            .unwrap_or_default(),
        pace: env::args().nth(3).and_then(|text| text.parse().ok()).unwrap_or(1.0),
    })
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|_| io::Error::other(format!("{name} is not set")))
}

fn flag(name: &str) -> bool {
    env::var(name).is_ok_and(|value| value == "1")
}

/// A duration as agents print it, `15mins`.
fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}
