//! Which id of the capture is which of the target. Two transcripts are compared by unifying them: the first time
//! two ids stand at the same place they are bound to each other, and have to stay so in both directions. That
//! compares identity (the offer named in a message is the one that was offered) without comparing ids.

use std::collections::BTreeMap;

use base64::Engine as _;

/// The bindings, both ways.
#[derive(Debug, Clone, Default)]
pub struct Names {
    forward: BTreeMap<String, String>,
    backward: BTreeMap<String, String>,
    /// Which master of the capture is which of the target.
    masters: Vec<(String, String)>,
    /// The target has fewer agents than the capture: several of the capture's may be one of the target's.
    pub few_agents: bool,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// A uuid, with what Mesos puts behind it (`-S0`, `-O17`, `-0003`).
    Id(&'a str),
    /// `ip:port` or an ip.
    Address(&'a str),
    /// Anything else.
    Text(&'a str),
}

impl Names {
    /// No bindings; with fewer agents than the capture has, or as many.
    pub fn new(few_agents: bool) -> Self {
        Self { few_agents, ..Self::default() }
    }

    /// Binds two ids. `false`: one of them is bound to another one, or they are of different kinds.
    pub fn bind(&mut self, expected: &str, got: &str) -> bool {
        if kind(expected) != kind(got) {
            return false;
        }
        match (self.forward.get(expected), self.backward.get(got)) {
            (Some(bound), _) => bound == got,
            (None, Some(_)) if !(self.few_agents && kind(expected) == Some('S')) => false,
            (None, _) => {
                self.forward.insert(expected.to_owned(), got.to_owned());
                self.backward.entry(got.to_owned()).or_insert_with(|| expected.to_owned());
                true
            }
        }
    }

    /// The target's id for the capture's.
    pub fn get(&self, expected: &str) -> Option<&str> {
        self.forward.get(expected).map(String::as_str)
    }

    /// The capture's id for the target's.
    pub fn reverse(&self, got: &str) -> Option<&str> {
        self.backward.get(got).map(String::as_str)
    }

    /// Puts the target's ids in the place of the capture's, where they are known.
    pub fn translate(&self, text: &str) -> String {
        if let Some(whole) = self.get(text) {
            return whole.to_owned();
        }
        parts(text).into_iter().fold(String::new(), |whole, part| match part {
            Part::Id(id) => whole + self.get(id).unwrap_or(id),
            Part::Address(part) | Part::Text(part) => whole + part,
        })
    }

    /// Whether two scheme-relative addresses name the same master and path.
    pub fn same_location(&mut self, expected: &str, got: &str) -> bool {
        let cut = |text: &str| {
            let (authority, path) = text.strip_prefix("//")?.split_once('/').map_or_else(
                || (text.trim_start_matches('/').to_owned(), String::new()),
                |(authority, path)| (authority.to_owned(), path.to_owned()),
            );
            Some((authority, path))
        };
        let (Some((a, path)), Some((b, other))) = (cut(expected), cut(got)) else { return false };
        let known = self.masters.iter().find(|(master, other)| *master == a || *other == b).cloned();
        match known {
            Some((master, other_master)) if master != a || other_master != b => return false,
            Some(_) => {}
            None => self.masters.push((a, b)),
        }
        path == other
    }

    /// Whether two texts say the same, ids and addresses apart.
    pub fn same_text(&mut self, expected: &str, got: &str) -> bool {
        let (expected, got) = (without_work_dir(expected), without_work_dir(got));
        let (expected, got) = (parts(&expected), parts(&got));
        expected.len() == got.len()
            && expected.iter().zip(&got).all(|pair| match pair {
                (Part::Id(a), Part::Id(b)) => self.bind(a, b),
                (Part::Address(a), Part::Address(b)) => a.contains(':') == b.contains(':'),
                (Part::Text(a), Part::Text(b)) => a == b || amounts(a).is_some_and(|a| Some(a) == amounts(b)),
                _ => false,
            })
    }
}

/// What stands behind the uuid: an agent, an offer, a framework or nothing. A uuid in base64 is of its own kind.
fn kind(id: &str) -> Option<char> {
    if is_base64_uuid(id) {
        return Some('=');
    }
    let tail = id.get(UUID..)?;
    Some(match tail.strip_prefix('-') {
        None => ' ',
        Some(tail) if tail.starts_with(|c: char| c.is_ascii_digit()) => '0',
        Some(tail) => tail.chars().next()?,
    })
}

/// The id of a framework, if the part is one.
pub fn framework_id(part: Part<'_>) -> Option<String> {
    match part {
        Part::Id(id) if kind(id) == Some('0') => Some(id.to_owned()),
        _ => None,
    }
}

const UUID: usize = 36;

/// Whether this is base64 of 16 bytes.
pub fn is_base64_uuid(text: &str) -> bool {
    text.len() == 24
        && text.ends_with("==")
        && base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 16)
}

/// Cuts a text into ids, addresses and the rest.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut start = 0;
    while start < rest.len() {
        if !rest.is_char_boundary(start) || !begins_word(rest, start) {
            start += 1;
            continue;
        }
        let part = if let Some(length) = id_length(&rest[start..]) {
            Part::Id(&rest[start..start + length])
        } else if let Some(length) = address_length(&rest[start..]) {
            Part::Address(&rest[start..start + length])
        } else {
            start += 1;
            continue;
        };
        let (Part::Id(token) | Part::Address(token) | Part::Text(token)) = part;
        let length = token.len();
        if start > 0 {
            found.push(Part::Text(&rest[..start]));
        }
        found.push(part);
        rest = &rest[start + length..];
        start = 0;
    }
    if !rest.is_empty() {
        found.push(Part::Text(rest));
    }
    found
}

fn begins_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn id_length(text: &str) -> Option<usize> {
    let uuid = text.as_bytes().get(..UUID)?;
    let is_uuid = uuid.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
    });
    if !is_uuid {
        return None;
    }
    let Some(tail) = text[UUID..].strip_prefix('-') else { return Some(UUID) };
    let letter = usize::from(tail.starts_with(['S', 'O', 'I', 'P']));
    let digits = tail[letter..].bytes().take_while(u8::is_ascii_digit).count();
    Some(if digits == 0 { UUID } else { UUID + 1 + letter + digits })
}

fn address_length(text: &str) -> Option<usize> {
    let mut at = 0;
    for number in 0..4 {
        let digits = text[at..].bytes().take(3).take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        at += digits;
        if number < 3 {
            at += text[at..].starts_with('.').then_some(1)?;
        }
    }
    if text[at..].starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let port = text[at..].strip_prefix(':').map_or(0, |t| t.bytes().take_while(u8::is_ascii_digit).count());
    Some(if port == 0 { at } else { at + 1 + port })
}

/// A text without the part of a path that is the agent's `--work_dir`.
fn without_work_dir(text: &str) -> String {
    let Some(end) = text.find("/slaves/").or_else(|| text.find("/meta/")) else { return text.to_owned() };
    let start = text[..end].rfind(['\'', '"', ' ', '=']).map_or(0, |at| at + 1);
    if text[start..end].starts_with('/') {
        format!("{}...{}", &text[..start], &text[end..])
    } else {
        text.to_owned()
    }
}

/// A text that lists resources, without their amounts.
fn amounts(text: &str) -> Option<String> {
    if !["cpus", "mem", "disk", "ports", "Process was"].iter().any(|name| text.contains(name)) {
        return None;
    }
    let mut plain = String::new();
    for c in text.chars() {
        let number = c.is_ascii_digit() || (c == '.' && plain.ends_with('#'));
        if !number {
            plain.push(c);
        } else if !plain.ends_with('#') {
            plain.push('#');
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a5031e63-d60c-4f63-835e-6c72ba9877f7";
    const B: &str = "b5031e63-d60c-4f63-835e-6c72ba9877f8";

    #[test]
    fn ids_and_addresses_are_found_in_texts() {
        let text = format!("Offer {A}-O53 of slave(1)@127.0.0.1:5051, not 1.11.1");
        let offer = format!("{A}-O53");
        assert_eq!(
            parts(&text),
            [
                Part::Text("Offer "),
                Part::Id(&offer),
                Part::Text(" of slave(1)@"),
                Part::Address("127.0.0.1:5051"),
                Part::Text(", not 1.11.1")
            ]
        );
    }

    #[test]
    fn an_id_stays_what_it_was_bound_to() {
        let mut names = Names::default();
        assert!(names.same_text(&format!("{A}-S0 and {A}-O1"), &format!("{B}-S7 and {B}-O3")));
        assert!(names.same_text(&format!("{A}-S0"), &format!("{B}-S7")));
        assert!(!names.same_text(&format!("{A}-S0"), &format!("{B}-S8")), "another agent");
        assert!(!names.same_text(&format!("{A}-S1"), &format!("{B}-S7")), "that agent is another one");
        assert!(!names.same_text(&format!("{A}-0001"), &format!("{B}-S9")), "a framework is no agent");
        assert_eq!(names.translate(&format!("agent {A}-S0, {A}-S5")), format!("agent {B}-S7, {A}-S5"));
    }

    #[test]
    fn a_redirect_goes_to_the_same_master_and_path() {
        let mut names = Names::default();
        assert!(names.same_location("//127.0.0.1:5250/a/b", "//m1:5050/a/b"));
        assert!(names.same_location("//127.0.0.1:5250", "//m1:5050"));
        assert!(!names.same_location("//127.0.0.1:5250/a/b", "//m1:5050/a"), "another path");
        assert!(!names.same_location("//127.0.0.1:5250/a", "//m2:5050/a"), "another master");
        assert!(!names.same_location("//127.0.0.1:5260/a", "//m1:5050/a"), "that master is another one");
        assert!(!names.same_location("//127.0.0.1:5260/a", "http://m2:5050/a"), "with a scheme");
    }

    #[test]
    fn amounts_of_resources_do_not_matter_but_other_numbers_do() {
        let mut names = Names::default();
        assert!(
            names.same_text("more than available cpus:8; mem:8192", "more than available cpus:7.5; mem:1")
        );
        assert!(!names.same_text("Command exited with status 3", "Command exited with status 4"));
    }
}
