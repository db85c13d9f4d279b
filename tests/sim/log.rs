//! The log of the real parts as lines of the story. Panics that they catch are violations.

use std::fmt::Write as _;

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
        let mut line = Line(format!("{} {}:", metadata.level(), metadata.target()));
        event.record(&mut line);
        if line.0.contains("panicked") {
            self.trace.violation(line.0);
        } else {
            self.trace.note(&line.0);
        }
    }
}
