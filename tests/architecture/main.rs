//! Holds the shape of the code: which crate may use which, and that mechanism knows no policy.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{collections::BTreeMap, fs, path::Path};

/// Crate folder -> workspace crates it may use. The arrows go one way: each row uses rows above it only.
const TABLE: [(&str, &[&str]); 11] = [
    ("src/api", &[]),
    ("src/reconcile", &[]),
    ("src/mesos", &[]),
    ("src/store", &["reconcile"]),
    ("src/placement", &["api"]),
    ("src/engines", &["api"]),
    ("controllers", &["api", "reconcile", "store", "mesos", "placement", "engines"]),
    ("src/executor", &["api", "store", "mesos", "engines"]),
    ("src/server", &["api", "store", "controllers"]),
    ("src/sandbox", &["mesos", "store"]),
    (
        "src/overlord",
        &[
            "api",
            "reconcile",
            "mesos",
            "store",
            "placement",
            "engines",
            "controllers",
            "executor",
            "server",
            "sandbox",
        ],
    ),
];

/// What may lie at the top level besides dot files.
const TOP: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "controllers",
    "manifests",
    "examples",
    "tests",
    "CHANGELOG.md",
    "README.md",
    "LICENSE",
    "Makefile",
    "target",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn every_crate_uses_only_what_its_row_allows() {
    for (folder, allowed) in TABLE {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let used = ["dependencies", "build-dependencies"]
            .iter()
            .filter_map(|section| manifest.get(*section)?.as_table())
            .flat_map(toml::Table::keys)
            .filter_map(|name| name.strip_prefix("overlord-"));
        for name in used {
            assert!(allowed.contains(&name), "{folder} must not use {name}");
        }
    }
}

#[test]
fn every_crate_has_a_row() {
    let rows: Vec<&str> = TABLE.iter().map(|(folder, _)| *folder).collect();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = format!("src/{}", entry.unwrap().file_name().to_str().unwrap());
        assert!(rows.contains(&name.as_str()), "{name} has no row");
    }
}

#[test]
fn mechanism_knows_no_policy() {
    for folder in ["src/reconcile", "src/mesos", "src/store"] {
        each_file(&root().join(folder), &mut |path, text| {
            assert!(!text.to_lowercase().contains("redis"), "{} names a policy", path.display());
        });
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_of_readable_length() {
    let mut lengths = BTreeMap::new();
    for folder in ["src", "controllers", "tests"] {
        each_file(&root().join(folder), &mut |path, text| {
            if path.extension().is_some_and(|ending| ending == "rs") {
                assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
                lengths.insert(path.to_path_buf(), text.lines().count());
            }
        });
    }
    assert!(lengths.len() > 100, "the walk found {} files only", lengths.len());
    for (path, lines) in lengths {
        assert!(lines <= 600, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_top_level_is_as_agreed() {
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || TOP.contains(&name.as_str()), "{name} does not belong at the top");
    }
}

fn each_file(folder: &Path, visit: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("fixtures") {
                each_file(&path, visit);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            visit(&path, &text);
        }
    }
}

/// Written by `overlord schema > manifests/overlord.schema.json`.
#[test]
fn the_published_schema_is_the_one_in_force() {
    let text = fs::read_to_string(root().join("manifests/overlord.schema.json")).unwrap();
    let published: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(published, overlord_api::json_schema());
}
