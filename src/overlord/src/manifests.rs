//! Manifests from files, folders and standard input.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use overlord_api::{Document, Fault, parse_file, render_faults};
use overlord_engines::EngineRules;

use crate::failure::Failure;

/// Bytes one file may have: some hundred manifests.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// Files one folder may bring.
const MAX_FILES: usize = 1000;

/// One file as it was read.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    /// As it was named, or `<stdin>`.
    pub(crate) name: String,
    pub(crate) text: String,
}

impl ManifestFile {
    /// Its documents, each with the byte at which it begins.
    pub(crate) fn documents(&self) -> Vec<(usize, Document)> {
        let mut from = 0;
        parse_file(&self.text, &EngineRules)
            .into_iter()
            .map(|document| {
                let begin = self.text[from..].find(&document.text).map_or(from, |at| from + at);
                // An empty or repeated text must not be found twice at the same place.
                from = begin + document.text.len();
                (begin, document)
            })
            .collect()
    }

    /// Faults as snippets with carets.
    pub(crate) fn render(&self, faults: &[Fault]) -> String {
        let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        render_faults(&self.name, &self.text, faults, colour)
    }

    /// A fault that names bytes of one document, moved to where the document is in the file.
    pub(crate) fn locate(&self, begin: usize, fault: &overlord_server::view::FaultView) -> Fault {
        let within = |byte: usize| (begin + byte).min(self.text.len());
        let (mut start, mut end) = (within(fault.start), within(fault.end));
        if !self.text.is_char_boundary(start) || !self.text.is_char_boundary(end) {
            (start, end) = (begin, begin);
        }
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Fault {
            path: fault.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span: start..end,
            message: fault.message.clone(),
            hint: (!fault.hint.is_empty()).then(|| fault.hint.clone()),
        }
    }
}

/// Reads what `-f` names: a file, all `*.yaml`, `*.yml` and `*.json` of a folder in order of their
/// names, or `-` for standard input.
pub(crate) fn read(sources: &[PathBuf]) -> Result<Vec<ManifestFile>, Failure> {
    let mut files = Vec::new();
    for source in sources {
        if source.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(MAX_FILE + 1)
                .read_to_string(&mut text)
                .map_err(|error| Failure::io("standard input", &error))?;
            check_size("standard input", text.len() as u64)?;
            files.push(ManifestFile { name: "<stdin>".to_owned(), text });
        } else if source.is_dir() {
            let found = in_folder(source)?;
            if found.is_empty() {
                return Err(Failure::usage(
                    format!("{} has no *.yaml, *.yml or *.json", source.display()),
                    "name a file or another folder",
                ));
            }
            for path in found {
                files.push(read_file(&path)?);
            }
        } else {
            files.push(read_file(source)?);
        }
    }
    Ok(files)
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::io(folder.display(), &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Failure::io(folder.display(), &error))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(Failure::usage(
                format!("{} has more than {MAX_FILES} manifests", folder.display()),
                "apply it in parts",
            ));
        }
    }
    found.sort();
    Ok(found)
}

fn read_file(path: &Path) -> Result<ManifestFile, Failure> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| Failure::io(&name, &error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| Failure::io(&name, &error))?;
    check_size(&name, bytes.len() as u64)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::failed(format!("{name}: not UTF-8 at byte {}", error.utf8_error().valid_up_to()), "")
    })?;
    Ok(ManifestFile { name, text })
}

fn check_size(name: &str, size: u64) -> Result<(), Failure> {
    if size > MAX_FILE {
        return Err(Failure::failed(format!("{name} is larger than {MAX_FILE} bytes"), "split it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use overlord_server::view::FaultView;

    use super::*;

    #[test]
    fn a_fault_of_the_second_document_is_shown_at_its_place_in_the_file() {
        let file = ManifestFile { name: "f".into(), text: "a: 1\n---\nb: ä x\n".into() };
        let fault = FaultView {
            line: 1,
            column: 6,
            start: 6,
            end: 7,
            path: String::new(),
            message: "m".into(),
            hint: String::new(),
        };
        let begin = file.text.find("b:").unwrap();
        let located = file.locate(begin, &fault);
        assert_eq!((located.line, located.column), (3, 6));
        assert_eq!(&file.text[located.span], "x");
        let beyond = file.locate(begin, &FaultView { start: 500, end: 900, ..fault });
        assert_eq!(beyond.span, file.text.len()..file.text.len());
    }

    #[test]
    fn a_folder_gives_its_manifests_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "notes.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = read(&[folder.path().to_path_buf()]).unwrap();
        let texts: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["a.yml", "b.yaml", "c.json"]);
        assert!(read(&[folder.path().join("none.yaml")]).is_err());
    }
}
