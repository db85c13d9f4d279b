//! Which characters texts may hold. Every text of a spec ends up in a configuration file, a command
//! line, a Mesos message or a terminal: nothing here may end a line, open a quote, or hide itself.

/// Bytes a label's name or value may have.
pub(crate) const MAX_LABEL: usize = 63;
/// Bytes a directive's name may have.
pub(crate) const MAX_DIRECTIVE_NAME: usize = 64;
/// Bytes a directive's value may have.
pub(crate) const MAX_DIRECTIVE_VALUE: usize = 1024;

/// Patterns for the JSON Schema; the functions of the same names decide.
pub(crate) const ROLE: &str =
    r"^(?!-|\.{1,2}(/|$))[!#-&(-.0-\[\]-~]+(/(?!-|\.{1,2}(/|$))[!#-&(-.0-\[\]-~]+)*$";
pub(crate) const ATTRIBUTE: &str = "^[A-Za-z0-9][A-Za-z0-9._/-]*$";
pub(crate) const PLAIN: &str = r"^[ !#-&(-\[\]-~]*$";
pub(crate) const LABEL: &str = "^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$";
pub(crate) const LABEL_VALUE: &str = "^([A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?)?$";
pub(crate) const DIRECTIVE: &str = "^[A-Za-z][A-Za-z0-9_-]*$";
pub(crate) const VERSION: &str = "^[0-9][0-9A-Za-z.+-]*$";

/// A character that shows as nothing, or moves what is shown around it.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A role that Mesos accepts (`roles.cpp` of 1.11: in each part no blank, no `.` or `..`, no leading dash).
pub(crate) fn role(text: &str) -> Result<(), &'static str> {
    plain(text)?;
    let legal = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_graphic())
    };
    if text.split('/').all(legal) {
        Ok(())
    } else {
        Err("is no Mesos role: no blanks, no leading dash, not . or ..")
    }
}

/// The name of an agent attribute.
pub(crate) fn attribute(text: &str) -> Result<(), &'static str> {
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(is_word) {
        Ok(())
    } else {
        Err("is no attribute name: letters, digits and . _ - / only")
    }
}

/// One line of printable ASCII without quotes and backslashes.
pub(crate) fn plain(text: &str) -> Result<(), &'static str> {
    if text.chars().any(is_hidden) {
        return Err("holds a control character");
    }
    if text.contains(['"', '\'', '\\']) {
        return Err("holds a quote or backslash");
    }
    if !text.is_ascii() {
        return Err("holds a character outside ASCII");
    }
    Ok(())
}

/// The name of a label.
pub(crate) fn label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    label_value(text)
}

/// The value of a label.
pub(crate) fn label_value(text: &str) -> Result<(), &'static str> {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    if text.len() > MAX_LABEL {
        return Err("is longer than 63 characters");
    }
    if text.bytes().all(is_word) && edge(text.chars().next()) && edge(text.chars().next_back()) {
        Ok(())
    } else {
        Err("holds more than letters, digits and inner . _ - /")
    }
}

/// The name of a directive.
pub(crate) fn directive(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_DIRECTIVE_NAME {
        return Err("is longer than 64 characters");
    }
    if text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    {
        Ok(())
    } else {
        Err("is no directive name: letters, digits, - and _ only")
    }
}

/// The value of a directive.
pub(crate) fn directive_value(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_DIRECTIVE_VALUE {
        return Err("is longer than 1024 characters");
    }
    if text.trim() != text {
        return Err("begins or ends with a blank");
    }
    plain(text)
}

/// The version of an engine. It is part of a path.
pub(crate) fn version(text: &str) -> Result<(), &'static str> {
    if text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'))
    {
        Ok(())
    } else {
        Err("is no version such as 7.0.15")
    }
}

const fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ends_a_line_or_opens_a_quote_passes() {
        for rule in [role, attribute, plain, label, label_value, directive, directive_value, version] {
            for bad in
                ["a\nb", "a\rb", "a\0b", "a\"b", "1'b", "a\\b", "a\u{202e}b", "1\u{7f}", "é", "1\u{85}"]
            {
                assert!(rule(bad).is_err(), "{bad:?}");
            }
        }
    }

    #[test]
    fn roles_follow_mesos() {
        for good in ["*", "caches", "eng/caches", "a.b"] {
            assert_eq!(role(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a/-b", ".", "a/..", "/a", "a/", "a b"] {
            assert!(role(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_cannot_be_climbed_through_a_version() {
        assert_eq!(version("7.0.15"), Ok(()));
        for bad in ["", "../7", "7/../..", "v7", "7 0"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }
}
