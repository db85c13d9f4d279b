//! A case: a capture, and what playing it again needs besides sending its calls.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;

use crate::{
    cast::Cast,
    compare::Rules,
    model::Transcript,
    replay::Replay,
    target::{Action, Masters, Setup},
    unify::Difference,
};

/// What is done at some place of the capture.
#[derive(Clone)]
pub enum Step {
    /// An [`Action`], with an argument in which the capture's ids are replaced by the target's.
    Control(Action, String),
    /// Whatever else.
    Run(Hook),
}

/// Code that runs at some place of the capture.
pub type Hook = Arc<dyn for<'a> Fn(&'a mut Replay<'_>) -> BoxFuture<'a, Result<(), String>> + Send + Sync>;

/// A check of what came beyond comparing it.
pub type Check = fn(&Transcript, &Transcript, f64) -> Vec<Difference>;

/// The place of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the first note that contains this.
    Note(&'static str),
    /// Before the request on this connection.
    Before(&'static str),
    /// After the response on this connection.
    After(&'static str),
}

/// A case.
#[derive(Clone)]
pub struct Case {
    /// The capture's name.
    pub capture: &'static str,
    /// Master and agents.
    pub setup: Setup,
    /// What is done besides sending calls.
    pub steps: Vec<(Place, Step)>,
    /// How long to wait before a request, in recorded seconds; elsewhere waits of the recorder are cut short.
    pub pauses: BTreeMap<&'static str, f64>,
    /// Requests that are not sent again, with all that came on their connections.
    pub left_out: Vec<&'static str>,
    /// How it is compared.
    pub rules: Rules,
    /// Further checks.
    pub checks: Vec<Check>,
    /// What it needs of a master that is not its own, and that a control script sees to.
    pub needs: Vec<&'static str>,
    /// The custom executors: their command replaces that of the recorder's.
    pub cast: Option<Cast>,
    /// Texts of the capture that depend on a flag that this case sets otherwise.
    pub edits: Vec<(&'static str, &'static str)>,
    /// Why it is known to fail against the sandbox. It is reported, counted, and a failure once it passes.
    pub known: Option<&'static str>,
    /// Stop after this note, as if the capture ended there.
    pub until: Option<&'static str>,
}

impl Case {
    /// A case that needs nothing but its capture.
    pub fn new(capture: &'static str) -> Self {
        Self {
            capture,
            setup: Setup::default(),
            steps: Vec::new(),
            pauses: BTreeMap::new(),
            left_out: Vec::new(),
            rules: Rules::default(),
            checks: Vec::new(),
            needs: Vec::new(),
            cast: None,
            edits: Vec::new(),
            known: None,
            until: None,
        }
    }

    /// With master and agents set up like this.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        change(&mut self.setup);
        self
    }

    /// Does something that frameworks cannot do.
    #[must_use]
    pub fn control(mut self, place: Place, action: Action, argument: &str) -> Self {
        self.steps.push((place, Step::Control(action, argument.to_owned())));
        self
    }

    /// Runs code.
    #[must_use]
    pub fn step(mut self, place: Place, hook: Hook) -> Self {
        self.steps.push((place, Step::Run(hook)));
        self
    }

    /// Waits before a request as long as the recorder did: silence is part of the recording there.
    #[must_use]
    pub fn pause(mut self, connection: &'static str, seconds: f64) -> Self {
        self.pauses.insert(connection, seconds);
        self
    }

    /// Does not send these requests.
    #[must_use]
    pub fn leave_out(mut self, connections: &[&'static str]) -> Self {
        self.left_out.extend(connections);
        self
    }

    /// Compares by other rules.
    #[must_use]
    pub fn rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }

    /// Checks what came in one more way.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Says why it cannot be played to just any master.
    #[must_use]
    pub fn needs(mut self, what: &'static str) -> Self {
        self.needs.push(what);
        self
    }

    /// Says why it fails against the sandbox.
    #[must_use]
    pub fn known(mut self, why: &'static str) -> Self {
        self.known = Some(why);
        self
    }

    /// Ends at a note.
    #[must_use]
    pub fn until(mut self, note: &'static str) -> Self {
        self.until = Some(note);
        self
    }

    /// Has custom executors.
    #[must_use]
    pub fn cast(mut self, cast: Cast) -> Self {
        self.cast = Some(cast);
        self
    }

    /// Expects another text than the recorded one.
    #[must_use]
    pub fn edit(mut self, recorded: &'static str, here: &'static str) -> Self {
        self.edits.push((recorded, here));
        self
    }

    /// What a master that was not made for the case has to be able to do for it.
    pub fn wants(&self) -> Vec<String> {
        let mut all: Vec<String> = self.needs.iter().map(|&need| need.to_owned()).collect();
        let flags = self.setup.flags();
        if !flags.is_empty() {
            all.push(format!("flags {}", flags.join(" ")));
        }
        match self.setup.masters {
            Masters::One => {}
            Masters::Two => all.push("a standby master".to_owned()),
            Masters::Leaderless => all.push("a master without a leader".to_owned()),
        }
        let control = self.steps.iter().filter_map(|(_, step)| match step {
            Step::Control(action, _) => Some(action.to_string()),
            Step::Run(_) => None,
        });
        for action in control {
            if !all.contains(&action) {
                all.push(action);
            }
        }
        all
    }
}
