//! A script: the story on top, then commands, one a line, each with the indented lines that belong to it.

use super::{
    command::Command,
    grammar::{Block, read},
    words::{Fault, Words},
};

/// Lines of story that a script has at least.
const STORY: usize = 3;

/// A command and its line.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) command: Command,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) lines: Vec<Line>,
}

impl Script {
    /// Reads a script. All that is wrong with it is told at once.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let story = text.lines().take_while(|line| line.starts_with('#')).count();
        if story < STORY {
            let what = format!("the script must begin with its story: {STORY} lines of comment at least");
            faults.push(Fault { line: story + 1, column: 1, what });
        }
        let numbered: Vec<(usize, &str)> =
            text.lines().enumerate().map(|(at, line)| (at + 1, line)).collect();
        let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        let mut lines = Vec::new();
        let mut rest = numbered.as_slice();
        while let Some(((number, line), behind)) = rest.split_first() {
            rest = behind;
            if is_empty(line) {
                continue;
            }
            let own = behind.iter().take_while(|(_, line)| line.starts_with(' ') || is_empty(line)).count();
            let (below, after) = behind.split_at(own);
            rest = after;
            let below: Vec<(usize, &str)> =
                below.iter().filter(|(_, line)| !is_empty(line)).copied().collect();
            let mut block = Block { lines: below };
            let command = Words::of(*number, line).and_then(|mut words| {
                if line.starts_with(' ') {
                    return Err(words.fault("nothing above takes indented lines"));
                }
                read(&mut words, &mut block)
            });
            match command {
                Ok(command) => lines.push(Line { number: *number, command }),
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            }
            if let Some((number, line)) = block.lines.first() {
                let column = line.len() - line.trim_start().len() + 1;
                faults.push(Fault {
                    line: *number,
                    column,
                    what: "the line above takes no indented lines".to_owned(),
                });
            }
        }
        if faults.is_empty() { Ok(Self { lines }) } else { Err(faults) }
    }
}

#[test]
fn what_is_misspelt_is_told_with_line_and_column() {
    let told = |text: &str| -> Vec<String> {
        let text = format!("# a\n# b\n# c\n{text}");
        Script::parse(&text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    assert_eq!(told("controller starts\nwait 5m\n"), Vec::<String>::new());
    assert!(told("controler starts")[0].starts_with("4:1: expected a command: "));
    assert_eq!(told("wait 5x"), ["4:6: expected a time such as 30s or 5m, found `5x`"]);
    assert_eq!(told("wait 5m now"), ["4:9: expected the end of the line, found `now`"]);
    assert_eq!(
        told("expect phase of cart is Redy within 2m"),
        ["4:25: expected a phase, such as Ready, found `Redy`"]
    );
    assert_eq!(told("expect cart/1 is"), ["4:17: expected a state, such as running, and the line ends"]);
    assert_eq!(
        told("expect events of cart\n  Warning Failed member/1 quiet\n"),
        ["5:27: expected a message in quotes, * stands for anything, found `quiet`"]
    );
    assert_eq!(told("wait 1s\n  more"), ["5:3: the line above takes no indented lines"]);
    assert_eq!(
        Script::parse("wait 1s").err().map(|faults| faults[0].to_string()).unwrap_or_default(),
        "1:1: the script must begin with its story: 3 lines of comment at least"
    );
}
