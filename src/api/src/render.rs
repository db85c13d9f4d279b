//! Faults as people see them on a terminal: the line of the source, carets, and advice.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

use crate::{Fault, check::text::is_hidden};

/// Lines shown of one fault's source.
const MAX_LINES: usize = 3;
/// Columns a rendered line may have.
const WIDTH: usize = 120;

/// Every fault with its source and carets; the place is shown as `file:line:column`. What is in the text or
/// the file's name cannot send commands to the terminal.
pub fn render_faults(file: &str, text: &str, faults: &[Fault], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH);
    let file = visible(file);
    let mut shown = String::new();
    for fault in faults {
        shown.push_str(&render(&renderer, &file, text, fault));
        shown.push_str("\n\n");
    }
    shown.pop();
    shown
}

fn render(renderer: &Renderer, file: &str, text: &str, fault: &Fault) -> String {
    let title = if fault.path.is_empty() {
        fault.message.clone()
    } else {
        format!("{}: {}", fault.path, fault.message)
    };
    let title = visible(&title);
    let (first, source) = lines_of(text, fault);
    let source_text = visible(source);
    let start = clamp(&source_text, fault.span.start.saturating_sub(first));
    let end = clamp(&source_text, fault.span.end.saturating_sub(first)).max(start);
    let snippet = Snippet::source(source_text.as_str())
        .line_start(fault.line)
        .path(file)
        .annotation(AnnotationKind::Primary.span(start..end));
    let mut group: Group<'_> = Level::ERROR.primary_title(title.as_str()).element(snippet);
    let hint = fault.hint.as_deref().map(visible);
    if let Some(hint) = &hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group])
}

/// The lines that a fault is about, and where they begin.
fn lines_of<'t>(text: &'t str, fault: &Fault) -> (usize, &'t str) {
    let at = clamp(text, fault.span.start);
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    let rest = text.get(start..).unwrap_or_default();
    let wanted = fault.span.end.max(at).saturating_sub(start);
    let mut end = 0;
    for line in rest.split_inclusive('\n').take(MAX_LINES) {
        end += line.len();
        if end >= wanted {
            break;
        }
    }
    (start, rest.get(..end).unwrap_or_default().trim_end_matches(['\n', '\r']))
}

/// The nearest character boundary at or before `at`.
fn clamp(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The text with hidden characters shown as `?`, each in as many bytes, so that places stay the same.
fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match c {
            '\n' => shown.push(c),
            '\t' => shown.push(' '),
            c if is_hidden(c) => (0..c.len_utf8()).for_each(|_| shown.push('?')),
            c => shown.push(c),
        }
        shown
    })
}
