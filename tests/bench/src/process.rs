//! What the kernel says about the processes that are measured.

use std::path::Path;

use crate::trouble::{Attempt, Result, failed};

/// Memory of some processes, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Pages that are theirs alone and were written to.
    pub(crate) private_dirty: f64,
    pub(crate) resident: f64,
}

pub(crate) fn memory(pids: &[u32]) -> Result<Memory> {
    let mut sum = Memory::default();
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).trying(format!("read {path}"))?;
        sum.private_dirty += kilobytes(&text, "Private_Dirty:", &path)?;
        sum.resident += kilobytes(&text, "Rss:", &path)?;
    }
    Ok(sum)
}

/// Memory of the kernel's own objects, of the whole machine, bytes. Sockets are most of what changes.
pub(crate) fn kernel_objects() -> Result<f64> {
    let path = "/proc/meminfo";
    let text = std::fs::read_to_string(path).trying(format!("read {path}"))?;
    kilobytes(&text, "Slab:", path)
}

fn kilobytes(text: &str, field: &str, path: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    match number {
        Some(number) => Ok(number * 1024.0),
        None => failed(format!("{path} has no {field}")),
    }
}

/// What some processes have done since they began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Activity {
    pub(crate) cpu_seconds: f64,
    /// Times that a thread was switched away from, which is as often as one was woken.
    pub(crate) switches: f64,
}

pub(crate) fn activity(pids: &[u32]) -> Result<Activity> {
    let mut sum = Activity::default();
    for pid in pids {
        let folder = format!("/proc/{pid}/task");
        for task in std::fs::read_dir(&folder).trying(format!("read {folder}"))? {
            // A thread that has ended meanwhile is no longer counted.
            let task = task.trying(format!("read {folder}"))?.path();
            let Some(one) = activity_of(&task) else { continue };
            sum.cpu_seconds += one.cpu_seconds;
            sum.switches += one.switches;
        }
    }
    Ok(sum)
}

fn activity_of(task: &Path) -> Option<Activity> {
    let status = std::fs::read_to_string(task.join("status")).ok()?;
    let count = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().parse::<f64>().ok()
    };
    let switches = count("voluntary_ctxt_switches:")? + count("nonvoluntary_ctxt_switches:")?;
    Some(Activity { cpu_seconds: cpu_seconds(task)?, switches })
}

/// In nanoseconds where the kernel counts them, else in ticks of 10 ms (proc(5)).
fn cpu_seconds(task: &Path) -> Option<f64> {
    let exact = std::fs::read_to_string(task.join("schedstat")).ok();
    if let Some(nanoseconds) = exact.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()) {
        return Some(nanoseconds / 1e9);
    }
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    // Behind the name in parentheses: utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_has_done_something() {
        let pid = [std::process::id()];
        let memory = memory(&pid).unwrap();
        assert!(memory.private_dirty > 1e4 && memory.resident > memory.private_dirty, "{memory:?}");
        let activity = activity(&pid).unwrap();
        assert!(activity.cpu_seconds > 0.0 && activity.switches >= 0.0, "{activity:?}");
        assert!(kernel_objects().unwrap() > 1e6);
    }
}
