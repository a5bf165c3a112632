//! What was aimed at, and whether a run reached it. It reads the figures of the run and
//! measures nothing.

use super::figures;
use super::record::{Record, number};
use super::server::Kind;
use super::work::Work;
use super::{growth, resident, start, swaps};

/// Whose throughput and latency are aimed at.
const WORK: Work = Work::Validate;

/// What was wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

/// An aim, and the figure that tells whether it is reached.
#[derive(Debug)]
struct Goal<'a> {
    what: String,
    wanted: Wanted,
    unit: &'static str,
    /// As the table of the run shows it; none: it was not measured.
    measured: Option<&'a str>,
}

impl Goal<'_> {
    fn aim(&self) -> String {
        let (word, bound) = match self.wanted {
            Wanted::AtLeast(bound) => ("at least", bound),
            Wanted::AtMost(bound) => ("at most", bound),
        };
        format!("{}: {word} {bound}{}", self.what, self.unit)
    }

    fn verdict(&self) -> &'static str {
        let Some(value) = self.measured.and_then(number) else {
            return "not measured";
        };
        let reached = match self.wanted {
            Wanted::AtLeast(bound) => value >= bound,
            Wanted::AtMost(bound) => value <= bound,
        };
        if reached { "reached" } else { "short" }
    }

    fn row(&self) -> Vec<String> {
        let measured = match self.measured.filter(|cell| number(cell).is_some()) {
            Some(cell) => format!("{cell}{}", self.unit),
            None => "-".to_owned(),
        };
        vec![self.aim(), measured, self.verdict().to_owned()]
    }
}

/// Columns of the table.
pub(super) const HEAD: [&str; 3] = ["aim", "measured", "verdict"];

/// Its rows.
pub(super) fn rows(record: Record<'_>) -> Vec<Vec<String>> {
    let goals = [native(record), python(record), alone(record)];
    goals.iter().flatten().map(Goal::row).collect()
}

/// Against the native twin.
fn native(record: Record<'_>) -> Vec<Goal<'_>> {
    let kinds = [(Kind::Reused, 0.85), (Kind::Fresh, 0.60)];
    let goals = kinds.map(|(kind, throughput)| {
        let goal =
            |what, wanted, column| against(record, (kind, Kind::Native), what, wanted, column);
        [
            goal(
                "throughput",
                Wanted::AtLeast(throughput),
                figures::THROUGHPUT,
            ),
            goal(
                "p99, each at half of its best",
                Wanted::AtMost(1.3),
                figures::AT_HALF,
            ),
            goal(
                "p99, both at the same rate",
                Wanted::AtMost(1.3),
                figures::AT_COMMON,
            ),
        ]
    });
    goals.into_iter().flatten().collect()
}

/// Against Python with as many workers as there are cores.
fn python(record: Record<'_>) -> Vec<Goal<'_>> {
    let kinds = (Kind::Reused, Kind::AllWorkers);
    let goal = |what, wanted, column| against(record, kinds, what, wanted, column);
    vec![
        goal("throughput", Wanted::AtLeast(8.0), figures::THROUGHPUT),
        goal(
            "p99, each at half of its best",
            Wanted::AtMost(0.1),
            figures::AT_HALF,
        ),
    ]
}

/// One server against another, in a column of ratios.
fn against<'a>(
    record: Record<'a>,
    (kind, base): (Kind, Kind),
    what: &str,
    wanted: Wanted,
    column: &str,
) -> Goal<'a> {
    let (work, name, table) = (WORK.name(), kind.name(), figures::against(base));
    Goal {
        what: format!("{work}, {name} {table}: {what}"),
        wanted,
        unit: "",
        measured: record.cell("throughput", &table, &[work, &name], column),
    }
}

/// Lockgate without anything to compare it with. Where there are several values, the worst
/// counts.
fn alone(record: Record<'_>) -> Vec<Goal<'_>> {
    let goal = |what: &str, wanted, unit, measured| Goal {
        what: what.to_owned(),
        wanted,
        unit,
        measured,
    };
    let worst = |table, row: &[&str]| record.cell("start", table, row, "worst ms");
    let swap = |row| worst(swaps::TABLE, &[row, swaps::DEFAULT]);
    vec![
        goal(
            "start to the answers of all five services, compiled code in the cache",
            Wanted::AtMost(150.0),
            " ms",
            worst(start::TABLE, &[]),
        ),
        goal(
            "file of a shipped plugin to the new code, compiled before",
            Wanted::AtMost(150.0),
            " ms",
            swap(swaps::COMPILED),
        ),
        goal(
            "the same, new code",
            Wanted::AtMost(1500.0),
            " ms",
            swap(swaps::NEW),
        ),
        goal(
            "resident when idle",
            Wanted::AtMost(60.0),
            " MB",
            record.figure("start", &resident::idle_by_default()),
        ),
        goal(
            "each further instance that has served",
            Wanted::AtMost(300.0),
            " kB",
            record.figure("start", resident::FURTHER),
        ),
        goal(
            "throughput of a service among fifty against one that is alone",
            Wanted::AtLeast(0.95),
            "",
            record.cell(
                "growth",
                growth::TABLE,
                &[&growth::against()],
                growth::THROUGHPUT,
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(wanted: Wanted, measured: Option<&'static str>) -> &'static str {
        let goal = Goal {
            what: "it".to_owned(),
            wanted,
            unit: "",
            measured,
        };
        goal.verdict()
    }

    #[test]
    fn a_bound_itself_is_reached() {
        let least = Wanted::AtLeast(0.85);
        assert_eq!(verdict(least, Some("0.85 (0.80-0.90)")), "reached");
        assert_eq!(verdict(least, Some("0.84")), "short");
        assert_eq!(verdict(Wanted::AtMost(150.0), Some("150")), "reached");
        assert_eq!(verdict(Wanted::AtMost(150.0), Some("151")), "short");
        assert_eq!(verdict(least, Some("-")), "not measured");
        assert_eq!(verdict(least, None), "not measured");
    }

    #[test]
    fn aims_are_told_from_figures() {
        let table = json!({
            "head": ["against the native twin", "server", "throughput"],
            "rows": [["jwt/validate", Kind::Reused.name(), "0.90 (0.88-0.92)"]],
        });
        let report = json!({"parts": {"throughput": {"tables": [table]}}});
        let rows = rows(Record(&report));
        assert!(rows[0][0].ends_with("at least 0.85"), "{rows:?}");
        assert_eq!(rows[0][1..], ["0.90 (0.88-0.92)", "reached"]);
        assert_eq!(rows[1][1..], ["-", "not measured"]);
        assert_eq!(rows.len(), 14);
    }
}
