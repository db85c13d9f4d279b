//! A whole run: rounds of strikes and changes, each followed by a quiet phase in which all must become as
//! declared, and then nothing must be written.

use std::time::Duration;

use overlord_reconcile::{Clock as _, SystemClock};
use overlord_tests::{
    Authors, Counts, History, Options, Sandbox, Watch, What, Writer, eventually_within, manifest::address,
    tap::Tape,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::Value;

use crate::{
    caches::Caches,
    strikes::{Strike, Strikes},
    user::{MASTERS, QUICK, RING, User, of},
};

/// Seconds of the lease.
const LEASE: u64 = 5;

/// Strikes of a round.
const STRIKES: std::ops::RangeInclusive<u64> = 5..=9;

/// Milliseconds between two of them.
const BETWEEN: std::ops::Range<u64> = 300..2500;

/// How soon all must be as declared once nothing is broken any more. A lost update comes again after 10, 20
/// and 40 s, and the machine may be busy.
const CONVERGED: Duration = Duration::from_secs(240);

/// Nothing is written for so long.
const QUIET: Duration = Duration::from_secs(5);

/// A window without a write is found within this: what was done is told, and quarantines run out, for a while.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// Writes that each lane of the ring's writer gets confirmed before and after each round.
const ENOUGH: u64 = 5;

/// What is kept of a run for its end.
struct Run {
    sandbox: Sandbox,
    user: User,
    strikes: Strikes,
    watch: Watch,
    authors: Authors,
    caches: Caches,
    rng: SmallRng,
    clock: SystemClock,
    history: History,
    counts: Counts,
    slowest: Duration,
}

/// No round begins after `length`.
pub(crate) async fn run(seed: u64, length: Duration) {
    println!("SEED={seed}, no round begins after {length:?}");
    let options =
        Options { controller: false, lease: LEASE, keep: true, small_disks: true, ..Options::default() };
    let mut sandbox = Sandbox::start(options).await;
    println!("everything is in {}", sandbox.scratch().display());
    let tape = Tape::default();
    let authors = Authors::start(&sandbox, &tape).await;
    let watch = Watch::start(&sandbox, &[QUICK]);
    let strikes = Strikes::start(&mut sandbox, &tape).await;
    let mut user = User::default();
    user.begin(&sandbox).await;
    let caches = Caches::start(&sandbox);
    let mut run = Run {
        sandbox,
        user,
        strikes,
        watch,
        authors,
        caches,
        rng: SmallRng::seed_from_u64(seed),
        clock: SystemClock::new(),
        history: History::default(),
        counts: Counts::default(),
        slowest: Duration::ZERO,
    };
    run.converged("at the beginning").await;
    let mut rounds = 0;
    while rounds == 0 || run.clock.monotonic() < length {
        run.round(rounds).await;
        rounds += 1;
    }
    run.end(seed, rounds).await;
}

impl Run {
    fn say(&self, what: &str) {
        println!("{:8.3} s  {what}", self.clock.monotonic().as_secs_f64());
    }

    async fn round(&mut self, round: u64) {
        let infos = self.sandbox.infos(RING).await;
        let addresses: Vec<String> = infos.iter().map(address).collect();
        let writer = Writer::start_gently(&format!("r{round}"), self.rng.random(), MASTERS, &addresses);
        writer.confirm(ENOUGH).await;
        for _ in 0..self.rng.random_range(STRIKES) {
            if self.rng.random_bool(0.6) {
                let apis = self.strikes.apis();
                let said = self.user.change(&self.sandbox, &apis, &mut self.rng).await;
                self.say(&said);
            }
            let (strike, said) = self.strikes.strike(&mut self.sandbox, &self.watch, &mut self.rng).await;
            let held = said.is_some();
            self.say(&said.unwrap_or_else(|| format!("{strike:?} is spared")));
            if matches!(strike, Strike::HoldIntent | Strike::HoldLaunch) && held {
                let said = self.user.grow(&self.sandbox).await;
                self.say(&said);
                let said = self.strikes.stop_who_is_held(LEASE).await;
                self.say(&said.unwrap_or_else(|| "nothing came to be held".to_owned()));
            }
            let pause = self.rng.random_range(BETWEEN);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.strikes.mend(&mut self.sandbox).await;
        self.user.assert_declared(&self.sandbox).await;
        let when = format!("round {round}");
        let infos = self.converged(&when).await;
        writer.confirm(ENOUGH).await;
        let history = writer.stop().await;
        let ring: Vec<String> = infos.iter().filter(|info| of(info, RING)).map(address).collect();
        history.assert_kept(&ring, &when).await;
        self.say(&format!(
            "{when}: the ring kept all {} confirmed writes, {} were not confirmed",
            history.confirmed.len(),
            history.unconfirmed
        ));
        self.history.extend(history);
        let read = self.caches.read_back(&infos).await;
        assert_eq!(read.violations, Vec::<String>::new(), "{when}");
        self.say(&format!("{when}: pools kept {} writes, {} went with who had them", read.kept, read.gone));
        self.quiet(&when).await;
        self.watch.calm();
        self.judged(&when).await;
    }

    /// Waits until all is as declared; the infos.
    async fn converged(&mut self, when: &str) -> Vec<Value> {
        let since = self.clock.monotonic();
        let what = format!("{when}: all is as declared");
        let infos = eventually_within(CONVERGED, &what, || self.user.reached(&self.sandbox)).await;
        let took = self.clock.monotonic().saturating_sub(since);
        self.slowest = self.slowest.max(took);
        self.say(&format!("{when}: as declared after {took:.1?}, {} instances", infos.len()));
        infos
    }

    /// What holds at any time: nothing twice, nobody beside the leader, no controller gone.
    async fn judged(&mut self, when: &str) {
        self.watch.assert_clean(when);
        assert_eq!(self.strikes.ended(), Vec::<String>::new(), "{when}");
        let verdict = self.authors.verdict(&self.sandbox).await;
        assert_eq!(verdict.violations, Vec::<String>::new(), "{when}");
        self.counts = verdict.counts;
        self.say(&format!("{when}: {:?}", self.counts));
    }

    /// Finds a while in which nothing is written.
    async fn quiet(&self, when: &str) {
        let since = self.clock.monotonic();
        loop {
            let before = self.sandbox.etcd_revision().await;
            tokio::time::sleep(QUIET).await;
            let after = self.sandbox.etcd_revision().await;
            let waited = self.clock.monotonic().saturating_sub(since);
            if after == before {
                self.say(&format!("{when}: nothing is written for {QUIET:?}, after {waited:.1?}"));
                return;
            }
            let written = written_since(&self.authors, before);
            assert!(waited < QUIET_WITHIN, "{when}: it is not quiet after {waited:?}: {written:?}");
        }
    }

    async fn end(mut self, seed: u64, rounds: u64) {
        self.user.delete_all(&self.sandbox).await;
        self.converged("in the end").await;
        self.judged("in the end").await;
        let (processes, tasks) = self.watch.looks();
        let Self { sandbox, strikes, watch, history, counts, slowest, clock, .. } = self;
        drop(watch);
        let disks = sandbox.has_small_disks();
        let struck: Vec<(Strike, u64)> =
            strikes.counts.iter().map(|(strike, count)| (*strike, *count)).collect();
        strikes.end().await;
        sandbox.end().await;
        println!("SEED={seed}: clean after {rounds} rounds in {:.0?}", clock.monotonic());
        for (strike, count) in &struck {
            println!("{count:5}  {strike:?}");
        }
        println!(
            "{} strikes; slowest convergence {slowest:.1?}; ring: {} confirmed, {} not; {counts:?}; {processes} looks at \
             processes, {tasks} at tasks",
            struck.iter().map(|(_, count)| count).sum::<u64>(),
            history.confirmed.len(),
            history.unconfirmed,
        );
        assert!(
            counts.writes > 0 && counts.launched > 0 && processes > 0 && tasks > 0,
            "something was looked at"
        );
        // A deck is dealt in some six rounds; what is spared in one comes in another.
        if rounds >= 18 {
            let spared = |strike: &Strike| *strike == Strike::FillDisk && !disks;
            let never: Vec<Strike> = Strike::DECK
                .into_iter()
                .filter(|strike| !spared(strike) && !struck.iter().any(|(own, _)| own == strike))
                .collect();
            assert!(never.is_empty(), "never struck: {never:?}");
        }
    }
}

/// Keys that were written after a revision.
pub(crate) fn written_since(authors: &Authors, revision: i64) -> Vec<String> {
    let told = |what: What| match what {
        What::Put(key) => key,
        What::Deleted(key) => format!("{key} is deleted"),
        What::Leads { api, .. } => format!("{api} leads"),
        What::Vacant => "nobody leads".to_owned(),
    };
    authors.since(revision).into_iter().map(|changed| told(changed.what)).collect()
}
