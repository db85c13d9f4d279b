//! What is printed: one table, targets beside the numbers; and the same as JSON.

use std::fmt::Write as _;

use overlord_api::Kind;
use serde_json::{Value, json};

use crate::{
    options::{Options, Section},
    specs::Setup,
    stages::{Stage, Stages},
    stats::{Series, Summary},
};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Ms,
    Mib,
    Count,
    PerSecond,
}

/// What the specification of this system asks for. Shown, never asserted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    TimesFloor(f64),
}

/// One measured thing.
#[derive(Debug)]
struct Row {
    section: Section,
    what: String,
    unit: Unit,
    floor: Option<Summary>,
    /// Nothing when only the floor was measured.
    ours: Option<Summary>,
    target: Option<Target>,
}

/// A stage, when the first instance passed it, and when the last one did.
type Passed = (Stage, Summary, Summary);

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    stages: Vec<(Section, String, Vec<Passed>)>,
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ms => "ms",
            Self::Mib => "MiB",
            Self::Count => "",
            Self::PerSecond => "/s",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Ms | Self::Mib => format!("{value:.1} {}", self.as_str()),
            Self::Count => format!("{value:.2}"),
            Self::PerSecond => format!("{value:.0} {}", self.as_str()),
        }
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let floor = self.floor.filter(|floor| floor.median > 0.0)?;
        Some(self.ours?.median / floor.median)
    }

    fn met(&self) -> Option<bool> {
        match self.target? {
            Target::AtMost(most) => self.ours.map(|ours| ours.median <= most),
            Target::AtLeast(least) => self.ours.map(|ours| ours.median >= least),
            Target::TimesFloor(most) => self.ratio().map(|ratio| ratio <= most),
        }
    }

    fn cells(&self) -> [String; 7] {
        let target = match self.target {
            Some(Target::AtMost(most)) if self.unit == Unit::Count => format!("<= {most}"),
            Some(Target::AtMost(most)) => format!("<= {most} {}", self.unit.as_str()),
            Some(Target::AtLeast(least)) => format!(">= {least} {}", self.unit.as_str()),
            Some(Target::TimesFloor(most)) => format!("<= {most}x"),
            None => String::new(),
        };
        let met = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.what.clone(),
            self.floor.map(|floor| self.unit.show(floor.median)).unwrap_or_default(),
            self.ours.map(|ours| self.unit.show(ours.median)).unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}x")).unwrap_or_default(),
            self.ours
                .map(|ours| format!("{:.1} - {:.1}, {}", ours.min, ours.max, ours.n))
                .unwrap_or_default(),
            target,
            met.to_owned(),
        ]
    }
}

impl Report {
    pub(crate) fn new(setup: &Setup) -> Self {
        let line = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        let version =
            |kind| setup.server(kind).map_or_else(|_| String::new(), |server| server.version.clone());
        let machine = vec![
            ("binary", setup.overlord.display().to_string()),
            ("cores", std::thread::available_parallelism().map_or(0, usize::from).to_string()),
            ("load before", line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
            ("kernel", line("/proc/sys/kernel/osrelease")),
            ("redis", version(Kind::Redis)),
            ("memcached", version(Kind::Memcache)),
        ];
        Self { machine, rows: Vec::new(), stages: Vec::new() }
    }

    /// Adds a row; none without any number.
    pub(crate) fn row(
        &mut self,
        section: Section,
        what: &str,
        unit: Unit,
        floor: Option<&Series>,
        ours: &Series,
        target: Option<Target>,
    ) {
        let (floor, ours) = (floor.and_then(Series::summary), ours.summary());
        if floor.is_none() && ours.is_none() {
            return;
        }
        self.rows.push(Row { section, what: what.to_owned(), unit, floor, ours, target });
    }

    /// Adds where the time of one kind of create goes.
    pub(crate) fn stages(&mut self, section: Section, what: &str, stages: &Stages) {
        let seen = Stage::ALL.into_iter().filter_map(|stage| {
            let (first, last) = stages.of(stage)?;
            Some((stage, first, last))
        });
        let seen: Vec<Passed> = seen.collect();
        if !seen.is_empty() {
            self.stages.push((section, what.to_owned(), seen));
        }
    }

    /// On what it was measured.
    pub(crate) fn preamble(&self) -> String {
        let width = self.machine.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(text, "{name:width$}  {value}");
        }
        text
    }

    /// For people.
    pub(crate) fn table(&self, options: &Options) -> String {
        let mut text = String::new();
        for section in Section::ALL.into_iter().filter(|section| options.wants(*section)) {
            for lines in [self.lines(section), self.stage_lines(section)] {
                if !lines.is_empty() {
                    let _ =
                        writeln!(text, "\n{}) {}\n{}", section.letter(), section.title(), aligned(&lines));
                }
            }
        }
        text.push_str("Medians. The floor is the same servers with the same configuration, started by hand");
        text.push_str(if options.wants(Section::Mesos) {
            ";\nof h: the same calls made and the same events read by a client that does nothing else."
        } else {
            "."
        });
        text
    }

    fn lines(&self, section: Section) -> Vec<Vec<String>> {
        let rows: Vec<_> = self.rows.iter().filter(|row| row.section == section).collect();
        if rows.is_empty() {
            return Vec::new();
        }
        let head =
            ["", "floor", "overlord", "ratio", "min - max, n", "target", ""].map(str::to_owned).to_vec();
        std::iter::once(head).chain(rows.into_iter().map(|row| row.cells().to_vec())).collect()
    }

    /// A column for each kind of create: when the first instance came there, and when the last one did.
    fn stage_lines(&self, section: Section) -> Vec<Vec<String>> {
        let columns: Vec<_> = self.stages.iter().filter(|(of, ..)| *of == section).collect();
        if columns.is_empty() {
            return Vec::new();
        }
        let mut head = vec!["ms after the request".to_owned()];
        head.extend(columns.iter().map(|(_, name, _)| name.clone()));
        let mut lines = vec![head];
        // Not every stage is one of every kind.
        let passed = |stage: &Stage| columns.iter().any(|(.., seen)| seen.iter().any(|(s, ..)| s == stage));
        for stage in Stage::ALL.into_iter().filter(passed) {
            let mut line = vec![stage.title().to_owned()];
            for (.., seen) in &columns {
                let cell = seen.iter().find(|(s, ..)| *s == stage).map(|(_, first, last)| {
                    if (last.median - first.median).abs() < 0.05 {
                        format!("{:.0}", first.median)
                    } else {
                        format!("{:.0} ... {:.0}", first.median, last.median)
                    }
                });
                line.push(cell.unwrap_or_default());
            }
            lines.push(line);
        }
        lines
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let target = row.target.map(|target| match target {
                    Target::AtMost(most) => json!({ "atMost": most }),
                    Target::AtLeast(least) => json!({ "atLeast": least }),
                    Target::TimesFloor(most) => json!({ "timesFloor": most }),
                });
                json!({
                    "section": row.section.letter(),
                    "what": row.what,
                    "unit": row.unit.as_str(),
                    "floor": row.floor,
                    "overlord": row.ours,
                    "ratio": row.ratio(),
                    "target": target,
                    "met": row.met(),
                })
            })
            .collect();
        let stages: Vec<Value> = self
            .stages
            .iter()
            .map(|(_, what, seen)| {
                let stages: Vec<Value> = seen
                    .iter()
                    .map(|(stage, first, last)| json!({ "stage": stage.title(), "first": first, "last": last }))
                    .collect();
                json!({ "what": what, "stages": stages })
            })
            .collect();
        let machine: serde_json::Map<String, Value> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let whole = json!({ "version": 1, "machine": machine, "rows": rows, "stages": stages });
        format!("{whole:#}\n")
    }
}

/// Columns of equal width; the first to the left, numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str("   ");
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(floor: Option<f64>, ours: f64, target: Option<Target>) -> Row {
        let summary = |median| Summary { median, min: median, max: median, n: 1 };
        let (section, unit) = (Section::Create, Unit::Ms);
        Row {
            section,
            what: "x".to_owned(),
            unit,
            floor: floor.map(summary),
            ours: Some(summary(ours)),
            target,
        }
    }

    #[test]
    fn a_target_is_met_by_the_median() {
        assert_eq!(row(None, 500.0, Some(Target::AtMost(500.0))).met(), Some(true));
        assert_eq!(row(Some(100.0), 201.0, Some(Target::TimesFloor(2.0))).met(), Some(false));
        assert_eq!(row(None, 201.0, Some(Target::TimesFloor(2.0))).met(), None);
        assert_eq!(row(Some(0.0), 1.0, None).ratio(), None);
        let floor_alone = Row { ours: None, ..row(Some(1.0), 1.0, Some(Target::TimesFloor(2.0))) };
        assert_eq!((floor_alone.met(), floor_alone.cells()[1].as_str()), (None, "1.0 ms"));
    }

    #[test]
    fn columns_are_aligned() {
        let line = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = aligned(&[line(["", "floor", "ours"]), line(["four", "1.0", "100.0"])]);
        assert_eq!(text, "         floor   ours\n   four    1.0  100.0\n");
    }
}
