//! HTTP as people use it: every recipe with curl, and every status with its problem document.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use windlass_tests::http::{Http, ask, request};
use windlass_tests::{Daemon, Gate, Ran, eventually, run, sample, tool};

const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// `curl ARGUMENTS… http://DOOR/PATH`, if there is one.
fn curl(daemon: &Daemon, arguments: &[&str], path: &str, input: &[u8]) -> Option<Ran> {
    let mut command = tool("curl")?;
    command.args(["--silent", "--show-error", "--max-time", "60"]).args(arguments);
    command.arg(format!("http://{}{path}", daemon.http()));
    Some(run(&mut command, input))
}

#[test]
fn every_operation_answers_curl_from_a_file_and_from_a_pipe() {
    let daemon = Daemon::start(&[]);
    let input = sample("text", 200_000).bytes;
    let file = daemon.directory().join("input");
    std::fs::write(&file, &input).unwrap();
    let from_file = format!("@{}", file.display());
    let both = |path: &str| -> Option<Vec<u8>> {
        let known = curl(&daemon, &["--data-binary", &from_file], path, b"")?.ok().stdout;
        let chunked = curl(&daemon, &["--request", "POST", "--upload-file", "-"], path, &input)?.ok().stdout;
        assert_eq!(known, chunked, "{path}");
        Some(known)
    };
    let Some(echoed) = both("/v1/call/echo") else { return };
    assert_eq!(echoed, input);
    let expected = run(Command::new("sha256sum").arg(&file), b"").ok();
    let digest = both("/v1/call/hash?algorithm=sha256").unwrap();
    assert_eq!(std::str::from_utf8(&digest).unwrap(), expected.text().split(' ').next().unwrap());
    for algorithm in ["zstd", "gzip", "brotli", "lz4"] {
        let packed = both(&format!("/v1/call/compress?algorithm={algorithm}")).unwrap();
        let path = format!("/v1/call/decompress?algorithm={algorithm}");
        let back = curl(&daemon, &["--data-binary", "@-"], &path, &packed).unwrap().ok();
        assert_eq!(back.stdout, input, "{algorithm}");
    }
    let path = "/v1/call/password-hash?algorithm=bcrypt&cost=4";
    let hash = curl(&daemon, &["--data-binary", "@-"], path, b"secret").unwrap().ok();
    for (password, expected) in [("secret", "true"), ("wrong", "false")] {
        let header = format!("Windlass-Param-hash: {}", hash.text());
        let verified =
            curl(&daemon, &["-H", &header, "-d", password], "/v1/call/password-verify", b"").unwrap().ok();
        assert_eq!(verified.text(), expected);
    }
    let spun = curl(&daemon, &["--data", ""], "/v1/call/spin?for=1ms", b"").unwrap().ok();
    assert_eq!(spun.stdout, b"");
}

#[test]
fn curl_verbose_shows_times_deadline_and_priority() {
    let daemon = Daemon::start(&[("log.level", "debug")]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = format!("traceparent: {trace}");
    let arguments =
        ["-v", "-H", "Windlass-Deadline: 2s", "-H", "Windlass-Priority: batch", "-H", &traced, "-d", "abc"];
    let Some(ran) = curl(&daemon, &arguments, "/v1/call/hash?algorithm=sha256", b"") else { return };
    let ran = ran.ok();
    assert_eq!(ran.text(), SHA256_OF_ABC, "and no newline at its end");
    for expected in [
        "< server-timing: queue;dur=",
        "; ".trim(),
        "service;dur=",
        "< content-type: text/plain; charset=utf-8",
    ] {
        assert!(ran.stderr.contains(expected), "{expected} in {}", ran.stderr);
    }
    let named = ran.stderr.lines().find_map(|line| line.strip_prefix("< windlass-request: ")).unwrap();
    let event = daemon.wait_for_log("request answered");
    assert_eq!((&event["request"], &event["traceparent"]), (&named.into(), &trace.into()), "{event}");
}

#[test]
fn http2_with_prior_knowledge_works_for_large_bodies_too() {
    let daemon = Daemon::start(&[]);
    let input = sample("random", 3_000_000).bytes;
    let arguments = ["--http2-prior-knowledge", "-i", "--data-binary", "@-"];
    let Some(ran) = curl(&daemon, &arguments, "/v1/call/echo", &input) else { return };
    let ran = ran.ok();
    assert!(ran.stdout.starts_with(b"HTTP/2 200"));
    assert!(ran.stdout.ends_with(&input));
}

#[test]
fn each_failure_is_a_problem_document_with_its_status_and_code() {
    let daemon =
        Daemon::start(&[("limits.body", "1MiB"), ("operations.enabled", "echo,hash,decompress,spin")]);
    let large = vec![0; (1 << 20) + 1];
    let cases: [(&str, &[u8], u16, u64); 19] = [
        ("POST /v1/call/nope", b"", 404, 10),
        ("POST /v1/call/compress", b"", 404, 10),
        ("POST /v1/call/hash?algorithm=md5", b"", 400, 11),
        ("POST /v1/call/hash?nope=1", b"", 400, 11),
        ("POST /v1/call/hash?encoding=hex&encoding=raw", b"", 400, 11),
        ("POST /v1/call/hash?encoding=hex\nWindlass-Param-encoding: raw", b"", 400, 11),
        ("POST /v1/call/hash\nWindlass-Deadline: soon", b"", 400, 11),
        ("POST /v1/call/hash\nWindlass-Priority: urgent", b"", 400, 11),
        ("POST /v1/call/decompress?algorithm=gzip", b"not gzip", 422, 12),
        ("POST /v1/call/hash", &large, 413, 13),
        ("POST /v1/call/spin?for=10s\nWindlass-Deadline: 5s", b"", 504, 30),
        ("POST /v1/call/echo?delay=10s\nWindlass-Deadline: 5s", b"", 504, 30),
        ("GET /", b"", 404, 1),
        ("GET /v1/call/hash", b"", 405, 1),
        ("DELETE /v1/operations", b"", 405, 1),
        ("GET /v1/operations\nOrigin: https://evil.example", b"", 403, 1),
        ("POST /v1/call/hash\nOrigin: null", b"abc", 403, 1),
        ("POST /v1/call/", b"", 404, 1),
        ("POST /v1/call/hash/more", b"", 404, 1),
    ];
    for (head, body, status, code) in cases {
        let answer = ask(daemon.http(), head, body);
        let problem = answer.problem();
        assert_eq!((answer.status, problem["code"].as_u64()), (status, Some(code)), "{head}: {problem}");
        assert_eq!(problem["request"], answer.header("windlass-request").unwrap(), "{head}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{head}");
        assert_eq!(answer.header("retry-after"), None, "{head}");
    }
}

#[test]
fn a_busy_daemon_says_429_and_when_to_come_back() {
    let daemon = Daemon::start(&[("queue.capacity", "1"), ("cpu.threads", "1")]);
    let gate = Gate::hold(&daemon);
    let mut waiting = Http::connect(daemon.http());
    waiting.send(&request("POST /v1/call/hash?algorithm=sha256", b"abc"));
    daemon.wait_for_status("one request waits", |status| status["queue"]["waiting"] == 1);
    let refused = ask(daemon.http(), "POST /v1/call/hash", b"abc");
    let problem = refused.problem();
    assert_eq!((refused.status, problem["code"].as_u64()), (429, Some(20)), "{problem}");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    let millis = problem["retry_after_ms"].as_u64().unwrap();
    assert_eq!((seconds, &problem["retry_safe"]), (millis.div_ceil(1000), &true.into()));
    assert!(!refused.closes(), "a small body that was refused costs no connection");
    gate.release();
    assert_eq!(waiting.answer().unwrap().text(), SHA256_OF_ABC);
}

#[test]
fn a_deadline_that_passes_in_the_queue_is_504() {
    let daemon = Daemon::start_faulty(&[("cpu.threads", "1")]);
    let gate = Gate::hold_unforeseen(&daemon);
    let mut waiting = Http::connect(daemon.http());
    waiting.send(&request("POST /v1/call/hash\nWindlass-Deadline: 300ms", b"abc"));
    let sent_at = Instant::now();
    daemon.wait_for_status("one request waits", |status| status["queue"]["waiting"] == 1);
    eventually("its deadline has passed", || (sent_at.elapsed() > Duration::from_millis(350)).then_some(()));
    gate.release();
    let answer = waiting.answer().unwrap();
    assert_eq!((answer.status, answer.problem()["code"].as_u64()), (504, Some(30)));
}

#[test]
fn a_panic_is_500_and_the_connection_goes_on() {
    let daemon = Daemon::start_faulty(&[]);
    let mut connection = Http::connect(daemon.http());
    connection.send(&request("POST /v1/call/fault-panic", b""));
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.problem()["code"].as_u64()), (500, Some(40)));
    connection.send(&request("POST /v1/call/hash?algorithm=sha256", b"abc"));
    assert_eq!(connection.answer().unwrap().text(), SHA256_OF_ABC);
}

#[test]
fn the_catalogue_is_that_of_the_native_protocol_and_head_and_options_are_sane() {
    let daemon = Daemon::start(&[]);
    let answer = ask(daemon.http(), "GET /v1/operations", b"");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let catalogue: Value = serde_json::from_slice(&answer.body).unwrap();
    let native = windlass_tests::windlass(daemon.address(), &["operations", "--json"], b"").ok();
    let native: Value = serde_json::from_slice(&native.stdout).unwrap();
    assert_eq!(catalogue["operations"], *native.get("operations").unwrap_or(&native));

    let mut connection = Http::connect(daemon.http());
    connection.send(&request("HEAD /v1/operations", b""));
    let (status, headers) = connection.head().unwrap();
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap();
    assert_eq!((status, length.1.parse()), (200, Ok(answer.body.len())));
    connection.send(&request("OPTIONS /v1/call/hash", b""));
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.header("allow")), (204, Some("POST, OPTIONS")));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    connection.send(&request("OPTIONS *", b""));
    assert_eq!(connection.answer().unwrap().status, 204);
}

#[test]
fn the_openapi_document_describes_every_operation_and_parameter() {
    let daemon = Daemon::start(&[]);
    let answer = ask(daemon.http(), "GET /v1/openapi.json", b"");
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let catalogue = ask(daemon.http(), "GET /v1/operations", b"");
    let catalogue: Value = serde_json::from_slice(&catalogue.body).unwrap();
    for operation in catalogue["operations"].as_array().unwrap() {
        let name = operation["name"].as_str().unwrap();
        let call = &document["paths"][format!("/v1/call/{name}")]["post"];
        let parameters: Vec<&Value> = call["parameters"].as_array().unwrap().iter().collect();
        for parameter in operation["parameters"].as_array().unwrap() {
            let described = parameters.iter().find(|found| found["name"] == parameter["name"]).unwrap();
            assert_eq!(described["required"], parameter["required"], "{name}: {described}");
        }
        for status in ["200", "400", "404", "413", "422", "429", "500", "503", "504"] {
            assert!(call["responses"][status].is_object(), "{name}: {status}");
        }
    }
}

#[test]
fn http_on_the_native_port_is_told_where_http_is_spoken() {
    let daemon = Daemon::start(&[]);
    let answer = ask(daemon.host_port(), "GET /v1/operations", b"");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains(&format!("http://{}/", daemon.http())), "{}", answer.text());
}

/// DNS rebinding: a page of evil.example, whose name now leads here, is of our origin as far as its browser knows.
#[test]
fn a_host_that_is_not_ours_is_refused_and_a_configured_one_is_served() {
    let daemon = Daemon::start(&[("listen.http_hosts", "jobs.example")]);
    let of_host = |host: &str, origin: &str| {
        let mut connection = Http::connect(daemon.http());
        let text =
            format!("POST /v1/call/hash HTTP/1.1\r\nhost: {host}\r\n{origin}content-length: 3\r\n\r\nabc");
        connection.send(text.as_bytes());
        connection.answer().unwrap()
    };
    for host in ["evil.example", "evil.example:7411", "127.0.0.1.evil.example", "192.0.2.1"] {
        let answer = of_host(host, &format!("origin: http://{host}\r\n"));
        assert_eq!((answer.status, answer.problem()["code"].as_u64()), (421, Some(1)), "{host}");
    }
    for host in ["jobs.example", "JOBS.example:80", "localhost", "127.0.0.1:1", "[::1]"] {
        assert_eq!(of_host(host, "").status, 200, "{host}");
        assert_eq!(of_host(host, &format!("origin: http://{host}\r\n")).status, 200, "{host}");
        assert_eq!(of_host(host, "origin: http://evil.example\r\n").status, 403, "{host}");
        assert_eq!(of_host(host, "sec-fetch-site: cross-site\r\n").status, 403, "{host}");
    }
    assert_eq!(daemon.status()["operations"]["hash"]["done"], 10, "nothing else was worked on");
}
