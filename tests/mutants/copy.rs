//! The copy of the workspace in which all mutants are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::mutant::Mutant;

/// What is left out: what is built, and what is no source.
const LEFT_OUT: [&str; 3] = ["target", ".git", "node_modules"];

/// One place of a file, and what is put there.
struct Span {
    from: usize,
    to: usize,
    mutant: String,
    text: String,
}

/// Where the copy is: always the same place, so that little is built again.
pub(crate) fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants")
}

/// The edited texts, by file. Each edit applies exactly once, and no two touch.
pub(crate) fn edited(workspace: &Path, mutants: &[Mutant]) -> Result<BTreeMap<String, String>, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    let mut faults = Vec::new();
    for mutant in mutants {
        for edit in mutant.edits() {
            let name = &mutant.name;
            let path = workspace.join(&edit.file);
            if !texts.contains_key(&edit.file) {
                match fs::read_to_string(&path) {
                    Ok(text) => texts.insert(edit.file.clone(), text),
                    Err(error) => {
                        faults.push(format!("{name}.toml: {}: {error}", edit.file));
                        continue;
                    }
                };
            }
            let Some(text) = texts.get(&edit.file) else { continue };
            let places: Vec<usize> = text.match_indices(&edit.find).map(|(at, _)| at).collect();
            let [from] = places.as_slice() else {
                let times = places.len();
                faults.push(format!(
                    "{name}.toml: {} holds the text to be found {times} times, not once",
                    edit.file
                ));
                continue;
            };
            let span = Span {
                from: *from,
                to: from + edit.find.len(),
                mutant: name.clone(),
                text: mutant.replacement(&edit),
            };
            spans.entry(edit.file.clone()).or_default().push(span);
        }
    }
    for (file, spans) in &mut spans {
        spans.sort_by_key(|span| span.from);
        for pair in spans.windows(2) {
            if let [a, b] = pair
                && a.to > b.from
            {
                faults.push(format!("{}.toml and {}.toml edit the same place of {file}", a.mutant, b.mutant));
            }
        }
        if let Some(text) = texts.get_mut(file) {
            for span in spans.iter().rev().filter(|_| faults.is_empty()) {
                text.replace_range(span.from..span.to, &span.text);
            }
        }
    }
    if faults.is_empty() { Ok(texts) } else { Err(faults.join("\n")) }
}

/// The manifest of the workspace with another version in it: cargo tells the crates of two workspaces apart by name and
/// version only, not by where they lie, and both are built in one target folder.
fn renamed(manifest: &str) -> Result<String, String> {
    let package = manifest.find("[workspace.package]").ok_or("Cargo.toml has no [workspace.package]")?;
    let version = manifest[package..].find("version = \"").ok_or("Cargo.toml has no version")?;
    let end = package + version + "version = \"".len();
    let end = end + manifest[end..].find('"').ok_or("Cargo.toml has no version")?;
    Ok(format!("{}-mutants{}", &manifest[..end], &manifest[end..]))
}

/// Makes the copy. Files that are there already and are the same are left alone.
pub(crate) fn make(
    workspace: &Path,
    scratch: &Path,
    edited: &BTreeMap<String, String>,
) -> Result<(), String> {
    let mut files = BTreeSet::new();
    list(workspace, Path::new(""), &mut files)?;
    let mut old = BTreeSet::new();
    if scratch.exists() {
        list(scratch, Path::new(""), &mut old)?;
    }
    for gone in old.difference(&files) {
        let path = scratch.join(gone);
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    // Cargo makes its own of the one that is there.
    if old.contains(Path::new("Cargo.lock")) {
        files.remove(Path::new("Cargo.lock"));
    }
    for file in &files {
        let (from, to) = (workspace.join(file), scratch.join(file));
        let named = |error: std::io::Error| format!("{}: {error}", to.display());
        let unreadable = |error: std::io::Error| format!("{}: {error}", from.display());
        let bytes = match edited.get(&*file.to_string_lossy()) {
            Some(text) => text.clone().into_bytes(),
            None if *file == Path::new("Cargo.toml") => {
                renamed(&fs::read_to_string(&from).map_err(unreadable)?)?.into_bytes()
            }
            None => fs::read(&from).map_err(unreadable)?,
        };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(named)?;
        }
        fs::write(&to, bytes).map_err(named)?;
    }
    Ok(())
}

/// All files below a folder.
fn list(root: &Path, below: &Path, files: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let folder = root.join(below);
    let named = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(&folder).map_err(named)? {
        let entry = entry.map_err(named)?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let path = below.join(&name);
        let kind = entry.file_type().map_err(named)?;
        if kind.is_dir() {
            list(root, &path, files)?;
        } else if kind.is_file() {
            files.insert(path);
        }
    }
    Ok(())
}
