//! What the program prints: figures, tables, and claims that hold or do not. It keeps
//! the same for a file of JSON. It measures nothing.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

/// Width of the names of figures.
const NAME: usize = 44;

/// All that was found so far.
#[derive(Debug, Default)]
pub struct Report {
    passed: u64,
    failed: u64,
    part: String,
    headline: Vec<String>,
    all: Map<String, Value>,
}

impl Report {
    /// What the figures were measured on and with, as the first lines.
    pub fn headline(&mut self, text: &str) {
        println!("{text}");
        self.headline = text.lines().map(str::to_owned).collect();
    }

    /// Begins a part.
    pub(crate) fn part(&mut self, name: &str, what: &str) {
        println!("\n== {name}: {what}");
        name.clone_into(&mut self.part);
    }

    /// One figure.
    pub(crate) fn figure(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        println!("  {name:<NAME$}  {value}");
        self.keep("figures", json!({"name": name, "value": value}));
    }

    /// A table; columns of numbers but the first are aligned to the right.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(head[column].chars().count())
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let number = |cell: &String| !cell.contains(char::is_alphabetic);
        let numbers = |column| {
            let mut cells = rows.iter().filter_map(|row| row.get(column));
            column > 0 && cells.all(number)
        };
        let right: Vec<bool> = (0..head.len()).map(numbers).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.zip(&widths).enumerate();
            let cells = cells.map(|(at, (cell, width))| match right[at] {
                false => format!("{cell:<width$}"),
                true => format!("{cell:>width$}"),
            });
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        };
        println!();
        line(&mut head.iter().copied());
        for row in rows {
            line(&mut row.iter().map(String::as_str));
        }
        println!();
        self.keep("tables", json!({"head": head, "rows": rows}));
    }

    /// A claim about correctness: it holds or it does not, and what was seen.
    pub(crate) fn claim(&mut self, what: &str, holds: bool, seen: impl Display) {
        let seen = seen.to_string();
        let word = if holds { "ok" } else { "FAILED" };
        let shown = if seen.is_empty() { "" } else { ": " };
        println!("  {word:<6}  {what}{shown}{seen}");
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        self.keep(
            "claims",
            json!({"what": what, "holds": holds, "seen": seen}),
        );
    }

    /// A claim that something never happened.
    pub(crate) fn none(&mut self, what: &str, count: u64, why: impl Display) {
        match count {
            0 => self.claim(what, true, 0),
            _ => self.claim(what, false, format!("{count} ({why})")),
        }
    }

    /// The last line; true if every claim held.
    fn end(&self) -> bool {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }

    /// All of it.
    pub(crate) fn json(&self) -> Value {
        let mut all = json!({
            "passed": self.passed,
            "failed": self.failed,
            "parts": self.all,
        });
        if !self.headline.is_empty() {
            all["headline"] = json!(self.headline);
        }
        all
    }

    /// Writes all of it to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    fn write(&self, file: &Path) -> std::io::Result<()> {
        std::fs::write(file, format!("{:#}\n", self.json()))
    }

    /// Ends a program: counts what held, and writes all figures to a file, if one is
    /// named. It fails if a claim did not hold or the file cannot be written.
    pub fn finish(&self, json: Option<&Path>) -> ExitCode {
        let mut good = self.end();
        if let Some(file) = json
            && let Err(error) = self.write(file)
        {
            eprintln!("{}: {error}", file.display());
            good = false;
        }
        if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn keep(&mut self, list: &str, value: Value) {
        let part = self.all.entry(self.part.clone()).or_insert(json!({}));
        let list = &mut part[list];
        match list.as_array_mut() {
            Some(list) => list.push(value),
            None => *list = json!([value]),
        }
    }
}

/// A time in milliseconds.
pub(crate) fn ms(milliseconds: f64) -> String {
    format!("{milliseconds:.2}")
}

/// The middle one; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The largest one; 0 of none.
pub(crate) fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The slope of the line of least squares through points; 0 if there is none.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let along: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    if spread > 0.0 { along / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_few_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(worst(&[3.0, 1.0, 2.0]), 3.0);
        assert_eq!((median(&[]), worst(&[]), slope(&[])), (0.0, 0.0, 0.0));
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), 2.0);
    }

    #[test]
    fn claims_are_counted() {
        let mut report = Report::default();
        report.part("p", "a part");
        report.claim("it holds", true, "");
        assert!(report.end());
        report.none("it never happens", 1, "it did");
        assert!(!report.end());
        assert_eq!(report.all["p"]["claims"].as_array().unwrap().len(), 2);
    }
}
