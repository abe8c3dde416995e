//! The operator's window: it answers when all else is full, it tells the truth, and it tells it to nobody's pages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use windlass_protocol::{FailureCode, Kind, NoFields, append_frame};
use windlass_tests::admin::{Looked, Metrics, ask, look, metrics, status};
use windlass_tests::raw::{Raw, work};
use windlass_tests::{Daemon, Program, Ready, eventually, raw, repository, run, tool};

fn cancel(id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, Kind::Cancel, id, &NoFields::default(), &[]);
    bytes
}

/// A connection with one request in flight that waits until it is cancelled.
fn held(daemon: &Daemon) -> Raw {
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&work(1, "echo", &[("delay", "5m")], b"held"));
    // The request before the question is read before it.
    assert_ne!(raw::status(&mut connection)["in_flight"], 0);
    connection
}

/// Waits until as many workers have begun; at niceness 19 that takes its time beside other tests.
fn runs(at: &str, n_workers: usize) {
    eventually("the workers run", || {
        let status = status(at);
        let running =
            status["workers"].as_array().unwrap().iter().filter(|worker| !worker["running"].is_null());
        (running.count() == n_workers).then_some(())
    });
}

#[test]
fn health_and_readiness_follow_the_phases_to_the_very_end() {
    let daemon = Daemon::start(&[("drain.quiet", "1s"), ("timeouts.deadline_default", "10m")]);
    let at = daemon.admin_address().to_owned();
    let ready = || look(&at, "/readyz");
    let said = |looked: Looked| (looked.status, looked.body.trim_end().to_owned());
    assert_eq!(said(look(&at, "/livez")), (200, "alive".to_owned()));
    assert_eq!(said(ready()), (200, "ready".to_owned()));
    let mut connection = held(&daemon);
    daemon.signal(Signal::TERM);
    let quiet = eventually("readiness turns off", || Some(ready()).filter(|looked| looked.status != 200));
    assert_eq!(said(quiet), (503, "quiet".to_owned()));
    // Not ready, and serving all the same.
    Raw::open(daemon.host_port()).send(&work(1, "echo", &[], b""));
    eventually("the drain begins", || (ready().body == "draining\n").then_some(()));
    assert_eq!(look(&at, "/livez").status, 200);
    assert_eq!(status(&at)["state"], "draining");
    assert_eq!(metrics(&at).value("windlass_phase{phase=\"draining\"}"), 1.0);
    connection.send(&cancel(1));
    drop(connection.rest());
    assert_eq!(daemon.wait().status, Some(0));
}

#[test]
fn everything_answers_while_workers_queue_and_connections_are_full() {
    let daemon = Daemon::start(&[
        ("cpu.threads", "1"),
        ("queue.capacity", "1"),
        ("queue.max_wait", "10m"),
        ("limits.connections", "1"),
        ("timeouts.deadline_default", "10m"),
    ]);
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=3 {
        connection.send(&work(id, "spin", &[("for", "1m")], b""));
    }
    let refused = connection.frame().unwrap();
    assert_eq!((refused.id, refused.failure().unwrap().0), (3, FailureCode::OVERLOADED));
    let mut other = Raw::connect(daemon.host_port());
    other.send(&raw::greeting());
    assert_eq!(other.rest()[0].failure().unwrap().0, FailureCode::OVERLOADED);

    let at = daemon.admin_address();
    runs(at, 1);
    for (path, code) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/status.json", 200), ("/", 200)]
    {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(look(at, path).status, code, "{path}");
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        // Milliseconds, with room for a machine that runs other tests beside this one.
        assert!(times[10] < Duration::from_millis(100), "{path}: {times:?}");
    }
    let seen = metrics(at);
    assert_eq!(seen.value("windlass_worker_running{worker=\"windlass-cpu-0\"}"), 1.0);
    assert_eq!(seen.value("windlass_queue_waiting_requests"), 1.0);
    assert!(seen.value("windlass_oldest_waiting_seconds") > 0.0);
    assert!(seen.value("windlass_worker_busy_seconds_total{worker=\"windlass-cpu-0\"}") > 0.0);
    assert_eq!(
        seen.nonzero("windlass_refusals_total"),
        BTreeMap::from([("reason=overloaded".to_owned(), 1.0)])
    );
    assert_eq!(
        seen.nonzero("windlass_connections_refused_total"),
        BTreeMap::from([("door=tcp".to_owned(), 1.0)])
    );
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let daemon = Daemon::start(&[]);
    let at = daemon.admin_address();
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(at).unwrap()).collect();
    assert_eq!(look(at, "/livez").status, 200);
    drop(silent);
}

/// What a client was told, as the metrics say it.
#[derive(Default)]
struct Told {
    ended: BTreeMap<String, f64>,
    refused: BTreeMap<String, f64>,
}

impl Told {
    fn hear(&mut self, operation: &str, frame: &raw::Frame) {
        let outcome = match frame.failure() {
            None => "done".to_owned(),
            Some((code, _, retry_safe)) => {
                let label: String = code
                    .name()
                    .char_indices()
                    .map(|(at, c)| if at > 0 && c.is_uppercase() { format!("_{c}") } else { c.to_string() })
                    .collect::<String>()
                    .to_lowercase();
                if retry_safe {
                    *self.refused.entry(format!("reason={label}")).or_default() += 1.0;
                }
                label
            }
        };
        *self.ended.entry(format!("operation={operation},outcome={outcome}")).or_default() += 1.0;
    }
}

#[track_caller]
fn agree(seen: &Metrics, told: &Told) {
    assert_eq!(seen.nonzero("windlass_requests_total"), told.ended);
    assert_eq!(seen.nonzero("windlass_refusals_total"), told.refused);
}

#[test]
fn counters_are_exactly_what_clients_were_told_drain_and_cancellations_included() {
    let daemon = Daemon::start(&[
        ("cpu.threads", "1"),
        ("queue.capacity", "2"),
        ("queue.max_wait", "10m"),
        ("timeouts.deadline_default", "10m"),
        ("limits.body", "512KiB"),
    ]);
    let at = daemon.admin_address().to_owned();
    let mut told = Told::default();
    let mut connection = Raw::open(daemon.host_port());
    let mut id = 0;
    // One at a time: done, and every refusal that can be had from the head.
    for (operation, label, parameters, body) in [
        ("hash", "hash", vec![], vec![1; 100]),
        ("hash", "hash", vec![("algorithm", "sha256")], vec![1; 200_000]),
        ("hash", "hash", vec![("algorithm", "md5")], vec![]),
        ("hsah", "unknown", vec![], vec![]),
        ("decompress", "decompress", vec![("algorithm", "zstd")], b"not zstd".to_vec()),
        ("hash", "hash", vec![], vec![0; (1 << 19) + 1]),
        ("echo", "echo", vec![("delay", "5m")], vec![]),
    ] {
        id += 1;
        connection.send(&work(id, operation, &parameters, &body));
        if label == "echo" {
            connection.send(&cancel(id));
        }
        told.hear(label, &connection.frame().unwrap());
    }
    // A worker that is busy, a queue that is full, and both cancelled.
    let first = id + 1;
    for _ in 0..8 {
        id += 1;
        connection.send(&work(id, "spin", &[("for", "1m")], b""));
    }
    for _ in 0..5 {
        told.hear("spin", &connection.frame().unwrap());
    }
    runs(&at, 1);
    for id in first..first + 3 {
        connection.send(&cancel(id));
    }
    for _ in 0..3 {
        told.hear("spin", &connection.frame().unwrap());
    }
    // Whoever half-closes with requests open is told so.
    let mut half = held(&daemon);
    half.half_close();
    let last_words = half.rest();
    told.hear("echo", last_words.iter().find(|frame| frame.id == 1).unwrap());
    // Whoever is cut off is told nothing; its Welcome is unread, so the end is a reset.
    let mut cut = Raw::connect(daemon.host_port());
    cut.send(&raw::greeting());
    cut.send(&work(1, "echo", &[("delay", "5m")], b""));
    eventually("it is in flight", || (status(&at)["in_flight"] == 1).then_some(()));
    drop(cut);
    told.ended.insert("operation=echo,outcome=unanswered".to_owned(), 1.0);
    eventually("it is counted", || (status(&at)["in_flight"] == 0).then_some(()));
    agree(&metrics(&at), &told);

    // The drain: what is in flight is finished, what comes later is refused, and all of it is counted.
    let mut holder = held(&daemon);
    connection.send(&work(id + 1, "echo", &[("delay", "1m")], b""));
    assert_eq!(raw::status(&mut connection)["in_flight"], 2);
    daemon.signal(Signal::TERM);
    assert_eq!(connection.frame().unwrap().kind, Kind::GoAway);
    connection.send(&work(id + 2, "hash", &[], b"too late"));
    told.hear("hash", &connection.frame().unwrap());
    connection.send(&cancel(id + 1));
    told.hear("echo", &connection.frame().unwrap());
    drop(connection.rest());
    let seen = metrics(&at);
    agree(&seen, &told);
    assert_eq!(seen.value("windlass_requests_in_flight"), 1.0);
    // Taken by the worker: two hashes, what is not zstd, three spins. Of these at least one was started; the worker may
    // have come to the others before they were cancelled. What is answered while it waits is taken later.
    eventually("the worker has come to all of them", || {
        let seen = metrics(&at);
        let taken = |family: &str| -> f64 {
            let of_family = format!("{family}_count");
            seen.samples
                .iter()
                .filter(|(sample, _)| sample.starts_with(&of_family))
                .map(|(_, count)| count)
                .sum()
        };
        let served = taken("windlass_service_time_seconds");
        (taken("windlass_queue_wait_seconds") == 6.0 && (4.0..=6.0).contains(&served)).then_some(())
    });
    holder.send(&cancel(1));
    drop(holder.rest());
    assert_eq!(daemon.wait().status, Some(0));
}

#[test]
fn the_metrics_are_accepted_by_a_strict_reader_and_by_promtool() {
    let daemon = Daemon::start(&[("cpu.threads", "2")]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&work(1, "hash", &[], b"abc"));
    connection.frame().unwrap();
    let text = look(daemon.admin_address(), "/metrics").body;
    let seen = Metrics::read(&text);
    assert_eq!(seen.value("windlass_workers"), 2.0);
    assert!(seen.value("windlass_descriptors_open") >= 10.0 && seen.value("windlass_threads") >= 5.0);
    assert_eq!(seen.value("windlass_received_bytes_total"), 3.0);
    assert_eq!(seen.value("windlass_sent_bytes_total"), 64.0);
    assert_eq!(seen.value("windlass_connections{door=\"tcp\"}"), 1.0);
    let Some(mut promtool) = tool("promtool") else { return };
    let checked = run(promtool.args(["check", "metrics"]), text.as_bytes());
    assert_eq!((checked.status, checked.stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_is_deployed_names_only_metrics_that_are_exported() {
    let daemon = Daemon::start(&[]);
    let exported = metrics(daemon.admin_address()).families;
    let deploy = repository().join("deploy");
    for file in ["grafana-dashboard.json", "prometheus-alerts.yml"] {
        let text = std::fs::read_to_string(deploy.join(file)).unwrap();
        let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let named: BTreeSet<&str> = text
            .match_indices("windlass_")
            .map(|(at, _)| text[at..].split(|c| !is_of_name(c)).next().unwrap())
            .collect();
        assert!(named.len() >= 8, "{file} names {named:?}");
        for name in named {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| exported.get(*base).is_some_and(|kind| kind == "histogram"))
                .unwrap_or(name);
            assert!(exported.contains_key(family), "{file} names {name}, which is not exported");
        }
    }
    serde_json::from_str::<serde_json::Value>(
        &std::fs::read_to_string(deploy.join("grafana-dashboard.json")).unwrap(),
    )
    .unwrap();
    if let Some(mut promtool) = tool("promtool") {
        let checked = run(promtool.args(["check", "rules"]).arg(deploy.join("prometheus-alerts.yml")), b"");
        assert_eq!(checked.status, Some(0), "{}{}", checked.text(), checked.stderr);
    }
    if let Some(mut promtool) = tool("promtool") {
        let mut check = promtool.args(["check", "config", "--syntax-only"]);
        check = check.arg(deploy.join("prometheus-scrape.yml"));
        let checked = run(check, b"");
        assert_eq!(checked.status, Some(0), "{}{}", checked.text(), checked.stderr);
    }
}

#[test]
fn other_hosts_and_origins_are_turned_away() {
    let daemon = Daemon::start(&[("listen.http_hosts", "jobs.example")]);
    let at = daemon.admin_address();
    let port = at.rsplit_once(':').unwrap().1;
    let status_of = |method: &str, path: &str, headers: &str| {
        ask(at, &format!("{method} {path} HTTP/1.1\r\n{headers}content-length: 0\r\n\r\n")).status
    };
    let paths = ["/", "/livez", "/readyz", "/metrics", "/status.json", "/log-level"];
    for path in paths {
        assert_eq!(status_of("GET", path, &format!("host: localhost:{port}\r\n")), 200, "{path}");
        // A name that its owner has pointed here: DNS rebinding.
        assert_eq!(status_of("GET", path, &format!("host: evil.example:{port}\r\n")), 421, "{path}");
        assert_eq!(status_of("GET", path, "host: jobs.example\r\n"), 200, "{path}: one key for both doors");
        let foreign = format!("host: {at}\r\norigin: http://evil.example\r\n");
        assert_eq!(status_of("GET", path, &foreign), 403, "{path}");
    }
    assert_eq!(status_of("PUT", "/log-level", &format!("host: {at}\r\norigin: null\r\n")), 403);
    assert_eq!(status_of("GET", "/livez", &format!("host: {at}\r\norigin: http://{at}\r\n")), 200);
    assert_eq!(ask(at, "GET /livez HTTP/1.0\r\n\r\n").status, 400);
    assert_eq!(status_of("GET", "/etc/passwd", &format!("host: {at}\r\n")), 404);
    assert_eq!(status_of("POST", "/metrics", &format!("host: {at}\r\n")), 405);
    let head = look(at, "/").head;
    for said in
        ["content-security-policy: default-src 'none'", "x-frame-options: deny", "cache-control: no-store"]
    {
        assert!(head.contains(said), "{head}");
    }
}

#[test]
fn the_log_level_is_shown_and_changed() {
    let daemon = Daemon::start(&[]);
    let at = daemon.admin_address();
    let put = |body: &str| {
        ask(
            at,
            &format!("PUT /log-level HTTP/1.1\r\nhost: {at}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        )
    };
    assert_eq!(look(at, "/log-level").body, "info\n");
    assert_eq!(put("loud").status, 400);
    assert_eq!(put(&"x".repeat(1025)).status, 413);
    assert_eq!(look(at, "/log-level").body, "info\n");
    assert_eq!(put("info,windlass_actors=debug\n").status, 200);
    assert_eq!(look(at, "/log-level").body, "windlass_actors=debug,info\n");
    drop(Raw::open(daemon.host_port()));
    daemon.wait_for_log("connection accepted");
}

#[test]
fn an_admin_address_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let daemon = Daemon::launch(Program::Windlassd, &[("listen.admin", &address)], Ready::Ignored, |_| {});
    let ended = daemon.wait();
    assert_eq!(ended.status, Some(69));
    let said = ended.log.iter().any(|event| event.to_string().contains(&format!("http://{address}")));
    assert!(said, "{:#?}", ended.log);
}

#[test]
fn what_comes_by_http_is_counted_by_the_same_rules() {
    let daemon = Daemon::start(&[("timeouts.deadline_default", "10m")]);
    let (at, http) = (daemon.admin_address().to_owned(), daemon.http());
    let call = |target: &str, body: &str| {
        let head = format!("POST /v1/call/{target} HTTP/1.1\r\nhost: {http}\r\nconnection: close\r\n");
        ask(http, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).status
    };
    assert_eq!([call("hash", "abc"), call("hash?algorithm=sha256", "abc")], [200, 200]);
    assert_eq!(call("hash?algorithm=md5", ""), 400);
    assert_eq!(call("hsah", ""), 404);
    assert_eq!(call("decompress?algorithm=zstd", "not zstd"), 422);
    // Whoever leaves is told nothing.
    let mut left = std::net::TcpStream::connect(http).unwrap();
    std::io::Write::write_all(
        &mut left,
        format!("POST /v1/call/echo?delay=5m HTTP/1.1\r\nhost: {http}\r\ncontent-length: 0\r\n\r\n")
            .as_bytes(),
    )
    .unwrap();
    eventually("it is in flight", || (status(&at)["in_flight"] == 1).then_some(()));
    assert_eq!(metrics(&at).value("windlass_connections{door=\"http\"}"), 1.0);
    drop(left);
    eventually("it is counted", || (status(&at)["in_flight"] == 0).then_some(()));
    let expected = [
        ("operation=hash,outcome=done", 2.0),
        ("operation=hash,outcome=invalid_parameter", 1.0),
        ("operation=unknown,outcome=unknown_operation", 1.0),
        ("operation=decompress,outcome=invalid_input", 1.0),
        ("operation=echo,outcome=unanswered", 1.0),
    ];
    let expected = BTreeMap::from(expected.map(|(labels, count)| (labels.to_owned(), count)));
    assert_eq!(metrics(&at).nonzero("windlass_requests_total"), expected);
    let connections = metrics(&at).nonzero("windlass_connections_accepted_total");
    assert_eq!(connections["door=http"], 6.0);
}
