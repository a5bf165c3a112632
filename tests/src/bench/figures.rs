//! The figures of all turns, and the tables that are made of them. It measures nothing.

use std::collections::BTreeMap;

use super::load::Outcome;
use super::server::Kind;
use super::work::Work;
use crate::measure::Report;

/// How much load there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    /// As much as the server can do.
    Full,
    /// Half of that.
    Half,
    /// The rate that all servers in Rust get.
    Common,
}

impl Load {
    /// Names the table of its figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "as much as it can do",
            Self::Half => "half of that",
            Self::Common => "one rate for all",
        }
    }
}

/// Columns of ratios.
pub(super) const THROUGHPUT: &str = "throughput";
pub(super) const CPU: &str = "CPU";
pub(super) const AT_HALF: &str = "p99 at half";
pub(super) const AT_COMMON: &str = "p99 at one rate";

/// Names the table of the ratios to a server.
pub(super) fn against(base: Kind) -> String {
    match base {
        Kind::Native => format!("against the {}", base.name()),
        _ => format!("against {}", base.name()),
    }
}

/// One load on one server.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    /// What the load generator saw.
    pub(super) outcome: Outcome,
    /// Processor time of the server for each request, microseconds.
    pub(super) cpu: f64,
    /// Its resident memory at the end, kB.
    pub(super) rss: u64,
}

/// The turns of all rounds, in the order of the rounds.
#[derive(Debug, Default)]
pub(super) struct Figures {
    turns: BTreeMap<(Work, Load, Kind), Vec<Turn>>,
}

/// Something that a turn says.
pub(super) type Of = fn(&Turn) -> f64;

impl Figures {
    /// One more turn.
    pub(super) fn add(&mut self, work: Work, kind: Kind, load: Load, turn: Turn) {
        self.turns.entry((work, load, kind)).or_default().push(turn);
    }

    /// All tables.
    pub(super) fn print(&self, report: &mut Report) {
        for load in [Load::Full, Load::Half, Load::Common] {
            report.table(
                &[
                    load.name(),
                    "server",
                    "requests/s",
                    "p50 ms",
                    "p99 ms",
                    "p99.9 ms",
                    "CPU us",
                    "RSS MB",
                ],
                &self.rows(load),
            );
        }
        let native = against(Kind::Native);
        let head = [&native, "server", THROUGHPUT, CPU, AT_HALF, AT_COMMON];
        report.table(&head, &self.ratios(Kind::Native));
        // The servers in Python do not get the common rate.
        let python = against(Kind::AllWorkers);
        let mut rows = self.ratios(Kind::AllWorkers);
        for row in &mut rows {
            row.pop();
        }
        report.table(&[&python, "server", THROUGHPUT, CPU, AT_HALF], &rows);
    }

    fn rows(&self, load: Load) -> Vec<Vec<String>> {
        let rows = self.turns.iter().filter(|((_, at, _), _)| *at == load);
        rows.map(|((work, _, kind), turns)| {
            let cell = |of: Of, digits: usize| format!("{:.digits$}", median(&values(turns, of)));
            vec![
                work.name().to_owned(),
                kind.name(),
                cell(|turn| turn.outcome.rate, 0),
                cell(|turn| turn.outcome.p50, 2),
                cell(|turn| turn.outcome.p99, 2),
                cell(|turn| turn.outcome.p999, 2),
                cell(|turn| turn.cpu, 1),
                cell(|turn| turn.rss as f64 / 1e3, 1),
            ]
        })
        .collect()
    }

    /// Each figure by that of another server in the same round.
    fn ratios(&self, base: Kind) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for work in Work::ALL {
            for kind in Kind::ALL.into_iter().filter(|kind| *kind != base) {
                let against = |load, of| self.against(work, load, (kind, base), of);
                rows.push(vec![
                    work.name().to_owned(),
                    kind.name(),
                    against(Load::Full, |turn| turn.outcome.rate),
                    against(Load::Full, |turn| turn.cpu),
                    against(Load::Half, |turn| turn.outcome.p99),
                    against(Load::Common, |turn| turn.outcome.p99),
                ]);
            }
        }
        rows
    }

    fn against(&self, work: Work, load: Load, (kind, base): (Kind, Kind), of: Of) -> String {
        let of_kind = |kind| {
            let turns = self.turns.get(&(work, load, kind));
            values(turns.map_or(&[], Vec::as_slice), of)
        };
        spread(&ratios(&of_kind(kind), &of_kind(base)))
    }
}

/// What each of them says.
pub(super) fn values(turns: &[Turn], of: Of) -> Vec<f64> {
    turns.iter().map(of).collect()
}

/// The middle one, or what lies between the two in the middle; 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (at(half.saturating_sub(1)) + at(half)) / 2.0,
        _ => at(half),
    }
}

/// Each by the base of the same round.
pub(super) fn ratios(values: &[f64], base: &[f64]) -> Vec<f64> {
    let pairs = values.iter().zip(base).filter(|(_, base)| **base > 0.0);
    pairs.map(|(value, base)| value / base).collect()
}

/// The median, and from the least to the most.
pub(super) fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    match values {
        [] => "-".to_owned(),
        _ => format!("{:.2} ({least:.2}-{most:.2})", median(values)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let found = ratios(&[1.0, 9.0, 2.0], &[2.0, 3.0, 0.0]);
        assert_eq!(found, [0.5, 3.0]);
        assert_eq!(spread(&found), "1.75 (0.50-3.00)");
        assert_eq!(spread(&[]), "-");
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[])), (2.0, 0.0));
    }
}
