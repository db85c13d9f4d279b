//! Which controller the command line speaks to: `--server`, `OVERLORD_SERVER`, or a context of
//! `~/.config/overlord/config.toml`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::{failure::Failure, settings::file::toml_failure};

/// Where a controller listens unless told otherwise.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8880";

/// Options of every command that asks a controller.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the controller's API [file: server of the context in ~/.config/overlord/config.toml;
    /// default: 127.0.0.1:8880]
    #[arg(long, value_name = "URL", env = "OVERLORD_SERVER", help_heading = "Server")]
    pub(crate) server: Option<String>,

    /// Context of ~/.config/overlord/config.toml to take the server from [file: current]
    #[arg(long, value_name = "NAME", env = "OVERLORD_CONTEXT", help_heading = "Server")]
    pub(crate) context: Option<String>,
}

/// `~/.config/overlord/config.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The context used when none is named.
    current: Option<String>,
    /// Controllers by a name of one's own.
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    server: String,
}

/// The server and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) origin: String,
}

impl ServerArgs {
    /// Finds the server.
    pub(crate) fn resolve(&self) -> Result<Server, Failure> {
        let path = path();
        let text = match &path {
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(Failure::io(path.display(), &error)),
            },
            None => None,
        };
        let name = path.map_or_else(String::new, |path| path.display().to_string());
        self.pick(&name, text.as_deref())
    }

    fn pick(&self, file_name: &str, text: Option<&str>) -> Result<Server, Failure> {
        if let Some(url) = &self.server {
            return Ok(Server { url: checked(url)?, origin: "--server or OVERLORD_SERVER".to_owned() });
        }
        let file: File = match text {
            Some(text) => toml::from_str(text).map_err(|error| toml_failure(file_name, text, &error))?,
            None => File::default(),
        };
        let Some(name) = self.context.as_ref().or(file.current.as_ref()) else {
            return Ok(Server { url: DEFAULT_SERVER.to_owned(), origin: "default".to_owned() });
        };
        let Some(context) = file.contexts.get(name) else {
            let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
            let hint = if known.is_empty() {
                format!(
                    "add [contexts.{name}] with server = \"http://...\" to ~/.config/overlord/config.toml"
                )
            } else {
                format!("there are {}", known.join(", "))
            };
            return Err(Failure::usage(format!("there is no context {name:?}"), hint));
        };
        Ok(Server { url: checked(&context.server)?, origin: format!("{file_name}, context {name}") })
    }
}

fn checked(url: &str) -> Result<String, Failure> {
    let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if authority.is_empty() || authority.contains('/') {
        return Err(Failure::usage(
            format!("{url:?} is no server address"),
            "write host:port or http://host:port",
        ));
    }
    Ok(format!("http://{authority}"))
}

fn path() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|base| !base.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
    Some(base.join("overlord/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "current = \"test\"\n[contexts.test]\nserver = \"http://t:1\"\n[contexts.prod]\nserver = \"http://p:2/\"\n";

    #[test]
    fn the_flag_wins_then_the_named_context_then_the_current_one() {
        let with = |server: Option<&str>, context: Option<&str>| ServerArgs {
            server: server.map(str::to_owned),
            context: context.map(str::to_owned),
        };
        assert_eq!(with(Some("http://x:9/"), Some("prod")).pick("f", Some(FILE)).unwrap().url, "http://x:9");
        assert_eq!(with(None, Some("prod")).pick("f", Some(FILE)).unwrap().url, "http://p:2");
        assert_eq!(with(None, None).pick("f", Some(FILE)).unwrap().url, "http://t:1");
        assert_eq!(with(None, None).pick("f", None).unwrap().url, DEFAULT_SERVER);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let args = ServerArgs { server: None, context: Some("nope".into()) };
        assert!(args.pick("f", Some(FILE)).unwrap_err().hint.contains("prod, test"));
        let failure = ServerArgs::default().pick("f", Some("curent = \"x\"\n")).unwrap_err();
        assert!(failure.message.starts_with("f:1:1: unknown field `curent`"), "{failure}");
        for bad in ["https://x:1", "", "x:1/path"] {
            let args = ServerArgs { server: Some(bad.into()), context: None };
            assert!(args.pick("f", None).is_err(), "{bad}");
        }
        let args = ServerArgs { server: Some("127.0.0.1:8880".into()), context: None };
        assert_eq!(args.pick("f", None).unwrap().url, DEFAULT_SERVER);
    }
}
