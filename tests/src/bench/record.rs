//! What a run has found, read from the JSON of its report. It judges nothing.

use serde_json::Value;

/// The report of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a>(pub(super) &'a Value);

/// A table of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table<'a> {
    /// Names of the columns; the first names the table.
    pub(super) head: Vec<&'a str>,
    /// The rows, each with as many cells.
    pub(super) rows: Vec<Vec<&'a str>>,
}

impl<'a> Record<'a> {
    /// What it was measured on and with.
    pub(super) fn headline(self) -> Vec<&'a str> {
        strings(&self.0["headline"])
    }

    /// Claims that held, and those that did not.
    pub(super) fn claims(self) -> (u64, u64) {
        let count = |name: &str| self.0[name].as_u64().unwrap_or(0);
        (count("passed"), count("failed"))
    }

    /// The figures of a part that stand in no table: name and value.
    pub(super) fn figures(self, part: &str) -> Vec<(&'a str, &'a str)> {
        let text = |value: &'a Value| value.as_str().unwrap_or_default();
        list(&self.0["parts"][part]["figures"])
            .map(|figure| (text(&figure["name"]), text(&figure["value"])))
            .collect()
    }

    /// One of them.
    pub(super) fn figure(self, part: &str, name: &str) -> Option<&'a str> {
        let mut figures = self.figures(part).into_iter();
        figures.find(|(found, _)| *found == name).map(|(_, v)| v)
    }

    /// The tables of a part.
    pub(super) fn tables(self, part: &str) -> Vec<Table<'a>> {
        list(&self.0["parts"][part]["tables"])
            .map(|table| Table {
                head: strings(&table["head"]),
                rows: list(&table["rows"]).map(strings).collect(),
            })
            .collect()
    }

    /// A cell: of the row that begins with these cells, in the column of this name.
    pub(super) fn cell(
        self,
        part: &str,
        table: &str,
        row: &[&str],
        column: &str,
    ) -> Option<&'a str> {
        let mut tables = self.tables(part).into_iter();
        let table = tables.find(|found| found.head.first() == Some(&table))?;
        let at = table.head.iter().position(|name| *name == column)?;
        let row = table.rows.iter().find(|cells| cells.starts_with(row))?;
        row.get(at).copied()
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> Vec<&str> {
    list(value).filter_map(Value::as_str).collect()
}

/// The number that a cell begins with: of `0.70 (0.58-0.82)` the first.
pub(super) fn number(cell: &str) -> Option<f64> {
    cell.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_found_by_their_names() {
        let report = json!({"parts": {"p": {
            "figures": [{"name": "rounds", "value": "5"}],
            "tables": [
                {"head": ["other", "rate"], "rows": [["a", "1"]]},
                {"head": ["work", "server", "rate"], "rows": [["a", "x", "2"], ["a", "y", "3"]]},
            ],
        }}});
        let record = Record(&report);
        assert_eq!(record.cell("p", "work", &["a", "y"], "rate"), Some("3"));
        assert_eq!(record.cell("p", "other", &["a"], "rate"), Some("1"));
        assert_eq!(record.cell("p", "work", &["b"], "rate"), None);
        assert_eq!(record.cell("p", "work", &["a"], "size"), None);
        assert_eq!(record.cell("q", "work", &["a"], "rate"), None);
        assert_eq!(record.figure("p", "rounds"), Some("5"));
    }

    #[test]
    fn the_number_of_a_cell() {
        assert_eq!(number("0.70 (0.58-0.82)"), Some(0.7));
        assert_eq!(number("31"), Some(31.0));
        assert_eq!((number("-"), number("")), (None, None));
    }
}
