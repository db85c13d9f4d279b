//! Plays a script in a world: each command in its turn, and between them time, in which all that must always hold is
//! looked at again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use overlord_api::{ClusterName, Task, TaskDesired, TaskKind, keys};
use overlord_store::{Snapshot, Txn};

use super::{
    command::{Agent, Command, Control, Etcd, EventLine, Expect, Mesos, Trouble},
    events::{Events, difference, print},
    script::Script,
    spec,
};
use crate::{
    machine::Seen,
    pool::Pool,
    view::View,
    world::{AGENTS, World, agent_ip, agent_name, caches::Damage},
};

/// Between two looks, in a short wait, a long one, and one of many hours.
const LOOKS: [(Duration, Duration); 2] = [
    (Duration::from_secs(300), Duration::from_millis(200)),
    (Duration::from_secs(1800), Duration::from_secs(2)),
];
const RARE_LOOKS: Duration = Duration::from_secs(20);

/// So often users write some keys when a cluster is whole: there is something to lose.
const WRITES: u32 = 15;

/// A controller that was stopped and goes on needs a moment to find out that another one leads.
const RIVALRY: Duration = Duration::from_secs(3);

/// A script that is being played.
pub(crate) struct Player<'w> {
    pub(super) world: &'w mut World,
    /// What is declared.
    specs: BTreeMap<String, serde_json::Value>,
    /// Agents that have a name of the script's own.
    names: BTreeMap<String, u8>,
    /// The processes of clusters that were remembered, by member.
    pub(super) remembered: BTreeMap<String, BTreeMap<u32, Seen>>,
    /// How many of which cluster must always serve.
    standing: Vec<(u32, String)>,
    pub(super) events: Events,
    /// Mesos tasks that were ever there.
    launched: BTreeSet<String>,
    snapshot: Option<Snapshot>,
    /// Since when two controllers lead.
    rivals_since: Option<Duration>,
    /// The number of writes up to which the store was looked at: without another one nothing is new.
    looked_at: Option<u64>,
    /// Whether what happened is printed, to help writing.
    aloud: bool,
}

/// Something that the script says cannot be done in this world.
fn cannot(what: impl Into<String>) -> Result<(), String> {
    Err(what.into())
}

pub(super) fn cluster(name: &str) -> Result<ClusterName, String> {
    ClusterName::new(name).map_err(|error| format!("{name}: {error}"))
}

/// The id of a task; `cart@r2` is the one that brings revision 2 of `cart` about.
pub(super) fn task_id(view: &View, id: &str) -> Result<String, String> {
    let Some((name, revision)) = id.split_once('@') else { return Ok(id.to_owned()) };
    let record = view.record(&cluster(name)?).ok_or_else(|| format!("{name} has no record"))?;
    Ok(format!("{name}.{}.{revision}", record.uid.get(..8).unwrap_or_default()))
}

impl<'w> Player<'w> {
    pub(crate) fn new(world: &'w mut World, aloud: bool) -> Self {
        world.probe_often();
        Self {
            world,
            specs: BTreeMap::new(),
            names: BTreeMap::new(),
            remembered: BTreeMap::new(),
            standing: Vec::new(),
            events: Events::default(),
            launched: BTreeSet::new(),
            snapshot: None,
            rivals_since: None,
            looked_at: None,
            aloud,
        }
    }

    /// Plays all of it; the error begins with the number of the line.
    pub(crate) async fn play(&mut self, script: &Script) -> Result<(), (usize, String)> {
        for line in &script.lines {
            self.world.trace.line(format!("script line {}", line.number));
            self.carry_out(&line.command).await.map_err(|why| (line.number, why))?;
            self.look().await.map_err(|why| (line.number, why))?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one arm a command: read as a table")]
    async fn carry_out(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Apply { kind, cluster, settings } => {
                self.specs.insert(cluster.clone(), spec::manifest(kind, cluster));
                self.declare(cluster, settings).await
            }
            Command::Edit { cluster, settings } => self.declare(cluster, settings).await,
            Command::Delete(name) => {
                self.specs.remove(name);
                self.world.users.leave_cluster(name);
                self.world.trace.line(format!("user deletes {name}"));
                self.world.put(Txn::unfenced().delete(keys::config(&cluster(name)?))).await;
                Ok(())
            }
            Command::Write(key, text) => {
                let key = self.key(key)?;
                self.world.by_hand(Txn::unfenced().put(key, text.clone())).await;
                Ok(())
            }
            Command::Remove(key) => {
                let key = self.key(key)?;
                let txn = Txn::unfenced();
                let txn =
                    if key.ends_with('/') { txn.delete_prefix(key.clone()) } else { txn.delete(key.clone()) };
                self.world.by_hand(txn).await;
                Ok(())
            }
            Command::Replace { from, to, key } => self.replace(from, to, key).await,
            Command::Request { kind, cluster: of, id, params } => {
                let kind = serde_json::from_value(serde_json::Value::String(kind.clone()));
                let task = Task {
                    version: 1,
                    kind: kind.map_err(|error| format!("the task's kind: {error}"))?,
                    cluster: cluster(of)?,
                    params: params.iter().cloned().collect(),
                    requested_by: "script".to_owned(),
                    requested_at: None,
                    desired: TaskDesired::Run,
                };
                if task.kind == TaskKind::Recover {
                    self.world.users.give_up(of);
                    self.world.hosts.allow_take_over(of);
                }
                self.ask(id, task).await
            }
            Command::Tell(id, desired) => {
                let view = self.world.view().await;
                let id = task_id(&view, id)?;
                let entry = view.entries.get(keys::task(&id).as_str());
                let task = entry.and_then(|entry| serde_json::from_slice::<Task>(&entry.value).ok());
                let Some(mut task) = task else { return cannot(format!("there is no task {id}")) };
                task.desired = *desired;
                self.ask(&id, task).await
            }
            Command::Kill(..)
            | Command::KillExecutor(..)
            | Command::FailStarts(_)
            | Command::Hang(..)
            | Command::CutHost(..)
            | Command::FillDisk(..)
            | Command::DamageNodesConf(..) => self.break_process(command),
            Command::Call(name, cluster, member) => {
                let number = self.agent_of(cluster, *member)?;
                self.names.insert(name.clone(), number);
                Ok(())
            }
            Command::Agent(agent, trouble) => self.trouble(agent, trouble).await,
            Command::Etcd(etcd) => self.etcd(etcd).await,
            Command::Mesos(mesos) => {
                self.mesos(mesos);
                Ok(())
            }
            Command::Controller(control) => self.control(control).await,
            Command::Wait(time) => self.pass(*time).await,
            Command::Remember(cluster) => {
                let own =
                    self.processes(cluster).into_iter().map(|seen| (seen.instance.member, seen)).collect();
                self.remembered.insert(cluster.clone(), own);
                Ok(())
            }
            Command::Always(number, cluster) => {
                self.standing.push((*number, cluster.clone()));
                Ok(())
            }
            Command::HandsOver(cluster) => {
                self.world.hosts.demand_hand_over(cluster);
                Ok(())
            }
            Command::Expect(expect, within) => {
                self.await_it(expect, *within).await?;
                if !matches!(expect, Expect::Whole(_)) {
                    return Ok(());
                }
                let lost = self.world.users.lost().into_iter().next();
                for _ in 0..WRITES {
                    self.world.users.write().await;
                }
                lost.map_or(Ok(()), Err)
            }
            Command::NoLaunch(time) => self.launches(0, *time).await,
            Command::AtMost(number, time) => self.launches(*number as usize, *time).await,
            Command::NoWrites(time) => {
                let before = self.world.writes();
                self.pass(*time).await?;
                let writes = self.world.writes() - before;
                if writes == 0 { Ok(()) } else { Err(format!("{writes} transactions were written")) }
            }
            Command::Events(cluster, written) => self.compare_events(cluster, written).await,
        }
    }

    /// Puts a spec under its key, with these settings changed.
    async fn declare(&mut self, name: &str, settings: &[(String, String)]) -> Result<(), String> {
        let Some(manifest) = self.specs.get_mut(name) else {
            return cannot(format!("{name} was not applied before"));
        };
        for (path, value) in settings {
            spec::set(manifest, path, value)?;
        }
        let text = spec::text(manifest)?;
        self.world.trace.line(format!("user applies {name} {settings:?}"));
        self.world.put(Txn::unfenced().put(keys::config(&cluster(name)?), text)).await;
        if let Some(pool) = self.nodes_of(name) {
            self.world.users.use_cluster(&pool);
        }
        Ok(())
    }

    /// A cluster of redis nodes as it is declared; nothing for other kinds.
    pub(super) fn nodes_of(&self, name: &str) -> Option<Pool> {
        let manifest = self.specs.get(name)?;
        let number = |field: &str, otherwise: u64| manifest["spec"][field].as_u64().unwrap_or(otherwise);
        let (masters, replicas) = (number("masters", 3), number("replicasPerMaster", 1));
        let (masters, replicas) = (u32::try_from(masters).ok()?, u32::try_from(replicas).ok()?);
        // Names of pools live as long as the test: there are a few.
        let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
        (manifest["kind"] == "RedisCluster").then(|| Pool::nodes(name, masters, replicas))
    }

    async fn ask(&mut self, id: &str, task: Task) -> Result<(), String> {
        let value = serde_json::to_vec(&task).map_err(|error| error.to_string())?;
        self.world
            .trace
            .line(format!("user asks for {} of {} as {id}: {:?}", task.kind, task.cluster, task.desired));
        self.world.put(Txn::unfenced().put(keys::task(id), value)).await;
        Ok(())
    }

    async fn replace(&mut self, from: &str, to: &str, key: &str) -> Result<(), String> {
        let key = self.key(key)?;
        let view = self.world.view().await;
        let Some(entry) = view.entries.get(key.as_str()) else { return cannot(format!("there is no {key}")) };
        let text = String::from_utf8_lossy(&entry.value).into_owned();
        if !text.contains(from) {
            return cannot(format!("{key} does not hold {from:?}: {text}"));
        }
        self.world.by_hand(Txn::unfenced().put(key, text.replacen(from, to, 1))).await;
        Ok(())
    }

    /// A key; `<cart/1>` stands for the address of that member.
    pub(super) fn key(&self, key: &str) -> Result<String, String> {
        let (Some(from), Some(to)) = (key.find('<'), key.find('>')) else { return Ok(key.to_owned()) };
        let member = key.get(from + 1..to).and_then(|text| text.split_once('/'));
        let Some((cluster, Ok(member))) = member.map(|(cluster, number)| (cluster, number.parse())) else {
            return Err(format!("{key}: <cart/1> stands for the address of that member"));
        };
        let address = self.process(cluster, member)?.instance.address;
        Ok(format!("{}{address}{}", &key[..from], &key[to + 1..]))
    }

    /// The processes of a cluster.
    pub(super) fn processes(&self, cluster: &str) -> Vec<Seen> {
        let all = self.world.hosts.processes().into_iter();
        all.filter(|seen| seen.instance.cluster.as_str() == cluster).collect()
    }

    /// The newest process of a member.
    pub(super) fn process(&self, cluster: &str, member: u32) -> Result<Seen, String> {
        let own = self.processes(cluster).into_iter().filter(|seen| seen.instance.member == member);
        own.max_by_key(|seen| seen.pid).ok_or_else(|| format!("{cluster}/{member} has no process"))
    }

    fn agent_of(&self, cluster: &str, member: u32) -> Result<u8, String> {
        let ip = self.process(cluster, member)?.instance.address.ip;
        (0..AGENTS).find(|number| agent_ip(*number) == ip).ok_or_else(|| format!("no agent is at {ip}"))
    }

    fn agent(&self, agent: &Agent) -> Result<u8, String> {
        match agent {
            Agent::Of(cluster, member) => self.agent_of(cluster, *member),
            Agent::Named(name) => {
                let own = self.names.get(name).copied();
                let found = own.or_else(|| (0..AGENTS).find(|number| agent_name(*number) == *name));
                found.ok_or_else(|| format!("no agent is called {name}"))
            }
        }
    }

    fn break_process(&self, command: &Command) -> Result<(), String> {
        match command {
            Command::Kill(cluster, member) => {
                let pid = self.process(cluster, *member)?.pid;
                let at = self.world.hosts.processes().iter().position(|seen| seen.pid == pid);
                let at = at.and_then(|at| u32::try_from(at).ok()).ok_or("it has ended")?;
                self.world.kill_process(at).map(|_| ()).ok_or_else(|| "it has ended".to_owned())
            }
            Command::KillExecutor(cluster, member) => {
                let task = self.process(cluster, *member)?.instance.task_id;
                if self.world.kill_executor_of(&task) {
                    Ok(())
                } else {
                    cannot(format!("{task} has no executor"))
                }
            }
            Command::Hang(cluster, member, time) => {
                let pid = self.process(cluster, *member)?.pid;
                if self.world.hang(pid, *time) { Ok(()) } else { cannot("it has ended") }
            }
            Command::CutHost(cluster, member, time) => {
                self.world.cut_host_off(self.agent_of(cluster, *member)?, *time);
                Ok(())
            }
            Command::FillDisk(cluster, member, time) => {
                self.world.fill_disk(self.agent_of(cluster, *member)?, *time);
                Ok(())
            }
            Command::DamageNodesConf(cluster, member, how) => {
                let damage = match how.as_str() {
                    "torn" => Damage::Torn,
                    "empty" => Damage::Empty,
                    "absent" => Damage::Absent,
                    "nonsense" => Damage::Nonsense,
                    _ => return cannot(format!("{how} is none of torn, empty, absent and nonsense")),
                };
                let address = self.process(cluster, *member)?.instance.address;
                if self.world.damage_nodes_conf_at(address, damage) {
                    Ok(())
                } else {
                    cannot("it has no nodes.conf")
                }
            }
            Command::FailStarts(number) => {
                self.world.trace.line(format!("the next {number} starts fail"));
                self.world.hosts.fail_starts(*number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn trouble(&mut self, agent: &Agent, trouble: &Trouble) -> Result<(), String> {
        let number = self.agent(agent)?;
        let world = &mut *self.world;
        let done = match trouble {
            Trouble::Lose(None) => world.lose_agent(number),
            Trouble::Lose(Some(time)) => {
                let lost = world.lose_agent(number);
                self.pass(*time).await?;
                lost && self.world.return_agent(number)
            }
            Trouble::Return => world.return_agent(number),
            Trouble::Restart => world.restart_agent(number),
            Trouble::Renew => world.renew_agent(number),
            Trouble::Drain(time) => world.drain_agent(number, *time),
            Trouble::LoseMachine(time) => world.lose_machine(number, *time),
            Trouble::MarkGone(time) => world.mark_agent_gone(number, *time),
        };
        if done { Ok(()) } else { cannot(format!("that cannot happen to {} now", agent_name(number))) }
    }

    async fn etcd(&mut self, etcd: &Etcd) -> Result<(), String> {
        let world = &*self.world;
        match etcd {
            Etcd::Down(time) => world.cut_store_off(*time),
            Etcd::Slow(slowest, time) => world.slow_store(*slowest, *time),
            Etcd::WithoutQuorum(time) => world.lose_quorum(*time),
            Etcd::LateWrites(late, time) => world.hold_writes(*late, *time),
            Etcd::LateNews(late, time) => world.hold_news(*late, *time),
            Etcd::Compacted => world.compact().await,
            Etcd::LosesLease => {
                if !world.lose_lease().await {
                    return cannot("nobody leads");
                }
            }
            Etcd::Snapshot => self.snapshot = Some(world.snapshot_store()),
            Etcd::Restored => match &self.snapshot {
                Some(snapshot) => world.restore_store(snapshot).await,
                None => return cannot("there is no snapshot of etcd"),
            },
            Etcd::Full => world.fill_store(true),
            Etcd::Room => world.fill_store(false),
        }
        Ok(())
    }

    fn mesos(&self, mesos: &Mesos) {
        let world = &*self.world;
        match mesos {
            Mesos::Breaks => {
                world.trace.line("the connection to Mesos breaks");
                world.net.cut_mesos();
            }
            Mesos::FailsOver(after, keeps) => world.fail_master_over(*after, *keeps),
            Mesos::Slow(delay, time) => world.slow_master(*delay, *time),
            Mesos::TakesOffersBack => world.rescind_all(),
            Mesos::DropsKills(number) => world.drop_kills(*number),
            Mesos::LosesUpdates(number) => world.disturb_updates(*number, false),
            Mesos::DoublesUpdates(number) => world.disturb_updates(*number, true),
            Mesos::FalseEnds(number) => {
                world
                    .trace
                    .line(format!("the master tells of {number} tasks that they ended, which is not so"));
                world.net.set_false_ends(*number);
            }
            Mesos::DelaysUpdates(delay, time) => world.delay_updates(*delay, *time),
        }
    }

    async fn control(&mut self, control: &Control) -> Result<(), String> {
        let world = &mut *self.world;
        let done = match control {
            Control::Start => {
                world.start_controller();
                true
            }
            Control::Standby => world.start_standby(),
            Control::Crash => world.crash_controller().await,
            Control::Stop => world.stop_controller().await,
            Control::CutOff(time) => world.cut_controller_off(*time),
            Control::Pause(time, suspended) => world.pause_controller(*time, *suspended),
        };
        if done { Ok(()) } else { cannot("no controller runs, or too many do") }
    }

    /// Lets time pass.
    pub(super) async fn pass(&mut self, time: Duration) -> Result<(), String> {
        let between =
            LOOKS.iter().find(|(longest, _)| time <= *longest).map_or(RARE_LOOKS, |(_, between)| *between);
        let until = self.world.trace.now() + time;
        loop {
            let left = until.saturating_sub(self.world.trace.now());
            if left.is_zero() {
                return Ok(());
            }
            self.world.pass(left.min(between)).await;
            self.look().await?;
        }
    }

    /// What must always hold.
    async fn look(&mut self) -> Result<(), String> {
        if let Some(violation) = self.world.trace.violated() {
            return Err(violation);
        }
        let (now, leaders) = (self.world.trace.now(), self.world.leaders());
        self.rivals_since = if leaders.len() > 1 { self.rivals_since.or(Some(now)) } else { None };
        if self.rivals_since.is_some_and(|since| now.saturating_sub(since) > RIVALRY) {
            let names: Vec<String> = leaders.iter().map(ToString::to_string).collect();
            return Err(format!("two leaders at once: {}", names.join(" and ")));
        }
        let writes = self.world.writes();
        if self.looked_at == Some(writes) {
            return self.check_standing();
        }
        self.looked_at = Some(writes);
        let view = self.world.view().await;
        self.events.take(&view);
        self.launched
            .extend(self.world.mesos.tasks().into_iter().map(|task| task.task_id.as_str().to_owned()));
        self.check_standing()
    }

    /// As many serve as always must.
    fn check_standing(&self) -> Result<(), String> {
        for (number, cluster) in &self.standing {
            let serving = self.processes(cluster).iter().filter(|seen| seen.serving).count();
            if serving < *number as usize {
                return Err(format!("only {serving} processes of {cluster} serve"));
            }
        }
        Ok(())
    }

    /// So many launches at most in that time.
    async fn launches(&mut self, most: usize, time: Duration) -> Result<(), String> {
        self.look().await?;
        let before = self.launched.clone();
        self.pass(time).await?;
        let new: Vec<&str> = self.launched.difference(&before).map(String::as_str).collect();
        if new.len() <= most { Ok(()) } else { Err(format!("{} launches: {}", new.len(), new.join(" "))) }
    }

    async fn compare_events(&mut self, cluster: &str, written: &[EventLine]) -> Result<(), String> {
        // They are written a moment after what they tell of.
        self.pass(Duration::from_secs(3)).await?;
        let news = self.events.news(cluster);
        self.events.looked(cluster);
        if self.aloud {
            println!("expect events of {cluster}");
            for line in &news {
                println!("  {}", print(line));
            }
        }
        match difference(written, &news) {
            Some(_) if self.aloud => Ok(()),
            Some(difference) => Err(difference),
            None => Ok(()),
        }
    }
}
