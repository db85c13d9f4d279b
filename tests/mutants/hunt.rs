//! The hunt for one mutant, in a process of its own: the simulation of the copy, with that mutant switched on.

#![expect(clippy::disallowed_methods, reason = "waits for real processes, for a real time")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use overlord_tests::says;

use crate::mutant::{Mutant, VARIABLE};

/// A hunt that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(900);

/// In so many worlds a script is played unless its mutant says more.
const SCRIPT_WORLDS: u64 = 3;

/// Where it is looked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    Worlds(u64),
    Test(String),
    /// In so many worlds.
    Script(String, u64),
}

/// See the module.
pub(crate) struct Hunt<'a> {
    /// Nobody: the product as it is.
    mutant: Option<&'a Mutant>,
    ground: Ground,
}

/// What a hunt came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// By the oracle that is there for it, in this world; others before it were stopped by other words.
    Caught { seed: u64, words: String, others: usize },
    /// Something else was said.
    Other(String),
    /// Nothing was noticed.
    Survived,
    /// The hunt itself failed.
    Broken(String),
}

/// Builds the simulation of the copy, as this test was built; gives the binary.
pub(crate) fn build(scratch: &Path) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(scratch);
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["test", "--no-run", "--offline", "--message-format=json-render-diagnostics"])
        .args(["-p", "overlord-tests", "--test", "sim", "--profile", &profile()])
        .current_dir(scratch)
        .env("CARGO_TARGET_DIR", target)
        .stderr(Stdio::piped());
    let output = command.output().map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let end: Vec<&str> = text.lines().rev().take(80).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        return Err(format!("the mutants do not build in {}:\n{}", scratch.display(), end.join("\n")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let binaries = messages.filter(|message| message["target"]["name"] == "sim");
    let binary = binaries.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    binary.ok_or_else(|| "cargo names no binary of the simulation".to_owned())
}

/// The profile that this test was built with: the folder of its own binary says so.
fn profile() -> String {
    let own = std::env::current_exe().ok();
    let folder = own.as_deref().and_then(Path::parent).and_then(Path::parent).and_then(Path::file_name);
    match folder.map(|folder| folder.to_string_lossy().into_owned()) {
        Some(folder) if folder != "debug" => folder,
        _ => "dev".to_owned(),
    }
}

/// What must be quiet without any mutant: all the worlds, tests and scripts of these.
pub(crate) fn of_nothing<'a>(mutants: &[&'a Mutant]) -> Vec<Hunt<'a>> {
    let grounds: BTreeSet<Ground> = mutants.iter().map(|mutant| ground(mutant)).collect();
    let most = grounds
        .iter()
        .filter_map(|ground| if let Ground::Worlds(n) = ground { Some(*n) } else { None })
        .max();
    let others = grounds.iter().filter(|ground| !matches!(ground, Ground::Worlds(_))).cloned();
    let grounds = most.map(Ground::Worlds).into_iter().chain(others);
    grounds.map(|ground| Hunt { mutant: None, ground }).collect()
}

fn ground(mutant: &Mutant) -> Ground {
    match (&mutant.test, &mutant.script) {
        (Some(test), _) => Ground::Test(test.clone()),
        (None, Some(script)) => Ground::Script(script.clone(), mutant.seeds.max(SCRIPT_WORLDS)),
        (None, None) => Ground::Worlds(mutant.seeds),
    }
}

impl<'a> Hunt<'a> {
    pub(crate) fn of(mutant: &'a Mutant) -> Self {
        Self { mutant: Some(mutant), ground: ground(mutant) }
    }

    fn words(&self) -> &str {
        self.mutant.map_or("", |mutant| mutant.caught.as_str())
    }

    /// Runs it in a process of its own.
    pub(crate) fn run(&self, binary: &Path, scratch: &Path) -> Outcome {
        let mut command = Command::new(binary);
        command.current_dir(scratch.join("tests")).env_remove(VARIABLE);
        if let Some(mutant) = self.mutant {
            command.env(VARIABLE, &mutant.name);
        }
        match &self.ground {
            Ground::Worlds(seeds) => {
                command.args(["hunt::hunt", "--exact", "--ignored", "--nocapture"]);
                command.env("OVERLORD_HUNT", self.words()).env("OVERLORD_HUNT_SEEDS", seeds.to_string());
            }
            Ground::Test(test) => {
                command.args([test.as_str(), "--exact", "--nocapture"]);
            }
            Ground::Script(script, worlds) => {
                command.args([GOLDEN, "--exact", "--nocapture"]);
                command.env("OVERLORD_SCRIPT", script).env("OVERLORD_SCRIPT_WORLDS", worlds.to_string());
            }
        }
        match outcome_of(command) {
            Ok((success, said)) => match self.ground {
                Ground::Worlds(_) => Self::heard(&said),
                Ground::Test(_) | Ground::Script(..) => self.read(success, &said),
            },
            Err(why) => Outcome::Broken(why),
        }
    }

    /// What the hunt among random worlds said.
    fn heard(said: &str) -> Outcome {
        let lines = said.lines().filter_map(|line| line.split_once("hunt: ").map(|(_, line)| line));
        let mut others: Vec<String> = Vec::new();
        for line in lines {
            let mut parts = line.splitn(3, ' ');
            let (word, seed, text) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
            let seed: u64 = seed.and_then(|seed| seed.parse().ok()).unwrap_or_default();
            match word {
                Some("caught") => {
                    return Outcome::Caught { seed, words: text.to_owned(), others: others.len() };
                }
                Some("other") => others.push(format!("world {seed}: {text}")),
                Some("over") if others.is_empty() => return Outcome::Survived,
                Some("over") => return Outcome::Other(summary(&others)),
                _ => {}
            }
        }
        Outcome::Broken(format!("the hunt ended without a word:\n{}", end_of(said)))
    }

    /// What a test or a script said.
    fn read(&self, success: bool, said: &str) -> Outcome {
        if !said.contains("1 passed") && !said.contains("1 failed") {
            return Outcome::Broken(format!("no test of that name ran:\n{}", end_of(said)));
        }
        if success {
            return Outcome::Survived;
        }
        match said.lines().find(|line| says(line, self.words())) {
            Some(line) => Outcome::Caught { seed: world_of(said), words: line.trim().to_owned(), others: 0 },
            None => Outcome::Other(end_of(said)),
        }
    }

    fn name(&self) -> String {
        let place = match &self.ground {
            Ground::Worlds(seeds) => format!("{seeds} random worlds"),
            Ground::Test(test) => format!("test {test}"),
            Ground::Script(script, worlds) => format!("{worlds} worlds of script {script}"),
        };
        format!("{} in {place}", self.mutant.map_or("(no mutant)", |mutant| mutant.name.as_str()))
    }

    /// One line for who waits.
    pub(crate) fn tell(&self, outcome: &Outcome) -> String {
        let name = self.name();
        match outcome {
            Outcome::Caught { seed, words, others } => {
                format!("{name}: caught in world {seed} ({others} others before): {words}")
            }
            Outcome::Other(text) => format!("{name}: other words: {text}"),
            Outcome::Survived if self.mutant.is_none() => format!("{name}: all is well"),
            Outcome::Survived => format!("{name}: SURVIVED"),
            Outcome::Broken(why) => format!("{name}: {why}"),
        }
    }

    /// What is wrong with how it came out.
    pub(crate) fn fault(&self, outcome: &Outcome) -> Option<String> {
        match (self.mutant, outcome) {
            (Some(_), Outcome::Caught { .. }) | (None, Outcome::Survived) => None,
            (Some(mutant), Outcome::Other(text)) => {
                Some(format!("{}: nobody said {:?}, but: {text}", self.name(), mutant.caught))
            }
            (Some(mutant), Outcome::Survived) => {
                Some(format!("{}: it survived, nobody said {:?}", self.name(), mutant.caught))
            }
            (None, outcome) => Some(format!("without any mutant: {}", self.tell(outcome))),
            (Some(_), Outcome::Broken(why)) => Some(format!("{}: {why}", self.name())),
        }
    }
}

/// The test that plays scripts.
const GOLDEN: &str = "golden::scripts_come_out_as_they_are_written";

fn summary(others: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for other in others {
        *counts.entry(other.as_str()).or_default() += 1;
    }
    let first: Vec<&str> = others.iter().take(6).map(String::as_str).collect();
    format!("{} worlds failed otherwise: {}", others.len(), first.join("; "))
}

/// In which of its worlds a test or a script failed: `in world 2: ...` or `in world fence 2`.
fn world_of(said: &str) -> u64 {
    let behind = said.split("in world ").nth(1).unwrap_or_default();
    let mut words = behind.split([' ', ':', '\n']).take(2);
    words.find_map(|word| word.parse().ok()).unwrap_or_default()
}

fn end_of(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// Whether it succeeded, and what it said. It is ended when it hangs.
fn outcome_of(mut command: Command) -> Result<(bool, String), String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("the simulation does not start: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let out = thread::spawn(move || read_all(stdout));
    let err = thread::spawn(move || read_all(stderr));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() > PATIENCE => break None,
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(format!("the simulation cannot be waited for: {error}")),
        }
    };
    if status.is_none() {
        // It may end in this moment.
        let _ = child.kill();
        let _ = child.wait();
    }
    let said = out.join().unwrap_or_default() + &err.join().unwrap_or_default();
    match status {
        Some(status) => Ok((status.success(), said)),
        None => Err(format!("it hangs: no end after {} s:\n{}", PATIENCE.as_secs(), end_of(&said))),
    }
}

fn read_all(pipe: Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was said until it broke is kept.
        let _ = pipe.by_ref().read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
