//! A daemon of a test's own: on ports that the system chooses, ended by its process id, its log kept for reading.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::raw::{self, Raw};
use crate::{PATIENCE, Program};

/// A running windlassd. Dropping it kills the process.
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    addresses: Vec<String>,
    admin: Option<String>,
    http: Option<String>,
    directory: TempDir,
}

/// How a daemon ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// All that it logged.
    pub log: Vec<Value>,
}

/// How to wait for a daemon's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    /// Until it serves.
    Awaited,
    /// Not at all.
    Ignored,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Daemon {
    /// A daemon with these settings (`section.key`, value) on loopback.
    #[track_caller]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::launch(Program::Windlassd, settings, Ready::Awaited, |_| {})
    }

    /// The same with operations that misbehave.
    #[track_caller]
    pub fn start_faulty(settings: &[(&str, &str)]) -> Self {
        Self::launch(Program::WindlassdFaults, settings, Ready::Awaited, |_| {})
    }

    /// A daemon of `program` whose command `prepare` may change.
    #[track_caller]
    pub fn launch(
        program: Program,
        settings: &[(&str, &str)],
        ready: Ready,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = program.command();
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"WINDLASS") {
                command.env_remove(name);
            }
        }
        command.current_dir(directory.path());
        let own = [
            ("listen.tcp", "127.0.0.1:0"),
            ("listen.http", "127.0.0.1:0"),
            ("listen.admin", "127.0.0.1:0"),
            ("log.format", "json"),
            // What waits behind a gate waits for longer than anybody would in earnest.
            ("queue.max_wait", "10m"),
            ("timeouts.deadline_default", "10m"),
        ];
        for (key, value) in own.iter().chain(settings) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        prepare(&mut command);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    log.lines.lock().unwrap().0.push(event);
                    log.more.notify_all();
                }
                log.lines.lock().unwrap().1 = true;
                log.more.notify_all();
            }
        });
        let mut daemon = Self {
            child,
            log,
            reader: Some(reader),
            addresses: Vec::new(),
            admin: None,
            http: None,
            directory,
        };
        if ready == Ready::Awaited {
            daemon.wait_for_log("ready");
            let log = daemon.log();
            let listening = log.iter().filter(|event| event["message"] == "listening");
            for (event, address) in listening.map(|event| (event, event["address"].as_str().unwrap())) {
                match address.strip_prefix("http://") {
                    Some(address) if event["door"] == "admin" => daemon.admin = Some(address.to_owned()),
                    Some(address) => daemon.http = Some(address.to_owned()),
                    None => daemon.addresses.push(address.to_owned()),
                }
            }
        }
        daemon
    }

    /// The first native address, as the client takes it.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// HOST:PORT of the first native address.
    pub fn host_port(&self) -> &str {
        self.address().strip_prefix("tcp://").expect("a TCP address")
    }

    /// HOST:PORT of the admin door.
    #[track_caller]
    pub fn admin_address(&self) -> &str {
        self.admin.as_deref().expect("listen.admin is not off")
    }

    /// All native addresses.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// HOST:PORT of the HTTP door.
    pub fn http(&self) -> &str {
        self.http.as_deref().expect("an HTTP address")
    }

    /// A folder of this daemon's own; its working directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// What the daemon answers to a Query for its status.
    #[track_caller]
    pub fn status(&self) -> Value {
        raw::status(&mut Raw::open(self.host_port()))
    }

    /// Asks for the status until it is as `is_so` says, and gives it.
    #[track_caller]
    pub fn wait_for_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut connection = Raw::open(self.host_port());
        crate::eventually(what, || Some(raw::status(&mut connection)).filter(|status| is_so(status)))
    }

    /// Waits until this many workers are busy with `operation`.
    #[track_caller]
    pub fn wait_until_running(&self, operation: &str, n_workers: usize) {
        self.wait_for_status(&format!("{n_workers} workers are busy with {operation}"), |status| {
            let workers = status["workers"].as_array().unwrap();
            let busy = workers.iter().filter(|worker| worker["running"]["operation"] == operation);
            busy.count() == n_workers
        });
    }

    /// A field of /proc/PID/status, as it is written there; `None` once the process is gone.
    pub fn process_status(&self, field: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// What was logged until now.
    pub fn log(&self) -> Vec<Value> {
        self.log.lines.lock().unwrap().0.clone()
    }

    /// Waits for an event whose message contains `text`, and gives it.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            let found = lines.0.iter().find(|event| match event {
                Value::String(line) => line.contains(text),
                event => event["message"].as_str().is_some_and(|message| message.contains(text)),
            });
            if let Some(event) = found {
                return event.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                let seen = lines.0.clone();
                // Whoever shows the log of a failed test needs the lock.
                drop(lines);
                panic!("no '{text}' in the log: {seen:#?}");
            }
            lines = self.log.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Names, niceness and count of the process's threads: (name, nice), sorted.
    pub fn threads(&self) -> Vec<(String, i32)> {
        let mut threads: Vec<(String, i32)> = std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .unwrap()
            .filter_map(|entry| thread_of(&entry.ok()?.path()))
            .collect();
        threads.sort();
        threads
    }

    /// The ids of the threads of this name.
    pub fn thread_ids(&self, name: &str) -> Vec<Pid> {
        let id = |task: std::path::PathBuf| {
            let (found, _) = thread_of(&task)?;
            let id = task.file_name()?.to_str()?.parse().ok()?;
            (found == name).then(|| Pid::from_raw(id))?
        };
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks.filter_map(|entry| id(entry.ok()?.path())).collect()
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn drain(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end, however it comes.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let status = crate::eventually("the daemon ends", || self.child.try_wait().unwrap());
        self.reader.take().unwrap().join().unwrap();
        Ended { status: status.code(), log: self.log() }
    }
}

fn thread_of(task: &Path) -> Option<(String, i32)> {
    let name = std::fs::read_to_string(task.join("comm")).ok()?.trim_end().to_owned();
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    // Behind the name in parentheses: state is field 3, nice is field 19 (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((name, fields.get(16)?.parse().ok()?))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log: Vec<String> = self.log().iter().map(Value::to_string).collect();
            println!("log of the daemon:\n{}", log.join("\n"));
        }
    }
}
