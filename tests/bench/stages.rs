//! Where the time of a create goes: from etcd's history, and from the times of the files that executors
//! leave behind on their way.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use overlord_api::{Info, Kind};

use crate::{
    cluster::{Passed, passed, since},
    create::{Created, ms},
    sandbox::Sandbox,
    specs::Pool,
    stats::{Series, Summary},
};

/// The stages, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Config,
    Answered,
    Accepted,
    Intent,
    Executor,
    Prepare,
    Meta,
    Conf,
    Server,
    Serving,
    ClusterOk,
    Linked,
    Starting,
    Running,
    Ready,
}

impl Stage {
    pub(crate) const ALL: [Self; 15] = [
        Self::Config,
        Self::Answered,
        Self::Accepted,
        Self::Intent,
        Self::Executor,
        Self::Prepare,
        Self::Meta,
        Self::Conf,
        Self::Server,
        Self::Serving,
        Self::ClusterOk,
        Self::Linked,
        Self::Starting,
        Self::Running,
        Self::Ready,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Config => "the spec is in etcd",
            Self::Answered => "the request is answered",
            Self::Accepted => "the controller accepts a revision",
            Self::Intent => "an instance is recorded (pending)",
            Self::Executor => "Mesos starts its executor",
            Self::Prepare => "the executor knows what to run, takes the port's lock",
            Self::Meta => "it has looked around, writes meta.toml",
            Self::Conf => "meta.toml is on disk, it writes the configuration",
            Self::Server => "the configuration is on disk, it starts the server",
            Self::Serving => "the server serves",
            Self::ClusterOk => "the node says that the cluster is ok",
            Self::Linked => "its link to its master is up",
            Self::Starting => "its first report is recorded (staging)",
            Self::Running => "it is recorded as running",
            Self::Ready => "status is Ready",
        }
    }
}

/// All rounds.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// Of each stage, by its place in [`Stage::ALL`]: the first instance to come there, and the last one.
    rounds: Vec<Vec<(f64, f64)>>,
}

impl Stages {
    pub(crate) fn add(&mut self, round: Vec<Vec<f64>>) {
        let ends = |times: Vec<f64>| {
            let first = times.iter().copied().min_by(f64::total_cmp)?;
            Some((first, times.into_iter().max_by(f64::total_cmp)?))
        };
        self.rounds
            .push(round.into_iter().map(|times| ends(times).unwrap_or((f64::NAN, f64::NAN))).collect());
    }

    /// Of one stage: the first instance and the last one. Nothing when it was not seen.
    pub(crate) fn of(&self, stage: Stage) -> Option<(Summary, Summary)> {
        let index = Stage::ALL.iter().position(|s| *s == stage)?;
        let seen =
            || self.rounds.iter().filter_map(|round| round.get(index)).filter(|(first, _)| first.is_finite());
        let firsts: Series = seen().map(|(first, _)| *first).collect();
        let lasts: Series = seen().map(|(_, last)| *last).collect();
        firsts.summary().zip(lasts.summary())
    }
}

/// The times of one create, by stage, in ms after the request.
pub(crate) fn of(sandbox: &Sandbox, pool: &Pool, created: &Created) -> Vec<Vec<f64>> {
    let places: Vec<Place> = created.infos.iter().map(|info| Place::of(sandbox, pool, info)).collect();
    let etcd = |event: &str| -> Vec<f64> {
        created.seen.iter().filter(|(_, what)| what == event).map(|(at, _)| ms(*at)).collect()
    };
    let files = |path: &dyn Fn(&Place) -> Option<PathBuf>| -> Vec<f64> {
        places.iter().filter_map(|place| born(&path(place)?, created.requested)).collect()
    };
    let logs: Vec<Passed> = match pool.kind {
        Kind::RedisCluster => places.iter().map(|place| passed(&place.dir.join("console.log"))).collect(),
        Kind::Redis | Kind::Memcache => Vec::new(),
    };
    let nodes = |time: &dyn Fn(&Passed) -> Option<Timestamp>| -> Vec<f64> {
        logs.iter().filter_map(|log| Some(ms(since(created.requested, time(log)?)))).collect()
    };
    Stage::ALL
        .into_iter()
        .map(|stage| match stage {
            Stage::Config => etcd("config"),
            Stage::Answered => vec![ms(created.answered)],
            Stage::Accepted => etcd("revision"),
            Stage::Intent => etcd("info pending"),
            Stage::Executor => files(&|place| place.executor.clone()),
            Stage::Prepare => files(&|place| Some(place.lock.clone())),
            Stage::Meta => files(&|place| Some(place.dir.join("meta.toml"))),
            Stage::Conf => files(&|place| Some(place.dir.join(format!("{}.conf", pool.kind.engine())))),
            Stage::Server => files(&|place| Some(place.dir.join("console.log"))),
            Stage::Serving => created.serving.iter().map(|at| ms(*at)).collect(),
            Stage::ClusterOk => nodes(&|passed| passed.ok),
            Stage::Linked => nodes(&|passed| passed.linked),
            Stage::Starting => etcd("info staging"),
            Stage::Running => etcd("info running"),
            Stage::Ready => vec![ms(created.ready)],
        })
        .collect()
}

/// Where an instance keeps its files.
struct Place {
    dir: PathBuf,
    lock: PathBuf,
    /// The executor's output, which Mesos makes just before it starts it.
    executor: Option<PathBuf>,
}

impl Place {
    fn of(sandbox: &Sandbox, pool: &Pool, info: &Info) -> Self {
        let agent = sandbox.agent(info.ip);
        let kind = agent.join("data").join(pool.kind.as_str());
        Self {
            dir: kind.join(info.port.to_string()),
            lock: kind.join(format!(".{}.lock", info.port)),
            executor: find(&agent.join("work"), &info.mesos_task_id, 8)
                .and_then(|dir| find(&dir, "stdout", 3)),
        }
    }
}

/// When a file was made, in ms after `start`.
fn born(path: &Path, start: Timestamp) -> Option<f64> {
    let born = fs::metadata(path).and_then(|meta| meta.created()).ok()?;
    let since = born.duration_since(SystemTime::from(start)).unwrap_or(Duration::ZERO);
    Some(ms(since))
}

/// The first entry of that name, at most `depth` folders down.
fn find(dir: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(dir).ok()?.flatten().collect();
    if let Some(found) = entries.iter().find(|entry| entry.file_name() == name) {
        return Some(found.path());
    }
    let below = depth.checked_sub(1)?;
    let folders = entries.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(fs::DirEntry::path).find_map(|folder| find(&folder, name, below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_a_first_and_a_last_instance_and_may_be_missing() {
        let mut stages = Stages::default();
        for shift in [0.0, 10.0, 2.0] {
            let mut round = vec![Vec::new(); Stage::ALL.len()];
            round[3] = vec![5.0 + shift, 3.0 + shift, 4.0 + shift];
            stages.add(round);
        }
        let (first, last) = stages.of(Stage::Intent).unwrap();
        assert!((first.median - 5.0).abs() < 1e-9 && (last.median - 7.0).abs() < 1e-9);
        assert_eq!(stages.of(Stage::Ready), None);
    }
}
