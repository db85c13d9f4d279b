//! What a controller counts, under the names that controller-runtime and its dashboards use.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder},
    metrics::{TypedMetric, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::Stats;

/// The metrics of all controllers of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    families: Families,
    queues: Arc<Queues>,
}

#[derive(Debug, Clone)]
struct Families {
    reconciles: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    panics: Family<Labels, Counter>,
    timeouts: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    active: Family<Labels, Gauge>,
    most: Family<Labels, Gauge>,
    queue_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    work_seconds: Family<Labels, Histogram, fn() -> Histogram>,
}

/// A queue that can be asked for its numbers at the time of a scrape.
pub(crate) trait Observable: Send + Sync {
    fn stats(&self) -> Stats;
}

/// A controller's name and its queue.
type Observed = (Arc<str>, Weak<dyn Observable>);

/// Queues are read at scrape time: ages grow without an event that could set a gauge.
#[derive(Default)]
struct Queues {
    of: Mutex<Vec<Observed>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels {
    controller: Arc<str>,
    result: Option<&'static str>,
    /// The queue metrics carry the controller's name twice, as their originals do.
    name: bool,
}

impl Labels {
    fn controller(name: &Arc<str>) -> Self {
        Self { controller: Arc::clone(name), result: None, name: false }
    }

    fn queue(name: &Arc<str>) -> Self {
        Self { controller: Arc::clone(name), result: None, name: true }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("controller", &*self.controller).encode(encoder.encode_label())?;
        if self.name {
            ("name", &*self.controller).encode(encoder.encode_label())?;
        }
        if let Some(result) = self.result {
            ("result", result).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

fn histogram() -> Histogram {
    // From a view that is in memory anyway to a call that runs into its time limit.
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

impl Default for Families {
    fn default() -> Self {
        let histograms = || Family::new_with_constructor(histogram as fn() -> Histogram);
        Self {
            reconciles: Family::default(),
            errors: Family::default(),
            panics: Family::default(),
            timeouts: Family::default(),
            seconds: histograms(),
            active: Family::default(),
            most: Family::default(),
            queue_seconds: histograms(),
            work_seconds: histograms(),
        }
    }
}

impl Metrics {
    /// Makes the metrics part of `registry`. Call it once.
    pub fn register(&self, registry: &mut Registry) {
        let f = &self.families;
        let controller = registry.sub_registry_with_prefix("controller_runtime");
        // Counters get their `_total` from the encoder.
        controller.register("reconcile", "Reconciliations per controller and result", f.reconciles.clone());
        controller.register("reconcile_errors", "Reconciliations that failed", f.errors.clone());
        controller.register("reconcile_panics", "Reconciliations that panicked", f.panics.clone());
        controller.register("reconcile_timeouts", "Reconciliations that ran out of time", f.timeouts.clone());
        controller.register("reconcile_time_seconds", "Length of a reconciliation", f.seconds.clone());
        controller.register("active_workers", "Reconciliations that run now", f.active.clone());
        controller.register(
            "max_concurrent_reconciles",
            "Reconciliations that may run at once",
            f.most.clone(),
        );
        let queue = registry.sub_registry_with_prefix("workqueue");
        queue.register("queue_duration_seconds", "Time from due to started", f.queue_seconds.clone());
        queue.register("work_duration_seconds", "Time from started to done", f.work_seconds.clone());
        registry.register_collector(Box::new(Arc::clone(&self.queues)));
    }

    pub(crate) fn controller(
        &self,
        name: &Arc<str>,
        concurrency: usize,
        queue: Weak<dyn Observable>,
    ) -> Recorder {
        let mut queues = self.queues.of.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|(other, queue)| other != name && queue.strong_count() > 0);
        queues.push((Arc::clone(name), queue));
        drop(queues);
        let most = i64::try_from(concurrency).unwrap_or(i64::MAX);
        self.families.most.get_or_create(&Labels::controller(name)).set(most);
        // So that a rate over these begins at zero and not at the first failure.
        for family in [&self.families.errors, &self.families.panics, &self.families.timeouts] {
            drop(family.get_or_create(&Labels::controller(name)));
        }
        Recorder {
            families: self.families.clone(),
            labels: Labels::controller(name),
            queue: Labels::queue(name),
        }
    }
}

/// The metrics of one controller.
#[derive(Debug)]
pub(crate) struct Recorder {
    families: Families,
    labels: Labels,
    queue: Labels,
}

/// What a run came to, as a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    Success,
    Requeue,
    Failed,
    Panicked,
    TimedOut,
}

impl Recorder {
    pub(crate) fn started(&self, waited: Duration) {
        self.families.queue_seconds.get_or_create(&self.queue).observe(waited.as_secs_f64());
        self.families.active.get_or_create(&self.labels).inc();
    }

    pub(crate) fn finished(&self, ran: Ran, took: Duration) {
        let f = &self.families;
        f.active.get_or_create(&self.labels).dec();
        f.seconds.get_or_create(&self.labels).observe(took.as_secs_f64());
        f.work_seconds.get_or_create(&self.queue).observe(took.as_secs_f64());
        let result = match ran {
            Ran::Success => "success",
            Ran::Requeue => "requeue_after",
            Ran::Failed | Ran::Panicked | Ran::TimedOut => "error",
        };
        f.reconciles.get_or_create(&Labels { result: Some(result), ..self.labels.clone() }).inc();
        if result == "error" {
            f.errors.get_or_create(&self.labels).inc();
        }
        match ran {
            Ran::Panicked => f.panics.get_or_create(&self.labels).inc(),
            Ran::TimedOut => f.timeouts.get_or_create(&self.labels).inc(),
            Ran::Success | Ran::Requeue | Ran::Failed => 0,
        };
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

impl Collector for Queues {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let queues = self.of.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stats: Vec<(Labels, Stats)> = queues
            .iter()
            .filter_map(|(name, queue)| Some((Labels::queue(name), queue.upgrade()?.stats())))
            .collect();
        let mut gauge = |name: &str, help: &str, read: fn(&Stats) -> f64| {
            let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
            for (labels, stats) in &stats {
                family.get_or_create(labels).set(read(stats));
            }
            family.encode(encoder.encode_descriptor(name, help, None, Gauge::<f64, AtomicU64>::TYPE)?)
        };
        gauge("workqueue_depth", "Keys that are due", |s| s.depth as f64)?;
        gauge(
            "workqueue_longest_running_processor_seconds",
            "Age of the reconciliation that has run longest",
            |s| s.longest_running.as_secs_f64(),
        )?;
        gauge("workqueue_unfinished_work_seconds", "Sum of the ages of running reconciliations", |s| {
            s.unfinished.as_secs_f64()
        })?;
        let mut counter = |name: &str, help: &str, read: fn(&Stats) -> u64| {
            let family = Family::<Labels, Counter>::default();
            for (labels, stats) in &stats {
                family.get_or_create(labels).inc_by(read(stats));
            }
            family.encode(encoder.encode_descriptor(name, help, None, Counter::<u64, AtomicU64>::TYPE)?)
        };
        counter("workqueue_adds", "Keys queued", |s| s.adds)?;
        counter("workqueue_retries", "Keys queued again after a failure", |s| s.retries)?;
        counter("workqueue_refused", "Keys not queued because the queue was full", |s| s.refused)
    }
}
