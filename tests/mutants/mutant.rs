//! One mutant, as its file tells of it.

use std::{fs, path::Path};

use serde::Deserialize;

/// What stands in a replacement for "this mutant is switched on".
const SWITCH: &str = "MUTANT";

/// The variable that switches a mutant on.
pub(crate) const VARIABLE: &str = "OVERLORD_MUTANT";

/// An edit of one file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// Below the workspace.
    pub(crate) file: String,
    /// Occurs exactly once there.
    pub(crate) find: String,
    replace: String,
}

/// See the module.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// The file's name.
    #[serde(skip)]
    pub(crate) name: String,
    /// The rule that is taken out, and what it keeps from happening.
    why: String,
    file: String,
    find: String,
    replace: String,
    /// Further edits, when one place alone is not the whole rule.
    #[serde(default)]
    also: Vec<Edit>,
    /// In so many worlds at most it is caught: random ones, or those of its script, of which it has three otherwise.
    #[serde(default)]
    pub(crate) seeds: u64,
    /// The test of the simulation that catches it, in place of random worlds.
    #[serde(default)]
    pub(crate) test: Option<String>,
    /// The script of `tests/scripts` that catches it, in place of random worlds.
    #[serde(default)]
    pub(crate) script: Option<String>,
    /// Words of the oracle.
    pub(crate) caught: String,
}

impl Mutant {
    /// All of a folder, in the order of their names.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>, String> {
        let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut mutants = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mut mutant: Self =
                toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            mutant.name =
                path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            mutants.push(mutant);
        }
        mutants.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(mutants)
    }

    /// Whether it says all that it must.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { name, why, seeds, test, script, caught, .. } = self;
        let wrong = |what: &str| Err(format!("{name}.toml: {what}"));
        if why.trim().len() < 20 {
            return wrong("`why` does not say why");
        }
        if caught.trim().len() < 10 {
            return wrong("`caught` are too few words to tell one oracle from another");
        }
        let hunted = match (test, script) {
            (Some(_), Some(_)) => false,
            (Some(_), None) => *seeds == 0,
            (None, Some(_)) => true,
            (None, None) => *seeds > 0,
        };
        if !hunted {
            return wrong(
                "one of `seeds`, `test` and `script`, or the last with `seeds`, says where it is hunted",
            );
        }
        for edit in self.edits() {
            if !edit.replace.contains(SWITCH) {
                return wrong("a replacement without MUTANT is in force for all others too");
            }
            if edit.replace.contains(&edit.find) && edit.replace.len() == edit.find.len() {
                return wrong("a replacement that changes nothing");
            }
        }
        Ok(())
    }

    /// Its edits.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        let Self { file, find, replace, .. } = self;
        let first = Edit { file: file.clone(), find: find.clone(), replace: replace.clone() };
        std::iter::once(first).chain(self.also.iter().cloned()).collect()
    }

    /// The text that takes the place of what an edit finds.
    pub(crate) fn replacement(&self, edit: &Edit) -> String {
        let switch = format!("matches!(std::env::var(\"{VARIABLE}\").as_deref(), Ok(\"{}\"))", self.name);
        edit.replace.replace(SWITCH, &switch)
    }
}
