//! The log of the real parts as lines of the story. Panics that they catch are violations.

use std::fmt::Write as _;

use overlord_controllers::members::step::Step;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::trace::Trace;

/// What a replay logs.
pub(crate) fn filter() -> &'static str {
    static FILTER: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    FILTER.get_or_init(|| std::env::var("OVERLORD_SIM_LOG").unwrap_or_else(|_| "warn".to_owned()))
}

/// Writes log lines into a trace.
#[derive(Debug)]
pub(crate) struct StoryLayer {
    trace: Trace,
}

impl StoryLayer {
    pub(crate) fn new(trace: Trace) -> Self {
        Self { trace }
    }
}

struct Line(String);

/// Where the controllers say what they do next.
const STEPS: &str = "overlord_controllers::step";

/// The kind of a step.
#[derive(Default)]
struct Kind(Option<&'static str>);

impl Visit for Kind {
    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "kind" {
            self.0 = Step::KINDS.iter().copied().find(|kind| *kind == value);
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for StoryLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == STEPS {
            let mut kind = Kind::default();
            event.record(&mut kind);
            if let Some(kind) = kind.0 {
                self.trace.count(kind);
            }
        }
        let mut line = Line(format!("{} {}:", metadata.level(), metadata.target()));
        event.record(&mut line);
        if line.0.contains("panicked") {
            self.trace.violation(line.0);
        } else {
            self.trace.note(&line.0);
        }
    }
}
