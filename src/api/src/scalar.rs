//! What a plain YAML scalar is: the YAML 1.2 core schema, exactly as `serde_yaml` resolves it, so that
//! what is accepted here means the same to every reader of that family (`yes` is text, `007` is text).

/// A scalar as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    /// Its text, escapes resolved.
    pub(crate) text: String,
    /// Whether it is written without quotes, and may therefore be a number or a truth value.
    pub(crate) plain: bool,
}

/// What a scalar stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Flag(bool),
    Whole(i128),
    Decimal,
    Text,
}

impl Scalar {
    pub(crate) fn resolve(&self) -> Resolved {
        if self.plain { resolve_plain(&self.text) } else { Resolved::Text }
    }
}

fn resolve_plain(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Flag(true),
        "false" | "False" | "FALSE" => return Resolved::Flag(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan"
        | ".NaN" | ".NAN" => return Resolved::Decimal,
        _ => {}
    }
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ => (10, digits),
    };
    // The integer parser takes a sign of its own.
    if digits.starts_with(['+', '-']) {
        return Resolved::Text;
    }
    // Leading zeros make it text: octal to one reader, decimal to another.
    if radix == 10
        && digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        return Resolved::Text;
    }
    if let Ok(number) = i128::from_str_radix(digits, radix) {
        return Resolved::Whole(if negative { -number } else { number });
    }
    if radix == 10
        && digits.parse::<f64>().is_ok_and(f64::is_finite)
        && !digits.starts_with(['i', 'I', 'n', 'N'])
    {
        return Resolved::Decimal;
    }
    Resolved::Text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_yaml::Value;

    use super::*;

    /// The same question to the other reader.
    fn other_reader(text: &str) -> Option<Resolved> {
        Some(match serde_yaml::from_str::<Value>(text).ok()? {
            Value::Null => Resolved::Null,
            Value::Bool(flag) => Resolved::Flag(flag),
            Value::Number(number) => number
                .as_i64()
                .map(i128::from)
                .or_else(|| number.as_u64().map(i128::from))
                .map_or(Resolved::Decimal, Resolved::Whole),
            Value::String(_) => Resolved::Text,
            _ => return None,
        })
    }

    #[test]
    fn the_usual_traps_resolve_as_documented() {
        for (text, expected) in [
            ("", Resolved::Null),
            ("~", Resolved::Null),
            ("no", Resolved::Text),
            ("true", Resolved::Flag(true)),
            ("7.0", Resolved::Decimal),
            ("7.0.15", Resolved::Text),
            ("7", Resolved::Whole(7)),
            ("-0x10", Resolved::Whole(-16)),
            ("0o17", Resolved::Whole(15)),
            ("007", Resolved::Text),
            ("1_000", Resolved::Text),
            ("1e3", Resolved::Decimal),
            (".inf", Resolved::Decimal),
            ("infinity", Resolved::Text),
            ("nan", Resolved::Text),
            ("+-5", Resolved::Text),
        ] {
            assert_eq!(resolve_plain(text), expected, "{text:?}");
            if !text.is_empty() {
                assert_eq!(other_reader(text), Some(expected), "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_plain_word_means_what_serde_yaml_says(text in "[-+]?[0-9.eExobnulaftrsiNIF_]{1,8}") {
            let ours = resolve_plain(&text);
            if let Some(theirs) = other_reader(&text) {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
