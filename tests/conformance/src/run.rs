//! Runs cases, several at a time, and says what became of each.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream};

use crate::{
    captures,
    case::Case,
    cast::RECORDED,
    compare::compare,
    external::External,
    invariants,
    model::{Transcript, What},
    parse::parse,
    replay::replay,
    shared,
    target::{Action, Masters, Setup, Target},
    unify::Difference,
};

/// Makes a target for a case.
pub type Factory = Arc<dyn Fn(Setup) -> BoxFuture<'static, Result<Box<dyn Target>, String>> + Send + Sync>;

/// Cases at a time; they mostly wait.
const AT_A_TIME: usize = 8;
/// The longest recording takes 84 s.
const LONGEST: Duration = Duration::from_secs(240);

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As recorded.
    Passed,
    /// Not as recorded.
    Failed(String),
    /// As it is known to fail.
    KnownDeviation(String),
    /// It needs something that is not there.
    NotRun(String),
}

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
struct Options {
    filters: Vec<String>,
    exact: bool,
    list: bool,
    verbose: bool,
}

/// Runs the cases that the arguments name, or all, against the master that the environment names, or sandboxes.
/// `true`: none failed.
pub async fn run(cases: Vec<Case>, sandboxes: Factory, arguments: impl Iterator<Item = String>) -> bool {
    let options = options(arguments);
    let chosen: Vec<Case> = cases.into_iter().filter(|case| options.takes(case.capture)).collect();
    if options.list {
        for case in &chosen {
            say(&format!("{}: test", case.capture));
        }
        return true;
    }
    match external().await {
        Ok(external) => summary(&run_against(chosen, sandboxes, external, options.verbose).await),
        Err(error) => {
            say(&format!("FAILED: {error}"));
            false
        }
    }
}

/// Runs cases against a master, or else sandboxes.
pub async fn run_against(
    cases: Vec<Case>,
    sandboxes: Factory,
    external: Option<External>,
    verbose: bool,
) -> Vec<(&'static str, Outcome)> {
    // On one master the cases would take each other's offers.
    let at_a_time = if external.is_some() { 1 } else { AT_A_TIME };
    let running = cases.into_iter().map(|case| {
        let (sandboxes, external) = (Arc::clone(&sandboxes), external.clone());
        async move {
            let begin = now();
            let outcome = outcome(&case, &sandboxes, external).await;
            (case.capture, outcome, begin.elapsed())
        }
    });
    let mut running = stream::iter(running).buffer_unordered(at_a_time);
    let mut outcomes = Vec::new();
    while let Some((name, outcome, took)) = running.next().await {
        let took = took.as_secs_f64();
        match &outcome {
            Outcome::Passed => say(&format!("ok       {name} ({took:.1} s)")),
            Outcome::Failed(why) => say(&format!("FAILED   {name} ({took:.1} s)\n{}", cut(why, verbose))),
            Outcome::KnownDeviation(why) => say(&format!("KNOWN    {name} ({took:.1} s): {why}")),
            Outcome::NotRun(why) => say(&format!("not run  {name}: needs {why}")),
        }
        outcomes.push((name, outcome));
    }
    outcomes
}

async fn external() -> Result<Option<External>, String> {
    let Ok(master) = std::env::var("OVERLORD_MESOS_MASTER") else { return Ok(None) };
    let mut addresses =
        tokio::net::lookup_host(&master).await.map_err(|error| format!("{master}: {error}"))?;
    let address = addresses.next().ok_or_else(|| format!("{master} has no address"))?;
    External::find(address, std::env::var("OVERLORD_MESOS_CONTROL").ok()).await.map(Some)
}

async fn outcome(case: &Case, sandboxes: &Factory, external: Option<External>) -> Outcome {
    let path = captures().join(format!("{}.txt", case.capture));
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => return Outcome::Failed(format!("{}: {error}", path.display())),
    };
    let capture = match parse(case.capture, &text) {
        Ok(capture) => edited(case, capture),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let known = case.known.filter(|_| external.is_none());
    let played = match external {
        None => match sandboxes(case.setup.clone()).await {
            Ok(target) => play(case, &capture, target.as_ref()).await,
            Err(error) => Err(format!("the sandbox does not start: {error}")),
        },
        Some(external) => match prepared(case, external).await {
            Ok(external) => play(case, &capture, &external).await,
            Err(needs) => return Outcome::NotRun(needs),
        },
    };
    match (played, known) {
        (Ok(()), None) => Outcome::Passed,
        (Ok(()), Some(why)) => {
            Outcome::Failed(format!("it passes now, but is listed as a deviation: {why}\n"))
        }
        (Err(_), Some(why)) => Outcome::KnownDeviation(why.to_owned()),
        (Err(why), None) => Outcome::Failed(why),
    }
}

/// The capture with the texts that are to be expected here.
fn edited(case: &Case, capture: Transcript) -> Transcript {
    let capture = match &case.cast {
        Some(executors) => capture.edited(RECORDED, &executors.command),
        None => capture,
    };
    case.edits.iter().fold(capture, |capture, (from, to)| capture.edited(from, to))
}

/// The master, made ready for a case; or what is missing.
async fn prepared(case: &Case, external: External) -> Result<External, String> {
    if external.agents() < case.setup.agents {
        return Err(format!("{} agents", case.setup.agents));
    }
    let wants = case.wants();
    if !external.has_control() {
        return if wants.is_empty() { Ok(external) } else { Err(wants.join(", ")) };
    }
    let mut external = external;
    external.control(Action::Flags, &case.setup.flags().join(" ")).await?;
    let other = match case.setup.masters {
        Masters::One => None,
        Masters::Two => Some(Action::Follower),
        Masters::Leaderless => Some(Action::Leaderless),
    };
    if let Some(action) = other {
        let address = external.control(action, "").await?;
        let address: SocketAddr = address.parse().map_err(|_| format!("{action} said '{address}'"))?;
        external = external.with_standby(address);
    }
    Ok(external)
}

async fn play(case: &Case, capture: &Transcript, target: &dyn Target) -> Result<(), String> {
    let played = tokio::time::timeout(LONGEST, replay(capture, case, target));
    let played = played.await.map_err(|_| format!("  it took more than {LONGEST:?}\n"))?;
    for framework in &played.frameworks {
        target.tear_down(framework).await;
    }
    let mut recorded = capture.clone();
    recorded.entries.truncate(played.entries);
    recorded.entries.retain(|entry| !case.left_out.contains(&entry.connection.as_str()));
    let mut got = played.got;
    if !target.is_own() {
        shared::leave_out_others(&mut got, &played.frameworks);
    }
    let mut differences = compare(&recorded, &got, played.names, &case.rules);
    if let Some(cast) = &case.cast {
        let whole = played.stalls.is_empty();
        differences.extend(cast.differences(case.capture, whole).await);
    }
    differences.extend(invariants::broken(&got));
    for check in &case.checks {
        differences.extend(check(&recorded, &got, target.scale()));
    }
    if differences.is_empty() && played.stalls.is_empty() {
        return Ok(());
    }
    Err(report(&differences, &played.stalls, &got))
}

fn report(differences: &[Difference], stalls: &[String], got: &Transcript) -> String {
    let mut text = String::new();
    for stall in stalls {
        let _ = writeln!(text, "  waited in vain: {stall}");
    }
    for Difference { place, expected, got } in differences {
        let _ = writeln!(text, "  {place}\n    recorded: {expected}\n    came:     {got}");
    }
    if std::env::var_os("OVERLORD_CONFORMANCE_TRANSCRIPT").is_some() {
        for entry in got.entries.iter().filter(|entry| !matches!(entry.what, What::Note(_))) {
            let _ = writeln!(text, "  +{:.3} {} {}", entry.at, entry.connection, entry.what);
        }
    }
    text
}

fn summary(outcomes: &[(&str, Outcome)]) -> bool {
    let count = |fits: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, outcome)| fits(outcome)).count();
    let failed = count(|o| matches!(o, Outcome::Failed(_)));
    say(&format!(
        "\n{} as recorded, {failed} failed, {} known deviations, {} not run",
        count(|o| *o == Outcome::Passed),
        count(|o| matches!(o, Outcome::KnownDeviation(_))),
        count(|o| matches!(o, Outcome::NotRun(_))),
    ));
    failed == 0
}

fn cut(text: &str, verbose: bool) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    if verbose || lines.len() <= LINES {
        return text.to_owned();
    }
    format!(
        "{}\n  ... and {} more lines (--verbose shows them)\n",
        lines[..LINES].join("\n"),
        lines.len() - LINES
    )
}

fn options(arguments: impl Iterator<Item = String>) -> Options {
    let mut options = Options::default();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => options.list = true,
            "--exact" => options.exact = true,
            "--verbose" | "--nocapture" => options.verbose = true,
            // Flags of the usual test runner, with their values.
            "--test-threads" | "--format" | "--color" | "--skip" | "-Z" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            filter => options.filters.push(filter.to_owned()),
        }
    }
    options
}

impl Options {
    fn takes(&self, name: &str) -> bool {
        let fits = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        self.filters.is_empty() || self.filters.iter().any(fits)
    }
}

fn say(text: &str) {
    use std::io::Write as _;
    // A closed pipe ends the report, not the cases.
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[expect(clippy::disallowed_methods, reason = "how long a case took is only shown")]
fn now() -> Instant {
    Instant::now()
}
