//! The servers that are compared, each a process of its own on a port of its own, ended by its process id.

mod gearmand;
mod nginx;
mod ours;
mod redis;
mod windlassd;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) use gearmand::gearmand;
pub(crate) use nginx::nginx;
pub(crate) use ours::{axum, frames};
pub(crate) use redis::redis;
pub(crate) use windlassd::{Windlassd, windlassd};

use crate::load::Address;
use crate::trouble::{Attempt, Result, failed};

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs. Dropping it kills it and what it needs.
pub(crate) struct Server {
    child: Child,
    /// Started after it, ended before it.
    helpers: Vec<Child>,
    port: u16,
    /// From the start of the process until it accepts.
    pub(crate) started_in: Duration,
    directory: TempDir,
}

/// Waits a little. The benchmark waits for time to pass, which is no fact that could be waited for.
pub(crate) fn pause(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Ports that were free just now, all different.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // Held until all are found: one that is given back at once may be found again.
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).trying("find a free port"))
        .collect::<Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().trying("find a free port")?.port();
    }
    Ok(ports)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Server {
    /// Starts `program` with what `prepare` gives it (a folder and a port) and waits until it accepts there.
    pub(crate) fn start(program: &Path, prepare: impl FnOnce(&mut Command, &Path, u16)) -> Result<Self> {
        let [port] = free_ports()?;
        Self::start_on(program, port, |command, folder| prepare(command, folder, port))
    }

    /// The same with a port of the caller's choice.
    fn start_on(program: &Path, port: u16, prepare: impl FnOnce(&mut Command, &Path)) -> Result<Self> {
        let directory = tempfile::tempdir().trying("make a scratch folder")?;
        let mut command = Command::new(program);
        prepare(&mut command, directory.path());
        let began = Instant::now();
        let child = spawn(&mut command)?;
        let mut server = Self { child, helpers: Vec::new(), port, started_in: Duration::ZERO, directory };
        server.wait_for(loopback(port))?;
        server.started_in = began.elapsed();
        Ok(server)
    }

    /// Waits until the server accepts at an address of its own.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait().trying("look after a server")? {
                return failed(format!("the server for {address} ended at once: {status}"));
            }
            if Instant::now() > until {
                return failed(format!("nobody listens on {address} after {PATIENCE:?}"));
            }
            std::thread::park_timeout(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Adds a process that the server needs.
    pub(crate) fn help(&mut self, command: &mut Command) -> Result<()> {
        self.helpers.push(spawn(command)?);
        Ok(())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn tcp(&self) -> Address {
        Address::Tcp(loopback(self.port))
    }

    /// A socket of this name in the server's folder.
    pub(crate) fn unix(&self, name: &str) -> Address {
        Address::Unix(self.directory.path().join(name))
    }

    /// The process and those that it has started itself, as nginx does.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        send(&self.child, signal)
    }

    /// Waits for the end that a signal has asked for.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().trying("look after a server")? {
                return Ok(status);
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        failed(format!("a server has not ended {PATIENCE:?} after it was asked to"))
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    // Nothing that is set for a Windlass here may change the one that is measured.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"WINDLASS") {
            command.env_remove(name);
        }
    }
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .trying(format!("start {program}"))
}

fn send(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return failed("a process without an id") };
    kill_process(pid, signal).trying("signal a server")
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.helpers.iter_mut().chain([&mut self.child]) {
            // SIGTERM first: nginx leaves its workers behind when it is killed. All of this may have ended by itself.
            let _ = send(child, Signal::TERM);
            let until = Instant::now() + Duration::from_secs(3);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(2));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
