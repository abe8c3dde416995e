//! What the kernel says of this process (proc(5)).

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// Numbers of this moment; `None` where the kernel does not tell.
pub(super) struct Process {
    pub(super) descriptors: Option<u64>,
    pub(super) descriptors_max: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    /// CPU time of all threads.
    pub(super) cpu: Option<Duration>,
}

impl Process {
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self {
            descriptors: descriptors(),
            descriptors_max: getrlimit(Resource::Nofile).current,
            threads: field("Threads"),
            resident_bytes: field("VmRSS").map(|kibibytes| kibibytes * 1024),
            cpu: cpu(),
        }
    }
}

/// Since Linux 6.2 the size of the directory is their number; before, they are counted one by one.
fn descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        // One of them is the directory itself, while it is read.
        0 => fs::read_dir(DIRECTORY).ok().map(|entries| (entries.count() as u64).saturating_sub(1)),
        n => Some(n),
    }
}

fn cpu() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let before = Process::now();
        let _open: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = Process::now();
        // Other tests open and close files meanwhile.
        assert!(after.descriptors.unwrap() >= before.descriptors.unwrap() + 20);
        assert!(after.descriptors < after.descriptors_max);
        assert!(after.threads.unwrap() >= 1 && after.resident_bytes.unwrap() > 1 << 20);
        assert!(after.cpu.unwrap() >= before.cpu.unwrap());
    }
}
