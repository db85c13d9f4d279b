//! Aligned columns without borders, in the way of kubectl.

/// Space between two columns.
const GAP: usize = 3;

/// Rows of text under headings.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Columns are at least this wide.
    least: Vec<usize>,
}

impl Table {
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
            least: headings.iter().map(|h| h.len()).collect(),
        }
    }

    /// Aligns it with a table that was printed before.
    pub(crate) fn align(&mut self, widths: &[usize]) {
        for (least, width) in self.least.iter_mut().zip(widths) {
            *least = (*least).max(*width);
        }
    }

    /// Leaves a column out.
    #[must_use]
    pub(crate) fn without(mut self, heading: &str) -> Self {
        if let Some(at) = self.headings.iter().position(|h| *h == heading) {
            self.headings.remove(at);
            self.least.remove(at);
            for row in self.rows.iter_mut().filter(|row| at < row.len()) {
                row.remove(at);
            }
        }
        self
    }

    /// Adds a row. An empty cell shows as a dash; control characters, which may come from any key, as `?`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells =
            cells.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell) });
        self.rows.push(cells.collect());
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The whole table, with a line end after each row.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let mut text = line(&widths, self.headings.iter().copied());
        self.push_rows(&widths, &mut text);
        text
    }

    /// The rows alone, for tables that go on below a heading that was printed before.
    pub(crate) fn render_rows(&self) -> String {
        let mut text = String::new();
        self.push_rows(&self.widths(), &mut text);
        text
    }

    /// The table moved to the right, for a part of a page.
    pub(crate) fn indented(&self, by: usize) -> String {
        let margin = " ".repeat(by);
        self.render().lines().fold(String::new(), |text, line| text + &margin + line + "\n")
    }

    fn push_rows(&self, widths: &[usize], text: &mut String) {
        for row in &self.rows {
            text.push_str(&line(widths, row.iter().map(String::as_str)));
        }
    }

    /// How wide each column is.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let mut widths = self.least.clone();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

fn line<'c>(widths: &[usize], cells: impl Iterator<Item = &'c str>) -> String {
    let mut text = String::new();
    for (width, cell) in widths.iter().zip(cells) {
        text.push_str(cell);
        text.push_str(&" ".repeat(width.saturating_sub(cell.chars().count()) + GAP));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// One line that cannot steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "PHASE", "NOTE"]);
        table.row(["orders".into(), "Ready".into(), String::new()]);
        table.row(["a".into(), "Creating".into(), "line\nbreak\u{1b}[2J".into()]);
        let expected = "NAME     PHASE      NOTE\n\
                        orders   Ready      -\n\
                        a        Creating   line break?[2J\n";
        assert_eq!(table.render(), expected);
        assert!(table.indented(2).lines().all(|line| line.starts_with("  ")));
        assert_eq!(table.render_rows().lines().count(), 2);
        let mut next = Table::new(&["NAME", "PHASE", "NOTE"]);
        next.row(["b".into(), "Ready".into(), "x".into()]);
        next.align(&table.widths());
        assert_eq!(next.render_rows(), "b        Ready      x\n");
        assert_eq!(next.without("PHASE").render_rows(), "b        x\n");
    }
}
