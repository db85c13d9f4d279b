//! Lines of a script as words, each with its column; whoever expects another word says where and which.

use std::{fmt, time::Duration};

/// Where something is wrong in a script, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From 1.
    pub(crate) line: usize,
    /// From 1.
    pub(crate) column: usize,
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

#[derive(Debug, Clone)]
struct Word {
    column: usize,
    text: String,
    quoted: bool,
}

/// The words of one line that were not taken yet.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    line: usize,
    left: std::collections::VecDeque<Word>,
    /// One behind the last character.
    end: usize,
}

impl Words {
    /// Splits a line. A quoted part may hold blanks, and be the end of a word (`key="two words"`).
    pub(crate) fn of(line: usize, text: &str) -> Result<Self, Fault> {
        let mut words = std::collections::VecDeque::new();
        let mut word: Option<Word> = None;
        let mut open: Option<usize> = None;
        for (at, character) in text.chars().enumerate() {
            let column = at + 1;
            match character {
                '"' => {
                    open = if open.is_some() { None } else { Some(column) };
                    word.get_or_insert_with(|| Word { column, text: String::new(), quoted: true });
                }
                '#' if open.is_none() && word.is_none() => break,
                c if c.is_whitespace() && open.is_none() => words.extend(word.take()),
                c => word
                    .get_or_insert_with(|| Word { column, text: String::new(), quoted: false })
                    .text
                    .push(c),
            }
        }
        if let Some(column) = open {
            return Err(Fault { line, column, what: "this quotation has no end".to_owned() });
        }
        words.extend(word);
        Ok(Self { line, left: words, end: text.trim_end().chars().count() + 1 })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn column(&self) -> usize {
        self.left.front().map_or(self.end, |word| word.column)
    }

    /// Something is wrong with the next word.
    pub(crate) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { line: self.line, column: self.column(), what: what.into() }
    }

    /// The next word is none of those that may stand here.
    pub(crate) fn expected(&self, what: &str) -> Fault {
        match self.left.front() {
            Some(word) => self.fault(format!("expected {what}, found `{}`", word.text)),
            None => self.fault(format!("expected {what}, and the line ends")),
        }
    }

    /// The next word, if there is one.
    pub(crate) fn peek(&self) -> Option<&str> {
        self.left.front().map(|word| word.text.as_str())
    }

    /// The next word.
    pub(crate) fn word(&mut self, what: &str) -> Result<String, Fault> {
        match self.left.pop_front() {
            Some(word) => Ok(word.text),
            None => Err(self.expected(what)),
        }
    }

    /// Takes the next word if it is this one.
    pub(crate) fn takes(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(word);
        if is {
            self.left.pop_front();
        }
        is
    }

    /// The next words are these.
    pub(crate) fn these(&mut self, words: &str) -> Result<(), Fault> {
        words.split(' ').try_for_each(|word| {
            if self.takes(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
        })
    }

    /// The next word, if it is in quotes.
    pub(crate) fn quoted(&mut self) -> Option<String> {
        if self.left.front().is_some_and(|word| word.quoted) {
            return self.left.pop_front().map(|word| word.text);
        }
        None
    }

    /// The next word as something that is read from it.
    pub(crate) fn read<T>(&mut self, what: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Fault> {
        let Some(value) = self.peek().and_then(read) else { return Err(self.expected(what)) };
        self.left.pop_front();
        Ok(value)
    }

    /// A number.
    pub(crate) fn number(&mut self) -> Result<u32, Fault> {
        self.read("a number", |word| word.parse().ok())
    }

    /// A time such as `250ms`, `30s`, `5m`, `1h`.
    pub(crate) fn time(&mut self) -> Result<Duration, Fault> {
        self.read("a time such as 30s or 5m", time)
    }

    /// `within <time>`, or at once.
    pub(crate) fn within(&mut self) -> Result<Duration, Fault> {
        if self.takes("within") { self.time() } else { Ok(Duration::ZERO) }
    }

    /// `for <time>`.
    pub(crate) fn lasting(&mut self) -> Result<Duration, Fault> {
        self.these("for")?;
        self.time()
    }

    /// `<cluster>/<member>`.
    pub(crate) fn member(&mut self) -> Result<(String, u32), Fault> {
        self.read("a member such as cart/1", |word| {
            let (cluster, member) = word.split_once('/')?;
            Some((cluster.to_owned(), member.parse().ok()?))
        })
    }

    /// `<name>=<value>` to the end of the line.
    pub(crate) fn settings(&mut self) -> Result<Vec<(String, String)>, Fault> {
        let mut settings = Vec::new();
        while !self.is_empty() {
            settings.push(self.read("a setting such as shards=3", |word| {
                let (name, value) = word.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })?);
        }
        Ok(settings)
    }

    /// Nothing comes any more.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        if self.is_empty() { Ok(()) } else { Err(self.expected("the end of the line")) }
    }
}

fn time(word: &str) -> Option<Duration> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = word[..digits].parse().ok()?;
    match &word[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        "h" => Some(Duration::from_secs(number * 3600)),
        _ => None,
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return text == pattern };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn a_pattern_holds_its_parts_in_their_order() {
    assert!(is_like("member 1 at 10.0.0.1:20000 ended", "member 1 at * ended"));
    assert!(is_like("abc", "*") && is_like("", "*") && is_like("abc", "abc"));
    assert!(!is_like("abc", "ab") && !is_like("abc", "*b") && !is_like("ab", "ab*b"));
}

#[test]
fn words_know_their_columns() {
    let mut words =
        Words::of(7, r#"wait  5x  key="a b" # a remark"#).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(words.takes("wait"));
    assert_eq!(
        words.time().map_err(|fault| fault.to_string()),
        Err("7:7: expected a time such as 30s or 5m, found `5x`".to_owned())
    );
    assert_eq!(words.word("anything"), Ok("5x".to_owned()));
    assert_eq!(words.settings(), Ok(vec![("key".to_owned(), "a b".to_owned())]));
    assert!(Words::of(1, "apply \"x").is_err());
}
