//! The settings of a controller: flag, then variable, then file, then default. Each knows where it came from.

pub(crate) mod args;
pub(crate) mod executor;
pub(crate) mod file;
mod mesos;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use args::{ControllerArgs, LogArgs};
use clap::{ArgMatches, parser::ValueSource};
use executor::{Api, Executor};
use mesos::Mesos;
use overlord_api::{Engine, quantity};

use crate::{failure::Failure, logging, logging::LogFormat};

/// Read when it exists and no other file is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/overlord/overlord.toml";

/// Where an effective value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Variable,
    File,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flag => "flag",
            Self::Variable => "variable",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// One effective value, for `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The key in the file.
    pub(crate) key: String,
    /// As it would be written on the command line; empty when unset.
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// All effective settings.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) file: Option<PathBuf>,
    pub(crate) etcd: Etcd,
    pub(crate) mesos: Mesos,
    pub(crate) api: Api,
    pub(crate) executor: Executor,
    pub(crate) controller: Controller,
    pub(crate) engines: BTreeMap<Engine, BTreeMap<String, file::Binary>>,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    /// The same for people, in the order of the file.
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Clone)]
pub(crate) struct Etcd {
    pub(crate) endpoints: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub(crate) struct Controller {
    pub(crate) state_file: Option<PathBuf>,
    pub(crate) lease: Duration,
    pub(crate) quarantine: Duration,
    pub(crate) unreserved_bus_port: bool,
    pub(crate) resync: Duration,
    pub(crate) deletion_ceiling: usize,
    pub(crate) concurrency: usize,
}

/// Picks each value and writes down where it came from.
struct Resolver<'m> {
    matches: &'m ArgMatches,
    rows: Vec<Row>,
}

/// How a value is written for people.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for String {
    fn shown(&self) -> String {
        self.clone()
    }
}

impl Shown for Vec<String> {
    fn shown(&self) -> String {
        self.join(",")
    }
}

impl Shown for usize {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for LogFormat {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Resolver<'_> {
    fn pick<T: Shown>(&mut self, key: &str, id: &str, arg: Option<T>, file: Option<T>, default: T) -> T {
        self.pick_option(key, id, arg, file).unwrap_or_else(|| {
            if let Some(row) = self.rows.last_mut() {
                row.value = default.shown();
            }
            default
        })
    }

    fn pick_option<T: Shown>(&mut self, key: &str, id: &str, arg: Option<T>, file: Option<T>) -> Option<T> {
        let (value, origin) = match (arg, file) {
            (Some(value), _) => {
                let variable = self.matches.value_source(id) == Some(ValueSource::EnvVariable);
                (Some(value), if variable { Origin::Variable } else { Origin::Flag })
            }
            (None, Some(value)) => (Some(value), Origin::File),
            (None, None) => (None, Origin::Default),
        };
        let shown = value.as_ref().map(Shown::shown).unwrap_or_default();
        self.rows.push(Row { key: key.to_owned(), value: shown, origin });
        value
    }

    /// The value last picked is wrong.
    fn refuse(&self, why: impl fmt::Display, hint: impl Into<String>) -> Failure {
        match self.rows.last() {
            Some(row) => {
                Failure::usage(format!("{} = {:?} (from {}): {why}", row.key, row.value, row.origin), hint)
            }
            None => Failure::usage(why.to_string(), hint),
        }
    }

    /// Hides what stands before an `@` in the value last picked: `zk://user:password@host` is shown to many.
    fn hide_secrets(&mut self) {
        if let Some(row) = self.rows.last_mut() {
            row.value = without_secrets(&row.value);
        }
    }

    fn duration(&self, text: &str) -> Result<Duration, Failure> {
        let duration = quantity::parse_duration(text).map_err(|fault| self.refuse(&fault, ""))?;
        if duration < Duration::from_secs(1) {
            return Err(self.refuse("shorter than a second", "write a time such as 10s or 2m"));
        }
        Ok(duration)
    }

    fn not_empty(&self, list: Vec<String>) -> Result<Vec<String>, Failure> {
        let list: Vec<String> = list.into_iter().map(|item| item.trim().to_owned()).collect();
        if list.is_empty() || list.iter().any(String::is_empty) {
            return Err(self.refuse("empty", "name at least one, separated by commas"));
        }
        Ok(list)
    }
}

impl Settings {
    /// Finds every value. `matches` are those of the command that `args` came from.
    pub(crate) fn resolve(args: ControllerArgs, log: LogArgs, matches: &ArgMatches) -> Result<Self, Failure> {
        let path = match &args.config {
            Some(path) => Some(path.clone()),
            None => Path::new(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE)),
        };
        let file = match &path {
            Some(path) => file::read(path)?,
            None => file::File::default(),
        };
        let mut settings = Self::merge(args, log, file, matches)?;
        settings.file = path;
        Ok(settings)
    }

    fn merge(
        args: ControllerArgs,
        log: LogArgs,
        file: file::File,
        matches: &ArgMatches,
    ) -> Result<Self, Failure> {
        let mut r = Resolver { matches, rows: Vec::new() };
        let etcd = etcd(&mut r, &args, file.etcd)?;
        let mesos = mesos::mesos(&mut r, &args, file.mesos)?;
        let api = executor::api(&mut r, &args, file.api)?;
        let executor = executor::executor(&mut r, &args, file.executor, &etcd.endpoints, &api)?;
        let controller = controller(&mut r, &args, file.controller)?;
        for (engine, versions) in &file.engines {
            for (version, binary) in versions {
                let key = format!("engines.{engine}.\"{version}\"");
                let value = binary.url.clone().unwrap_or_else(|| "preinstalled".to_owned());
                r.rows.push(Row { key, value, origin: Origin::File });
            }
        }
        let log_level = r.pick("log.level", "log_level", log.log_level, file.log.level, "info".to_owned());
        logging::check_filter(&log_level)
            .map_err(|why| r.refuse(why, "use error, warn, info, debug or trace"))?;
        let log_format = r.pick("log.format", "log_format", log.log_format, file.log.format, LogFormat::Text);
        Ok(Self {
            file: None,
            etcd,
            mesos,
            api,
            executor,
            controller,
            engines: file.engines,
            log_level,
            log_format,
            rows: r.rows,
        })
    }
}

fn etcd(r: &mut Resolver<'_>, args: &ControllerArgs, file: file::Etcd) -> Result<Etcd, Failure> {
    let default = vec!["http://127.0.0.1:2379".to_owned()];
    let endpoints = r.pick("etcd.endpoints", "etcd", args.etcd.clone(), file.endpoints, default);
    let endpoints = r.not_empty(endpoints)?;
    let user = r.pick_option("etcd.user", "etcd_user", args.etcd_user.clone(), file.user);
    let password_file = r.pick_option(
        "etcd.password_file",
        "etcd_password_file",
        args.etcd_password_file.clone(),
        file.password_file,
    );
    if user.is_some() != password_file.is_some() {
        return Err(Failure::usage("etcd.user and etcd.password_file belong together", "set both or none"));
    }
    Ok(Etcd { endpoints, user, password_file: password_file.map(PathBuf::from) })
}

fn controller(
    r: &mut Resolver<'_>,
    args: &ControllerArgs,
    file: file::Controller,
) -> Result<Controller, Failure> {
    let default = "/var/lib/overlord/state".to_owned();
    let state_file =
        r.pick("controller.state_file", "state_file", args.state_file.clone(), file.state_file, default);
    let state_file = (!state_file.is_empty()).then(|| PathBuf::from(state_file));
    let lease = r.pick("controller.lease", "lease", args.lease.clone(), file.lease, "10s".to_owned());
    let lease = r.duration(&lease)?;
    let quarantine = r.pick(
        "controller.quarantine",
        "quarantine",
        args.quarantine.clone(),
        file.quarantine,
        "2m".to_owned(),
    );
    let quarantine = r.duration(&quarantine)?;
    let bus_port =
        r.pick("controller.bus_port", "bus_port", args.bus_port.clone(), file.bus_port, "offered".to_owned());
    let unreserved_bus_port = match bus_port.as_str() {
        "offered" => false,
        "unreserved" => true,
        _ => return Err(r.refuse("neither offered nor unreserved", "write one of them")),
    };
    let resync = r.pick("controller.resync", "resync", args.resync.clone(), file.resync, "5m".to_owned());
    let resync = r.duration(&resync)?;
    let deletion_ceiling = r.pick(
        "controller.deletion_ceiling",
        "deletion_ceiling",
        args.deletion_ceiling,
        file.deletion_ceiling,
        5,
    );
    let concurrency = r.pick("controller.concurrency", "concurrency", args.concurrency, file.concurrency, 32);
    if concurrency == 0 {
        return Err(r.refuse("nothing would ever be done", "use at least 1"));
    }
    Ok(Controller {
        state_file,
        lease,
        quarantine,
        unreserved_bus_port,
        resync,
        deletion_ceiling,
        concurrency,
    })
}

/// A text with addresses, without what stands before the last `@`.
pub(crate) fn without_secrets(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://***@{after}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::Cli;

    pub(super) fn settings(command_line: &[&str], file: &str) -> Result<Settings, Failure> {
        let line = ["overlord", "config", "show"].iter().chain(command_line);
        let matches = Cli::command().try_get_matches_from(line).unwrap();
        let show = matches.subcommand().unwrap().1.subcommand().unwrap().1.clone();
        let args = ControllerArgs::from_arg_matches(&show).unwrap();
        let log = LogArgs::from_arg_matches(&show).unwrap();
        Settings::merge(args, log, file::parse("f", file)?, &show)
    }

    pub(super) fn origin(settings: &Settings, key: &str) -> Origin {
        settings.rows.iter().find(|row| row.key == key).unwrap().origin.clone()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "[mesos]\nmasters = [\"m1:5050\"]\nroles = [\"cache\"]\n";
        let settings = settings(&["--mesos", "m2:5050,m3:5050"], file).unwrap();
        assert_eq!(settings.mesos.masters, ["m2:5050", "m3:5050"]);
        assert_eq!(origin(&settings, "mesos.masters"), Origin::Flag);
        assert_eq!(settings.mesos.roles, ["cache"]);
        assert_eq!(origin(&settings, "mesos.roles"), Origin::File);
        assert_eq!(settings.mesos.framework, "overlord");
        assert_eq!(origin(&settings, "mesos.framework"), Origin::Default);
        assert_eq!(settings.executor.etcd, settings.etcd.endpoints);
    }

    #[test]
    fn a_wrong_value_is_told_with_its_key_and_origin() {
        let failure = settings(&[], "[api]\nlisten = \"8880\"\n").unwrap_err();
        assert_eq!(failure.message, "api.listen = \"8880\" (from file): no address to listen on");
        for (flags, file) in [
            (vec!["--lease", "10ms"], ""),
            (vec!["--etcd-user", "x"], ""),
            (vec!["--log-level", "a=b=c"], ""),
            (vec![], "[etcd]\nendpoints = []\n"),
        ] {
            assert!(settings(&flags, file).is_err(), "{flags:?} {file}");
        }
    }

    #[test]
    fn every_default_is_valid_and_every_row_has_a_distinct_key() {
        let settings = settings(&[], "").unwrap();
        assert_eq!(settings.mesos.failover_timeout, Duration::from_hours(21 * 24));
        let mut keys: Vec<&str> = settings.rows.iter().map(|row| row.key.as_str()).collect();
        keys.dedup();
        assert_eq!(keys.len(), settings.rows.len());
    }
}
