//! What can be seen of a running host from outside: its log, its process and its
//! sockets. It changes nothing.

use std::collections::{BTreeMap, HashSet};

/// How many requests each revision answered, by the log (level INFO). The key is the
/// beginning of the digest.
pub(crate) fn answers_by_revision(log: &str) -> BTreeMap<&str, u64> {
    let mut answers = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(" ms=")) {
        let revision = line
            .split_once("revision=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        if let Some((revision, _)) = revision {
            *answers.entry(revision).or_default() += 1;
        }
    }
    answers
}

/// The ids of the requests that the host has finished, by its log (level INFO).
pub(crate) fn finished_ids(log: &str) -> HashSet<&str> {
    log.lines()
        .filter(|line| line.contains(" ms="))
        .filter_map(|line| line.split_once("request_id=\"")?.1.split_once('"'))
        .map(|(id, _)| id)
        .collect()
}

/// What a process takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    /// Resident memory, kB.
    pub(crate) rss: u64,
    /// The most resident memory that it ever had, kB.
    pub(crate) peak: u64,
    /// Time on all processors since its start, seconds.
    pub(crate) cpu: f64,
    /// Threads.
    pub(crate) threads: u64,
    /// Open file descriptors.
    pub(crate) descriptors: usize,
}

impl Process {
    /// The process now; it must run.
    pub(crate) fn now(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.expect("the process runs");
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let word = line.and_then(|line| line.split_whitespace().nth(1));
            word.and_then(|word| word.parse().ok())
                .unwrap_or_else(|| panic!("no {name} in the status of a process"))
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        Self {
            cpu: processor_time(&stat.expect("the process runs")),
            rss: number("VmRSS:"),
            peak: number("VmHWM:"),
            threads: number("Threads:"),
            descriptors: descriptors.expect("the process runs").count(),
        }
    }
}

/// User and system time of `/proc/PID/stat`, which counts hundredths of a second.
fn processor_time(stat: &str) -> f64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|part| part.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Ports of the clients whose connections to a port the server still holds open.
pub(crate) fn clients_of(port: u16) -> HashSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    parse_clients(&table, port)
}

fn parse_clients(table: &str, port: u16) -> HashSet<u16> {
    let client = |line: &str| -> Option<u16> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = |index: usize| {
            let port = fields.get(index)?.rsplit_once(':')?.1;
            u16::from_str_radix(port, 16).ok()
        };
        // A closed socket that the kernel still sends from has no inode.
        let held = *fields.get(3)? == "01" && *fields.get(9)? != "0";
        (held && at(1)? == port).then(|| at(2))?
    };
    table.lines().skip(1).filter_map(client).collect()
}

/// Cores, processor and kernel of this machine.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("processor unknown", |(_, model)| model.trim());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{cores} cores, {model}, Linux {}, load {load}",
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_who_answered() {
        let log = "INFO request request_id=\"load-1\" revision=\"abc\" status=200 ms=0.1\n\
                   ERROR component failed revision=\"bad\" request_id=\"load-2\"\n\
                   INFO request request_id=\"load-2\" revision=\"abc\" status=200 ms=0.2\n";
        assert_eq!(answers_by_revision(log), [("abc", 2)].into());
        assert_eq!(finished_ids(log), ["load-1", "load-2"].into());
    }

    #[test]
    fn processor_time_is_user_and_system() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(processor_time(stat), 2.0);
    }

    #[test]
    fn only_connections_that_the_server_holds_count() {
        let table = "  sl  local_address rem_address st tx rx tr tm retr uid timeout inode\n\
            0: 0100007F:1F59 0100007F:C001 01 0:0 00:0 0 0 0 77 1\n\
            1: 0100007F:1F59 0100007F:C002 04 0:0 00:0 0 0 0 0 1\n\
            2: 0100007F:1F59 0100007F:C003 01 0:0 00:0 0 0 0 0 1\n\
            3: 0100007F:C001 0100007F:1F59 01 0:0 00:0 0 0 0 78 1\n";
        assert_eq!(parse_clients(table, 0x1F59), [0xC001].into());
    }
}
