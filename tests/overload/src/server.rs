//! A real daemon, built as this program was, on ports that the system chooses.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{Address, Options, SUBJECT_STATUS};

use crate::process;
use crate::trouble::Trouble;

/// A running windlassd. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    address: Address,
    admin: String,
    observer: Client,
}

/// What the metrics said.
pub(crate) struct Metrics(String);

/// What a load generator calls itself; it never tries anything again.
pub(crate) fn options() -> Options {
    let mut options = Options::named("windlass-overload");
    options.attempts_max = 1;
    // Ten thousand connections are opened beside a daemon that is busy.
    options.connect_timeout = std::time::Duration::from_secs(30);
    options
}

/// Builds the daemon, if it is not up to date, with the profile of this program and beside it.
pub(crate) fn build() -> Result<(), Trouble> {
    let program = program()?;
    let folder = program.parent().and_then(|profile| Some((profile.file_name()?, profile.parent()?)));
    let Some((profile, target)) = folder else { return Err(Trouble::Build) };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "windlass-daemon", "--bin", "windlassd"]);
    if profile == "release" {
        command.arg("--release");
    } else {
        eprintln!("this is not the optimised build; use cargo run --release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target);
    let status = command.status().map_err(|error| Trouble::io("running cargo", error))?;
    if status.success() { Ok(()) } else { Err(Trouble::Build) }
}

/// `windlassd` beside this program.
fn program() -> Result<PathBuf, Trouble> {
    let own = std::env::current_exe().map_err(|error| Trouble::io("finding this program", error))?;
    Ok(own.with_file_name("windlassd"))
}

impl Server {
    /// Starts one with these settings (`section.key`, value) and waits until it serves.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Result<Self, Trouble> {
        let mut command = Command::new(program()?);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"WINDLASS") {
                command.env_remove(name);
            }
        }
        let own = [
            ("listen.tcp", "127.0.0.1:0"),
            ("listen.http", ""),
            ("listen.admin", "127.0.0.1:0"),
            ("log.format", "json"),
        ];
        for (key, value) in own.iter().chain(settings) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Trouble::io("starting windlassd", error))?;
        let Some(stderr) = child.stderr.take() else { return Err(Trouble::NotReady(String::new())) };
        let (sender, doors) = mpsc::sync_channel(1);
        // Ends with the daemon; it also keeps the pipe from filling up.
        std::thread::spawn(move || read_log(BufReader::new(stderr), &sender));
        let (address, admin) = match doors.recv() {
            Ok(Ok(doors)) => doors,
            Ok(Err(said)) => return Err(Trouble::NotReady(said)),
            Err(_) => return Err(Trouble::NotReady(String::new())),
        };
        let address: Address = address.parse().map_err(|_| Trouble::NotReady(address.clone()))?;
        let observer = Client::connect(address.clone(), options())
            .await
            .map_err(|error| Trouble::call("connecting to look at the daemon", error))?;
        Ok(Self { child, address, admin, observer })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What runs and waits, as `windlass status --json` prints it.
    pub(crate) async fn status(&self) -> Result<Value, Trouble> {
        let json = self.observer.query(SUBJECT_STATUS).await;
        let json = json.map_err(|error| Trouble::call("asking for the status", error))?;
        serde_json::from_slice(&json)
            .map_err(|_| Trouble::Missing { asked: "the status", missing: "JSON".to_owned() })
    }

    /// The metrics of the admin door.
    pub(crate) async fn metrics(&self) -> Result<Metrics, Trouble> {
        let attempted = |error| Trouble::io("reading the metrics", error);
        let mut stream = TcpStream::connect(&self.admin).await.map_err(attempted)?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.map_err(attempted)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(attempted)?;
        Ok(Metrics(String::from_utf8_lossy(&answer).into_owned()))
    }

    /// Seconds that its workers were busy until now, by its own metrics.
    pub(crate) async fn busy_seconds(&self) -> Result<f64, Trouble> {
        self.metrics().await?.sum("windlass_worker_busy_seconds_total", "")
    }

    /// Seconds that its workers spent on an operation until now, by its own metrics.
    pub(crate) async fn service_seconds(&self, operation: &str) -> Result<f64, Trouble> {
        let label = format!("operation=\"{operation}\"");
        self.metrics().await?.sum("windlass_service_time_seconds_sum", &label)
    }

    /// A field of its /proc/PID/status, bytes.
    pub(crate) fn memory(&self, field: &str) -> Result<u64, Trouble> {
        process::memory(self.pid(), field)
            .ok_or_else(|| Trouble::Missing { asked: "/proc/PID/status", missing: field.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Metrics {
    /// All samples of a metric whose labels contain `label`, added up.
    fn sum(&self, name: &str, label: &str) -> Result<f64, Trouble> {
        let samples: Vec<f64> = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
            .filter_map(|rest| rest.rsplit_once(' ')?.1.parse().ok())
            .collect();
        if samples.is_empty() {
            return Err(Trouble::Missing { asked: "/metrics", missing: format!("{name} {label}") });
        }
        Ok(samples.iter().sum())
    }
}

/// Where it listens: the native address and the admin's HOST:PORT.
type Doors = (String, String);

/// Reads the log to its end, and says once where the daemon listens or what it said instead.
fn read_log(log: impl BufRead, sender: &mpsc::SyncSender<Result<Doors, String>>) {
    let (mut said, mut native, mut admin) = (String::new(), None, None);
    let mut is_ready = false;
    for line in log.lines().map_while(Result::ok) {
        if is_ready {
            continue;
        }
        said = said + &line + "\n";
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = event["address"].as_str().unwrap_or_default().to_owned();
        match event["message"].as_str() {
            Some("listening") if event["door"] == "admin" => {
                admin = address.strip_prefix("http://").map(str::to_owned);
            }
            Some("listening") if address.starts_with("tcp://") => native = Some(address),
            Some("ready") => {
                is_ready = true;
                let doors = native.take().zip(admin.take()).ok_or_else(|| said.clone());
                // Nobody waits any more when starting was given up.
                let _told = sender.send(doors);
            }
            _ => {}
        }
    }
    if !is_ready {
        let _told = sender.send(Err(said));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_by_name_and_label() {
        let metrics = Metrics(
            "HTTP/1.1 200 OK\r\n\r\n# HELP a_total x\na_total{o=\"x\"} 1.5\na_total{o=\"y\"} 2\na_total_more 9\nb 4\n"
                .to_owned(),
        );
        assert!((metrics.sum("a_total", "").unwrap() - 3.5).abs() < 1e-9);
        assert!((metrics.sum("a_total", "o=\"y\"").unwrap() - 2.0).abs() < 1e-9);
        assert!((metrics.sum("b", "").unwrap() - 4.0).abs() < 1e-9);
        assert!(metrics.sum("c", "").is_err());
    }

    #[test]
    fn doors_are_read_from_the_log_and_other_words_are_handed_on() {
        let doors = |log: &str| {
            let (sender, doors) = mpsc::sync_channel(1);
            read_log(log.as_bytes(), &sender);
            doors.recv().unwrap()
        };
        let log = "{\"message\":\"listening\",\"address\":\"http://127.0.0.1:2\",\"door\":\"admin\"}\n\
                   {\"message\":\"listening\",\"address\":\"tcp://127.0.0.1:1\"}\n{\"message\":\"ready\"}\n";
        assert_eq!(doors(log), Ok(("tcp://127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned())));
        assert_eq!(doors("cannot\n"), Err("cannot\n".to_owned()));
    }
}
