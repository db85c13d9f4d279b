//! A failed run as a story that a person can read: what happened to the world, in sentences; what concerned those of
//! whom the failure speaks; the last moments in full; how to see it again.

use std::fmt::Write as _;

use crate::trace::Told;

/// Sentences of the story.
const SENTENCES: usize = 60;
/// Lines that speak of what failed.
const CONCERNED: usize = 40;
/// The last moments.
const LAST: usize = 60;

/// The parts that talk to each other; what they say is left out where only sentences are told.
fn is_talk(line: &str) -> bool {
    // Behind the day and the time.
    let text = line.splitn(3, ' ').nth(2).unwrap_or(line);
    let note = text.starts_with("| ") && !text.contains("overlord_controllers::step");
    note || text.starts_with("store ")
        || text.starts_with("agent -> ")
        || text.starts_with("master -> ")
        || text.contains(" -> master: ")
        || (text.starts_with("executor ") && text.contains(": "))
}

/// Names, addresses and ids in a sentence: words with a digit and a mark in them.
fn subjects(sentence: &str) -> Vec<&str> {
    let words =
        sentence.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '"' | '{' | '}'));
    let words = words.map(|word| word.trim_end_matches(['.', ':']));
    words
        .filter(|word| word.len() > 3)
        .filter(|word| word.contains(|c: char| c.is_ascii_digit()))
        .filter(|word| word.contains(['.', '/', ':', '-']))
        .collect()
}

fn tail(text: &mut String, title: &str, lines: &[&String], most: usize) {
    let skipped = lines.len().saturating_sub(most);
    let _ = writeln!(text, "\n{title}");
    if skipped > 0 {
        let _ = writeln!(text, "  ... {skipped} before");
    }
    for line in lines.iter().skip(skipped) {
        let _ = writeln!(text, "  {line}");
    }
}

/// The story of a failure.
pub(crate) fn of_failure(told: &Told, name: &str, seed: u64, failure: &str) -> String {
    let mut text = String::new();
    let sentences: Vec<&String> = told.lines.iter().filter(|line| !is_talk(line)).collect();
    tail(&mut text, "WHAT HAPPENED", &sentences, SENTENCES);
    let subjects = subjects(failure);
    if !subjects.is_empty() {
        let concerned: Vec<&String> =
            told.lines.iter().filter(|line| subjects.iter().any(|subject| line.contains(subject))).collect();
        tail(&mut text, &format!("WHAT CONCERNED {}", subjects.join(", ")), &concerned, CONCERNED);
    }
    let all: Vec<&String> = told.lines.iter().collect();
    tail(&mut text, "THE LAST MOMENTS", &all, LAST);
    let _ = writeln!(text, "\nWHAT IS WRONG in world {name} {seed}\n  {failure}");
    for also in told.violations.iter().filter(|violation| *violation != failure).take(5) {
        let _ = writeln!(text, "  and: {also}");
    }
    if name == "random" {
        let _ = writeln!(
            text,
            "\nAGAIN, and all of it: OVERLORD_SIM_SEED={seed} cargo test -p overlord-tests --test sim random_worlds -- --nocapture"
        );
    }
    text
}

/// All of it.
pub(crate) fn whole(told: &Told) -> String {
    told.lines.join("\n")
}
