//! How a command ends: exit codes, and one sentence with the next step.

use std::fmt;

/// Exit codes are interfaces; `overlord --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something was refused or went wrong.
    Failed = 1,
    /// The command line or a settings file is wrong. clap uses the same number.
    Usage = 2,
    /// Waiting took longer than `--timeout`.
    TimedOut = 3,
    /// No controller answers.
    NoServer = 4,
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    /// With what the process ends.
    pub(crate) exit: Exit,
    /// One sentence, lower case. Empty when everything was said already.
    pub(crate) message: String,
    /// The next step.
    pub(crate) hint: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: hint.into() }
    }

    /// Something was refused or went wrong.
    pub(crate) fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message, hint)
    }

    /// The command line or a settings file is wrong.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message, hint)
    }

    /// The messages are out already, only the exit code is left.
    pub(crate) fn reported(exit: Exit) -> Self {
        Self::new(exit, "", "")
    }

    /// An operation on a file or a socket.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::failed(format!("{what}: {error}"), "")
    }

    /// Prints it as `error: ...` with the hint below.
    pub(crate) fn report(&self) {
        if self.message.is_empty() {
            return;
        }
        let red = anstyle::AnsiColor::Red.on_default().bold();
        anstream::eprintln!("{red}error{red:#}: {}", self.message);
        if !self.hint.is_empty() {
            anstream::eprintln!("  {}", self.hint);
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

/// A list of an error and all that caused it, for one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
