//! The program as a user calls it: output, exit codes, and where settings come from. No server runs.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program without anything that this machine's user has set.
fn overlord(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlord"));
    command.args(arguments).env_clear().env("XDG_CONFIG_HOME", "/nonexistent").current_dir(root());
    command
}

fn run(arguments: &[&str]) -> Output {
    overlord(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn line(output: &Output, begin: &str) -> String {
    let text = text(&output.stdout);
    text.lines()
        .find(|line| line.starts_with(begin))
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_example_is_valid() {
    let output = run(&["validate", "-f", "examples"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let files = std::fs::read_dir(root().join("examples")).unwrap().count();
    assert_eq!(text(&output.stdout).lines().filter(|line| line.ends_with("is valid")).count(), files);
}

#[test]
fn faults_are_shown_in_the_source_and_told_by_the_exit_code() {
    let mut child = overlord(&["validate", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let manifest = "apiVersion: overlord/v1\nkind: Redis\nmetadata: {name: a}\nspec: {version: \"7.0.15\", shards: 0, \
                    resources: {memory: 64Mi}}\n";
    child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("<stdin>:4:35") && errors.contains("shards: 0") && errors.contains('^'),
        "{errors}"
    );
    assert_eq!(run(&["validate", "-f", "/nonexistent.yaml"]).status.code(), Some(1));
}

#[test]
fn without_a_controller_one_sentence_says_so() {
    // Port 1 is nobody's.
    let output = run(&["get", "clusters", "--server", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(4));
    let expected = "error: no controller answers at http://127.0.0.1:1\n  start one with `overlord sandbox` or \
                    `overlord controller`, or name another with --server\n";
    assert_eq!(text(&output.stderr), expected);
    assert_eq!(text(&output.stdout), "");
    assert!(run(&["version", "--server", "127.0.0.1:1"]).status.success());
    assert_eq!(run(&["get", "clutters"]).status.code(), Some(2));
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("o.toml");
    std::fs::write(&file, "[mesos]\nmasters = [\"file:5050\"]\nroles = [\"file\"]\nframework = \"file\"\n")
        .unwrap();
    let output = overlord(&["config", "show", "--config", file.to_str().unwrap(), "--mesos", "flag:5050"])
        .env("OVERLORD_MESOS", "variable:5050")
        .env("OVERLORD_MESOS_ROLES", "variable")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(line(&output, "mesos.masters"), "mesos.masters flag:5050 flag");
    assert_eq!(line(&output, "mesos.roles"), "mesos.roles variable variable");
    assert_eq!(line(&output, "mesos.framework"), "mesos.framework file file");
    assert_eq!(line(&output, "mesos.user"), "mesos.user root default");
    std::fs::write(&file, "[mesos]\nmaster = \"x\"\n").unwrap();
    let output = overlord(&["config", "show"]).env("OVERLORD_CONFIG", &file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("o.toml:2:1: unknown field `master`"), "{}", text(&output.stderr));
}

/// The published settings file: as it is, and with every key switched on.
#[test]
fn the_published_settings_are_the_defaults_and_every_key_is_known() {
    let published = root().join("manifests/overlord.toml");
    let shown = |path: &Path| {
        let output = run(&["config", "show", "--config", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let settings = |text: &str| -> Vec<(String, String, String)> {
        let rows = text.lines().skip_while(|line| !line.starts_with("SETTING")).skip(1);
        rows.take_while(|line| !line.is_empty())
            .map(|line| {
                let cells: Vec<&str> = line.split_whitespace().collect();
                (cells[0].to_owned(), cells[1].to_owned(), cells[cells.len() - 1].to_owned())
            })
            .collect()
    };
    let defaults = settings(&shown(&published));
    assert!(defaults.len() > 20 && defaults.iter().all(|(_, _, from)| from == "default"), "{defaults:?}");
    let text = std::fs::read_to_string(&published).unwrap();
    let switched_on: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with('[') || rest.contains(" = ") && !rest.starts_with(' ') => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.toml");
    std::fs::write(&file, switched_on).unwrap();
    let all = settings(&shown(&file));
    for (key, value, _) in defaults {
        // The other ways to get the binary to the agents: the file describes them, one alone is in force.
        if let Some(other @ ("deliver" | "url" | "sha256")) = key.strip_prefix("executor.") {
            let described =
                |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{other} = "));
            assert!(text.lines().any(described), "{key} is not in the published settings");
            continue;
        }
        let (_, now, from) = all.iter().find(|(other, _, _)| *other == key).unwrap();
        assert_eq!(from, "file", "{key} is not in the published settings");
        // What has no default is shown with an example.
        assert!(
            *now == value || value == "-" || key == "executor.etcd",
            "{key}: {value} is published as {now}"
        );
    }
    assert!(all.iter().any(|(key, _, _)| key.starts_with("engines.memcache.")));
}

#[test]
fn schema_and_completions_are_printed() {
    let schema = run(&["schema"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&schema.stdout).unwrap().is_object());
    let script = run(&["completion", "bash"]);
    assert!(text(&script.stdout).contains("overlord"));
}

#[test]
fn help_documents_the_variable_and_the_file_setting_of_each_flag() {
    let help = text(&run(&["controller", "--help"]).stdout);
    for (flag, variable, setting) in [
        ("--etcd ", "OVERLORD_ETCD", "etcd.endpoints"),
        ("--listen", "OVERLORD_LISTEN", "api.listen"),
        ("--failover-timeout", "OVERLORD_FAILOVER_TIMEOUT", "mesos.failover_timeout"),
        ("--log-level", "OVERLORD_LOG_LEVEL", "log.level"),
    ] {
        assert!(help.contains(flag) && help.contains(variable) && help.contains(setting), "{flag}: {help}");
    }
}
