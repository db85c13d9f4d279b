//! The command line.

use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Measures this system side by side with plain processes, and prints a table.

usage: bench [options] [OVERLORD]

  OVERLORD         the binary to measure [default: the one beside this program]
  --rounds N       rounds of each measurement, of which medians are shown [default: 5]
  --only LIST      of: a  creating four instances, b  killing one, c  a hundred instances,
                   d  what an instance costs in etcd writes and memory, e  where the time of a create goes,
                   f  forming a redis cluster, g  killing a master of one,
                   h  launches and offers of Mesos, with executors that are stubs
  --sizes LIST     of f: how many masters, each with a replica [default: 4,20,60,100]
  --agents N       of h: how many agents there are, each gets five tasks [default: 2000]
  --by-hand        of f and g: only what can be done by hand, without this system
  --json FILE      also write everything there";

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    /// Four instances.
    Create,
    /// One killed.
    Kill,
    /// A hundred instances.
    Crowd,
    /// Writes and memory.
    Cost,
    /// Where the time goes.
    Stages,
    /// A redis cluster.
    Forming,
    /// A master of one killed.
    Failover,
    /// Many agents and tasks, without processes.
    Mesos,
}

impl Section {
    /// All of them, as they are shown.
    pub(crate) const ALL: [Self; 8] = [
        Self::Create,
        Self::Kill,
        Self::Crowd,
        Self::Cost,
        Self::Stages,
        Self::Forming,
        Self::Failover,
        Self::Mesos,
    ];

    pub(crate) const fn letter(self) -> &'static str {
        match self {
            Self::Create => "a",
            Self::Kill => "b",
            Self::Crowd => "c",
            Self::Cost => "d",
            Self::Stages => "e",
            Self::Forming => "f",
            Self::Failover => "g",
            Self::Mesos => "h",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Create => "four instances, from the request",
            Self::Kill => "one server killed (SIGKILL), until it serves again",
            Self::Crowd => "a hundred redis singles, from the request",
            Self::Cost => "what an instance costs",
            Self::Stages => "where the time of a create goes, in ms after the request",
            Self::Forming => "a redis cluster of so many masters and replicas, from the request",
            Self::Failover => "a master killed (SIGKILL), until its slots are served again",
            Self::Mesos => "launching through the HTTP API of Mesos, executors are stubs",
        }
    }
}

/// The command line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) binary: Option<PathBuf>,
    pub(crate) rounds: usize,
    pub(crate) json: Option<PathBuf>,
    /// Masters of the redis clusters that are formed.
    pub(crate) sizes: Vec<u16>,
    /// Agents that tasks are launched on.
    pub(crate) agents: u32,
    /// Leave this system out of the sections of redis clusters.
    pub(crate) by_hand: bool,
    /// In order, without doubles.
    sections: Vec<Section>,
}

/// From the smallest cluster that people have to one that fits on this machine.
const SIZES: [u16; 4] = [4, 20, 60, 100];

/// As many as one master of Mesos is asked to have here.
const AGENTS: u32 = 2000;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Run(Options),
    Help,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Asked, String> {
        let mut options = Self {
            binary: None,
            rounds: 5,
            json: None,
            sizes: SIZES.to_vec(),
            agents: AGENTS,
            by_hand: false,
            sections: Section::ALL.to_vec(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, joined) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (argument.clone(), None),
            };
            let mut value =
                || joined.clone().or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--help" | "-h" => return Ok(Asked::Help),
                "--rounds" => options.rounds = rounds(&value()?)?,
                "--only" => options.sections = sections(&value()?)?,
                "--sizes" => options.sizes = sizes(&value()?)?,
                "--agents" => options.agents = agents(&value()?)?,
                "--by-hand" if joined.is_none() => options.by_hand = true,
                "--json" => options.json = Some(value()?.into()),
                flag if flag.starts_with('-') => return Err(format!("{flag} is no option")),
                _ if options.binary.is_some() => return Err(format!("{argument}: one binary is enough")),
                _ => options.binary = Some(argument.into()),
            }
        }
        Ok(Asked::Run(options))
    }

    pub(crate) fn wants(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds @ 1..=1000) => Ok(rounds),
        _ => Err(format!("--rounds {text}: a number from 1 to 1000")),
    }
}

fn sizes(text: &str) -> Result<Vec<u16>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    // A loopback network of six hosts has ports for more, this machine's processor has not.
    let sizes = words.map(|word| word.parse().ok().filter(|masters| (3..=500).contains(masters)));
    match sizes.collect::<Option<Vec<u16>>>() {
        Some(sizes) if !sizes.is_empty() => Ok(sizes),
        _ => Err(format!("--sizes {text}: numbers from 3 to 500, with commas between")),
    }
}

fn agents(text: &str) -> Result<u32, String> {
    // Each has a listener of its own.
    match text.parse() {
        Ok(agents @ 10..=10_000) => Ok(agents),
        _ => Err(format!("--agents {text}: a number from 10 to 10000")),
    }
}

fn sections(text: &str) -> Result<Vec<Section>, String> {
    let mut found = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let section = Section::ALL.into_iter().find(|section| section.letter() == word);
        found.push(
            section.ok_or_else(|| format!("--only {text}: {word:?} is none of a, b, c, d, e, f, g, h"))?,
        );
    }
    if found.is_empty() {
        return Err("--only names nothing".to_owned());
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn everything_is_measured_unless_told_otherwise() {
        let Asked::Run(options) = parse("target/release/overlord").unwrap() else {
            panic!("no help was asked for")
        };
        assert_eq!((options.rounds, options.json.as_ref()), (5, None));
        assert!(Section::ALL.into_iter().all(|section| options.wants(section)));
        assert_eq!(options.sizes, [4, 20, 60, 100]);
    }

    #[test]
    fn options_are_taken_with_a_space_or_an_equals_sign() {
        let line = "--rounds 3 --only=b,d --sizes=3,20 --by-hand --json out.json x";
        let Asked::Run(options) = parse(line).unwrap() else { panic!("no help was asked for") };
        assert_eq!((options.rounds, options.binary, options.sizes), (3, Some("x".into()), vec![3, 20]));
        assert_eq!(options.sections, [Section::Kill, Section::Cost]);
        assert!(options.by_hand);
        assert_eq!(parse("--help").unwrap(), Asked::Help);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--rounds",
            "--rounds 0",
            "--rounds many",
            "--only x",
            "--only ,",
            "--sizes 2",
            "--agents 1",
            "--sizes ,",
            "--by-hand=x",
            "--fast",
            "a b",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
