//! Words of a line of `redis.conf`: redis's own splitting rules (`sdssplitargs`), and their inverse.

/// The word as it must stand in a line. Control characters have no place in a configuration.
pub(crate) fn quote(word: &str) -> Option<String> {
    if word.chars().any(char::is_control) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/%+*$@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Some(word.to_owned());
    }
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('"');
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Some(quoted)
}

/// The words of a line; `None` when quotes are unbalanced or a word holds what [`quote`] refuses.
pub(crate) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_matches([' ', '\t', '\r', '\n']).chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = rest.next() else { return Some(words) };
        let mut word = String::new();
        if matches!(first, '"' | '\'') {
            loop {
                match rest.next()? {
                    c if c == first => break,
                    '\\' if first == '"' => word.push(escaped(rest.next()?)?),
                    '\\' if rest.peek() == Some(&'\'') => word.push(rest.next()?),
                    c => word.push(c),
                }
            }
            // A closing quote ends the word.
            if rest.peek().is_some_and(|c| !c.is_whitespace()) {
                return None;
            }
        } else {
            word.push(first);
            while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
                // Quotes inside a plain word open a quoted part for redis; nobody writes that on purpose.
                if matches!(c, '"' | '\'') {
                    return None;
                }
                word.push(c);
            }
        }
        if word.chars().any(char::is_control) {
            return None;
        }
        words.push(word);
    }
}

/// What stands after a backslash. The escapes for control characters lead to nothing that is accepted.
fn escaped(c: char) -> Option<char> {
    (!matches!(c, 'n' | 'r' | 't' | 'b' | 'a' | 'x')).then_some(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_split_as_redis_does() {
        let words = |line| split(line).map(|words| words.join("|"));
        assert_eq!(words("save \"\"").as_deref(), Some("save|"));
        assert_eq!(words("  a  'b \\' c' \"d \\\" e\" ").as_deref(), Some("a|b ' c|d \" e"));
        assert_eq!(words("").as_deref(), Some(""));
        for bad in ["a \"b", "a \"b\"c", "a 'b", "a b\"c\"", "a \"\\n\"", "a \"\\"] {
            assert_eq!(words(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_one_word(word in "[^\\p{Cc}]{0,40}") {
            let line = format!("name {}", quote(&word).unwrap());
            prop_assert_eq!(split(&line), Some(vec!["name".to_owned(), word]));
        }

        #[test]
        fn no_line_makes_it_panic(line in any::<String>()) {
            let _ = split(&line);
        }
    }
}
