//! Output formats that several commands share.

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

/// `-o`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table with more columns.
    Wide,
    /// JSON, as the API gives it.
    Json,
    /// YAML. For one cluster: its accepted spec with all defaults, ready to be applied.
    Yaml,
    /// Names alone.
    Name,
}

/// Pretty JSON with a line end.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("no JSON: {error}"), ""))?;
    Ok(text + "\n")
}

/// YAML.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_yaml::to_string(value).map_err(|error| Failure::failed(format!("no YAML: {error}"), ""))
}

/// Writes to standard output. A reader that went away (`| head`) ends the command quietly.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(Failure::reported(crate::failure::Exit::Failed))
        }
        Err(error) => Err(Failure::io("standard output", &error)),
    }
}
