//! What a custom executor, and a scheduler that has one, see: captures 09 to 13, and the default executor.

use std::path::Path;

use overlord_conformance::{
    case::{Case, Place},
    cast::Cast,
};

use crate::hooks;

/// Where executors come from and where they leave their transcripts.
pub(crate) struct Stage<'a> {
    /// The program.
    pub(crate) binary: &'a str,
    /// A directory for all cases.
    pub(crate) directory: &'a Path,
}

impl Stage<'_> {
    /// Executors of a capture, at the pace at which they were recorded.
    pub(crate) fn cast(&self, capture: &str, names: &[&'static str]) -> Cast {
        self.cast_at(capture, names, 1.0)
    }

    /// Executors whose tasks take that part of the recorded time.
    pub(crate) fn cast_at(&self, capture: &str, names: &[&'static str], pace: f64) -> Cast {
        Cast::new(self.binary, &self.directory.join(capture), capture, names, pace)
    }
}

/// The cases.
pub(crate) fn cases(stage: &Stage<'_>) -> Vec<Case> {
    let failures = stage.cast_at("10_executor_failures", &["exit7", "k9", "now", "never"], 0.25);
    vec![
        Case::new("09_custom_executor").with(|setup| setup.agents = 2).cast(stage.cast_at(
            "09_custom_executor",
            &["ex09"],
            0.5,
        )),
        Case::new("10_executor_failures")
            .with(|setup| {
                setup.agents = 2;
                setup.registration = Some(std::time::Duration::from_secs(3));
            })
            .rules(|rules| rules.any_offers = true)
            .edit("did not register within 1mins", "did not register within 3secs")
            .step(Place::After("ack8"), hooks::kill_executor(&failures, "k9"))
            .cast(failures),
        Case::new("11_teardown_executors")
            .with(|setup| setup.agents = 2)
            // Nothing comes of KILL; offers come once their filter is over.
            .pause("c8", 1.5)
            .rules(|rules| rules.any_offers = true)
            .cast(stage.cast("11_teardown_executors", &["good", "bad"])),
        Case::new("12_executor_probe")
            .with(|setup| setup.agents = 2)
            .cast(stage.cast("12_executor_probe", &["probe"])),
        Case::new("12b_executor_subscriptions")
            .with(|setup| setup.agents = 2)
            .cast(stage.cast("12b_executor_subscriptions", &["probe2"])),
        Case::new("12c_executor_ack_without_scheduler")
            .with(|setup| setup.agents = 2)
            // The task has ended by then, unheard.
            .pause("c3", 3.0)
            .pause("c4", 1.0)
            .cast(stage.cast("12c_executor_ack_without_scheduler", &["noack"])),
        Case::new("13_launch_group").with(|setup| setup.agents = 2),
    ]
}
