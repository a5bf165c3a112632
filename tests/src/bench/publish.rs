//! Writes the figures of a run into README.md and docs/performance.md, between markers.
//! All that it writes comes from the JSON of the report.

use std::path::PathBuf;

use super::Part;
use super::figures::{self, Load};
use super::goals;
use super::record::{Record, Table, number};
use super::server::Kind;
use super::work::Work;
use crate::measure::Report;
use crate::place;

const README: &str = "README.md";
const PERFORMANCE: &str = "docs/performance.md";

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// Servers of the short table, and how its head names them.
fn compared() -> [(Kind, String); 4] {
    let short = |kind: Kind| kind.name().replace("Lockgate, ", "");
    [
        (Kind::Reused, Kind::Reused.name()),
        (Kind::Fresh, short(Kind::Fresh)),
        (Kind::Native, short(Kind::Native)),
        (Kind::AllWorkers, short(Kind::AllWorkers)),
    ]
}

/// Can the figures of these parts be written? Better known before a long run than after.
///
/// # Errors
/// The short table would be missing, or a file has no markers or cannot be read.
pub fn ready(parts: &[Part]) -> Result<(), String> {
    if !parts.contains(&Part::Throughput) {
        return Err(no_throughput());
    }
    for name in [README, PERFORMANCE] {
        with_figures(name, "")?;
    }
    Ok(())
}

/// Writes them.
///
/// # Errors
/// The short table was not measured, or a file has no markers or cannot be read or
/// written.
pub fn write(report: &Report) -> Result<(), String> {
    let json = report.json();
    let record = Record(&json);
    let readme = with_figures(README, &short(record)?)?;
    let performance = with_figures(PERFORMANCE, &whole(record))?;
    for (name, text) in [(README, readme), (PERFORMANCE, performance)] {
        std::fs::write(path(name), text).map_err(|error| format!("{name}: {error}"))?;
        println!("wrote {name}");
    }
    Ok(())
}

fn path(name: &str) -> PathBuf {
    place::repository().join(name)
}

/// A file as it is with these figures.
fn with_figures(name: &str, figures: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path(name)).map_err(|error| format!("{name}: {error}"))?;
    replaced(&text, figures).map_err(|error| format!("{name}: {error}"))
}

fn no_throughput() -> String {
    format!("{README} shows figures of the part throughput: measure it too")
}

/// A text with other figures between its markers.
fn replaced(text: &str, figures: &str) -> Result<String, String> {
    let missing = |marker: &str| format!("there is no {marker}");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest
        .split_once(END)
        .ok_or_else(|| format!("{} after {BEGIN}", missing(END)))?;
    if after.contains(BEGIN) || after.contains(END) {
        return Err(format!("{BEGIN} and {END} must be there once"));
    }
    Ok(format!("{before}{BEGIN}\n\n{figures}\n{END}{after}"))
}

/// The table of README.md.
fn short(record: Record<'_>) -> Result<String, String> {
    if record.tables("throughput").is_empty() {
        return Err(no_throughput());
    }
    let servers = compared();
    let mut head = vec!["work"];
    head.extend(servers.iter().map(|(_, name)| name.as_str()));
    let kinds = servers.each_ref().map(|(kind, _)| *kind);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for work in Work::ALL {
        let cells = kinds.map(|kind| measured(record, work, kind));
        rows.push([work.name().to_owned()].into_iter().chain(cells).collect());
    }
    for base in [Kind::Native, Kind::AllWorkers] {
        let cells = kinds.map(|kind| ratios(record, kind, base));
        let name = format!("{} {}", Work::Validate.name(), figures::against(base));
        rows.push([name].into_iter().chain(cells).collect());
    }
    let rounds = record.figure("throughput", "rounds").unwrap_or("?");
    let intro = format!(
        "{}\n\nEach cell: requests/s, CPU us a request, p99 in ms at half of that load; the \
         last rows are ratios of these. Medians; rounds: {rounds}.\n\n",
        place_and_time(record)
    );
    Ok(intro + &markdown(&head, &rows))
}

fn measured(record: Record<'_>, work: Work, kind: Kind) -> String {
    let cell = |load: Load, column| {
        let row = [work.name(), &kind.name()];
        record.cell("throughput", load.name(), &row, column)
    };
    joined([
        cell(Load::Full, "requests/s"),
        cell(Load::Full, "CPU us"),
        cell(Load::Half, "p99 ms"),
    ])
}

fn ratios(record: Record<'_>, kind: Kind, base: Kind) -> String {
    let row = [Work::Validate.name(), &kind.name()];
    let cell = |column| {
        let cell = record.cell("throughput", &figures::against(base), &row, column)?;
        number(cell)?;
        cell.split(' ').next()
    };
    joined([
        cell(figures::THROUGHPUT),
        cell(figures::CPU),
        cell(figures::AT_HALF),
    ])
}

/// The three of them, if any is there.
fn joined(cells: [Option<&str>; 3]) -> String {
    match cells {
        [None, None, None] => "-".to_owned(),
        _ => cells.map(|cell| cell.unwrap_or("-")).join(" / "),
    }
}

/// The first lines of the report, which say where and when.
fn place_and_time(record: Record<'_>) -> String {
    let lines = record.headline();
    let lines: Vec<&str> = lines.into_iter().take(2).collect();
    format!("{}.", lines.join("; "))
}

/// All of docs/performance.md.
fn whole(record: Record<'_>) -> String {
    let mut text = String::new();
    for line in record.headline() {
        text.push_str(&format!("- {line}\n"));
    }
    if let Some(rounds) = record.figure("throughput", "rounds") {
        text.push_str(&format!("- rounds: {rounds}\n"));
    }
    let (held, failed) = record.claims();
    text.push_str(&format!("- claims: {held} held, {failed} did not\n"));
    for part in Part::ALL {
        let (figures, tables) = (record.figures(part.name()), record.tables(part.name()));
        if figures.is_empty() && tables.is_empty() {
            continue;
        }
        text.push_str(&format!("\n### {}\n", part.name()));
        if !figures.is_empty() {
            let rows: Vec<_> = figures
                .iter()
                .map(|(name, value)| [*name, *value])
                .collect();
            text.push_str(&format!("\n{}", markdown(&["figure", "value"], &rows)));
        }
        for Table { head, rows } in tables {
            text.push_str(&format!("\n{}", markdown(&head, &rows)));
        }
    }
    text.push_str("\n### Aims\n\n");
    text + &markdown(&goals::HEAD, &goals::rows(record))
}

/// A table in Markdown; columns of numbers but the first are aligned to the right.
fn markdown<R: AsRef<[S]>, S: AsRef<str>>(head: &[&str], rows: &[R]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let is_number = |cell: &S| !cell.as_ref().contains(char::is_alphabetic);
    let rule = (0..head.len()).map(|column| {
        let mut cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        match column > 0 && cells.all(is_number) {
            true => "---:|",
            false => "---|",
        }
    });
    let rule: String = rule.collect();
    let rows = rows.iter().map(|row| {
        let cells = row.as_ref().iter().map(AsRef::as_ref);
        line(cells.collect())
    });
    let rows: String = rows.collect();
    format!("{}|{rule}\n{rows}", line(head.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_stands_between_the_markers_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&text, "| new |\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "| new |\n").unwrap(), new);
    }

    #[test]
    fn a_missing_marker_is_named() {
        let error = |text: &str| replaced(text, "").unwrap_err();
        assert_eq!(error("nothing"), format!("there is no {BEGIN}"));
        let late = format!("{END}\n{BEGIN}\n");
        assert_eq!(error(&late), format!("there is no {END} after {BEGIN}"));
        let twice = format!("{BEGIN}{END}{BEGIN}{END}");
        assert!(error(&twice).contains("once"));
    }

    #[test]
    fn tables_are_written_in_markdown() {
        let rows = [["a", "1.5", "x"], ["b", "-", "2"]];
        let text = "| what | much | any |\n|---|---:|---|\n| a | 1.5 | x |\n| b | - | 2 |\n";
        assert_eq!(markdown(&["what", "much", "any"], &rows), text);
    }

    #[test]
    fn both_files_have_markers() {
        assert_eq!(ready(&Part::ALL), Ok(()));
        assert!(ready(&[Part::Start]).unwrap_err().contains("throughput"));
    }

    /// With one row, of jwt/validate on Lockgate as it is by default.
    fn table(name: &str, cells: [(&str, &str); 3]) -> Value {
        let mut head = vec![name, "server"];
        head.extend(cells.map(|(column, _)| column));
        let reused = Kind::Reused.name();
        let mut row = vec![Work::Validate.name(), &reused];
        row.extend(cells.map(|(_, cell)| cell));
        json!({"head": head, "rows": [row]})
    }

    #[test]
    fn the_short_table_is_made_of_the_long_ones() {
        let load = |load: Load, cells: [&str; 3]| {
            let [rate, cpu, p99] = cells;
            let cells = [("requests/s", rate), ("CPU us", cpu), ("p99 ms", p99)];
            table(load.name(), cells)
        };
        let ratios = [
            (figures::THROUGHPUT, "0.70 (0.60-0.80)"),
            (figures::CPU, "1.40 (1.00-2.00)"),
            (figures::AT_HALF, "-"),
        ];
        let throughput = json!({
            "figures": [{"name": "rounds", "value": "5"}],
            "tables": [
                load(Load::Full, ["9", "8.0", "7.00"]),
                load(Load::Half, ["4", "8.5", "2.00"]),
                table(&figures::against(Kind::Native), ratios),
            ],
        });
        let headline = ["a run", "machine: m", "host: h"];
        let report = json!({"headline": headline, "parts": {"throughput": throughput}});
        let text = short(Record(&report)).unwrap();
        assert!(text.starts_with("a run; machine: m.\n"), "{text}");
        for row in [
            "| jwt/validate | 9 / 8.0 / 2.00 | - | - | - |",
            "| jwt/validate against the native twin | 0.70 / 1.40 / - | - | - | - |",
        ] {
            assert!(text.contains(&format!("\n{row}\n")), "{text}");
        }
        let text = whole(Record(&report));
        assert!(
            text.contains("\n### throughput\n\n| figure | value |\n|---|---:|\n"),
            "{text}"
        );
        assert!(text.contains("\n### Aims\n"), "{text}");
        assert!(short(Record(&json!({}))).is_err());
    }
}
