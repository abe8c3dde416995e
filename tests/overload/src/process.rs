//! What the system says of a process (proc(5)).

use std::io;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Ticks of /proc in a second: `USER_HZ`, 100 on every architecture that Linux runs on today.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time used until now, by all threads; zero of a process that is gone.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    Duration::from_millis(ticks(&stat) * 1000 / TICKS_PER_SECOND)
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything but ends with the last `)`.
fn ticks(stat: &str) -> u64 {
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0 };
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Lets this program have as many connections as the system allows it; the usual soft limit is 1,024.
pub(crate) fn raise_descriptors() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// A field of /proc/PID/status in bytes: `VmRSS`, `VmHWM`.
pub(crate) fn memory(pid: u32, field: &str) -> Option<u64> {
    kilobytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, field)
}

/// A field of /proc/PID/smaps_rollup in bytes: `Anonymous`, `Pss`.
pub(crate) fn mapped(pid: u32, field: &str) -> Option<u64> {
    kilobytes(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, field)
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(ticks(stat), 300);
        assert_eq!(ticks(""), 0);
    }

    #[test]
    fn memory_is_read_in_bytes_and_by_its_whole_name() {
        let status = "Name:\tx\nVmHWM:\t     200 kB\nVmRSS:\t     100 kB\n";
        assert_eq!(kilobytes(status, "VmRSS"), Some(102_400));
        assert_eq!(kilobytes(status, "VmH"), None);
        assert!(memory(std::process::id(), "VmRSS").is_some_and(|bytes| bytes > 0));
    }
}
