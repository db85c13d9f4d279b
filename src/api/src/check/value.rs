//! One value against its type: what was expected, what was found, and what to write.

use std::{fmt::Display, time::Duration};

use super::text;
use crate::{
    ClusterName, RuleFault,
    node::{Node, Value, quoted},
    quantity,
    scalar::Resolved,
    suggest::nearest,
};

type Read<T> = Result<T, RuleFault>;

fn expected(what: impl Display, node: &Node) -> RuleFault {
    RuleFault::new(format!("expected {what}, found {}", node.describe()))
}

/// The text of a scalar that is meant as text: numbers and truth values must be quoted.
pub(crate) fn text<'n>(what: &str, node: &'n Node) -> Read<&'n str> {
    match (&node.value, node.resolve()) {
        (Value::Scalar(scalar), Some(Resolved::Text)) => Ok(&scalar.text),
        (Value::Scalar(scalar), Some(Resolved::Flag(_) | Resolved::Whole(_) | Resolved::Decimal)) => {
            Err(expected(what, node).hint(format!("put it into quotes: \"{}\"", scalar.text)))
        }
        _ => Err(expected(what, node)),
    }
}

/// The text of a scalar, as it is written, whatever it may stand for.
fn verbatim<'n>(what: &str, node: &'n Node) -> Read<&'n str> {
    match (&node.value, node.resolve()) {
        (Value::Scalar(scalar), Some(resolved)) if resolved != Resolved::Null => Ok(&scalar.text),
        _ => Err(expected(what, node)),
    }
}

pub(crate) fn whole(node: &Node, least: u32, most: u32) -> Read<u32> {
    let what = format!("a whole number from {least} to {most}");
    let fault = || expected(&what, node);
    match node.resolve() {
        Some(Resolved::Whole(number)) => {
            u32::try_from(number).ok().filter(|number| (least..=most).contains(number)).ok_or_else(fault)
        }
        Some(Resolved::Text) => match node.text().unwrap_or_default().parse::<u32>() {
            Ok(number) => Err(fault().hint(format!("write {number}, without quotes or leading zeros"))),
            Err(_) => Err(fault()),
        },
        _ => Err(fault()),
    }
}

pub(crate) fn flag(node: &Node) -> Read<bool> {
    match node.resolve() {
        Some(Resolved::Flag(flag)) => Ok(flag),
        Some(Resolved::Text) => Err(expected("true or false", node).hint(
            match node.text().unwrap_or_default().to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => "write true without quotes",
                "no" | "off" | "n" | "false" => "write false without quotes",
                _ => "write true or false",
            },
        )),
        _ => Err(expected("true or false", node)),
    }
}

/// One of `words`, and which.
pub(crate) fn word(node: &Node, words: &'static [&'static str]) -> Read<&'static str> {
    let what = if let [only] = words { (*only).to_owned() } else { format!("one of {}", words.join(", ")) };
    let given = verbatim(&what, node)?;
    words.iter().find(|word| **word == given).copied().ok_or_else(|| {
        let fault = expected(&what, node);
        match nearest(given, words.iter().copied()) {
            Some(near) => fault.hint(format!("did you mean {near}?")),
            None => fault,
        }
    })
}

pub(crate) fn bytes(node: &Node, least: u64, most: u64) -> Read<u64> {
    let given = verbatim("a size such as 512Mi", node)?;
    let bytes = quantity::parse_bytes(given)?;
    if bytes < least {
        let fault =
            RuleFault::new(format!("{given} is less than the least, {}", quantity::print_bytes(least)));
        let bare = given.bytes().all(|b| b.is_ascii_digit());
        return Err(if bare && bytes > 0 {
            fault.hint(format!("a bare number is bytes: did you mean {given}Mi?"))
        } else {
            fault
        });
    }
    if bytes > most {
        return Err(RuleFault::new(format!(
            "{given} is more than the most, {}",
            quantity::print_bytes(most)
        )));
    }
    Ok(bytes)
}

pub(crate) fn cpu(node: &Node, least: u32, most: u32) -> Read<u32> {
    let given = verbatim("an amount of cpu such as \"0.5\"", node)?;
    let millis = quantity::parse_cpu(given)?;
    if (least..=most).contains(&millis) {
        return Ok(millis);
    }
    let (least, most) = (quantity::print_cpu(least), quantity::print_cpu(most));
    Err(RuleFault::new(format!("expected cores from {least} to {most}, found {given}")))
}

pub(crate) fn time(node: &Node, least: u64, most: u64) -> Read<Duration> {
    let given = verbatim("a duration such as 30s", node)?;
    let time = quantity::parse_duration(given)?;
    let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    let (least, most) = (quantity::print_duration(least), quantity::print_duration(most));
    Err(RuleFault::new(format!("expected a duration from {least} to {most}, found {given}")))
}

pub(crate) fn bounded_text(
    node: &Node,
    most: usize,
    rule: fn(&str) -> Result<(), &'static str>,
) -> Read<String> {
    let given = text("text", node)?;
    if given.len() > most {
        return Err(RuleFault::new(format!("expected at most {most} bytes of text, found {}", given.len())));
    }
    rule(given).map_err(|why| RuleFault::new(format!("{} {why}", quoted(given))))?;
    Ok(given.to_owned())
}

pub(crate) fn name(node: &Node) -> Read<ClusterName> {
    let given = text("a name", node)?;
    ClusterName::new(given).map_err(|error| {
        let fault = RuleFault::new(error.to_string());
        let near: String = given
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        match ClusterName::new(near.trim_matches('-')) {
            Ok(near) if given.is_ascii() => fault.hint(format!("write {near}, for example")),
            _ => fault,
        }
    })
}

pub(crate) fn version(node: &Node) -> Read<String> {
    let given = text("a version in quotes, such as \"7.0.15\"", node)?;
    text::version(given).map_err(|why| RuleFault::new(format!("{} {why}", quoted(given))))?;
    Ok(given.to_owned())
}

/// The value of a directive: any scalar, as it is written.
pub(crate) fn directive_value(node: &Node) -> Read<String> {
    let given = verbatim("one value", node).map_err(|fault| match node.resolve() {
        Some(Resolved::Null) => fault.hint("write \"\" for the empty value"),
        _ => fault.hint("write it as the engine's configuration file has it, in quotes"),
    })?;
    text::directive_value(given).map_err(|why| RuleFault::new(format!("{} {why}", quoted(given))))?;
    Ok(given.to_owned())
}

pub(crate) fn label_value(node: &Node) -> Read<String> {
    let given = text("text", node)?;
    text::label_value(given).map_err(|why| RuleFault::new(format!("{} {why}", quoted(given))))?;
    Ok(given.to_owned())
}
