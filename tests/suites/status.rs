//! `windlass status` says in tables what `--json` says in JSON.

use serde_json::Value;
use windlass_tests::raw::{Raw, work};
use windlass_tests::{Daemon, Gate, windlass};

/// Cells of the line that begins with `name`; columns are two spaces apart.
#[track_caller]
fn line<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let cells = page.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()));
    let mut found = cells.map(Iterator::collect::<Vec<_>>).filter(|cells| cells.first() == Some(&name));
    let line = found.next().unwrap_or_else(|| panic!("no line '{name}' in\n{page}"));
    assert_eq!(found.next(), None, "'{name}' stands twice in\n{page}");
    line
}

/// Seconds, from a number and a unit.
#[track_caller]
fn seconds(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap();
    let factor = match unit {
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        other => panic!("'{other}' is no unit of time"),
    };
    number.parse::<f64>().unwrap() * factor
}

/// Lower and upper bound of the bucket in which this share of the measurements is reached.
fn bucket(status: &Value, operation: &str, kind: &str, share: f64) -> (f64, f64) {
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let counts = numbers(&status["histograms"]["operations"][operation][kind]);
    let bounds = numbers(&status["histograms"]["bounds_seconds"]);
    let wanted = share * counts.iter().sum::<f64>();
    let mut below = 0.0;
    let place = counts.iter().position(|count| {
        below += count;
        below >= wanted
    });
    let place = place.unwrap();
    (place.checked_sub(1).map_or(0.0, |below| bounds[below]), bounds[place])
}

#[test]
fn the_tables_say_what_the_json_says() {
    let daemon = Daemon::start(&[("cpu.threads", "2"), ("queue.capacity", "2")]);
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=50 {
        connection.send(&work(id, "hash", &[], &[7; 10_000]));
        connection.frame().unwrap();
    }
    connection.send(&work(51, "hash", &[("algorithm", "md5")], b""));
    connection.frame().unwrap();
    // Two run, two wait, and one more is refused.
    let gate = Gate::hold(&daemon);
    for id in 52..=54 {
        connection.send(&work(id, "echo", &[], &[1; 3000]));
    }
    connection.frame().unwrap();

    let said = |arguments: &[&str]| windlass(daemon.address(), arguments, b"").ok().text().to_owned();
    let page = said(&["status"]);
    let status: Value = serde_json::from_str(&said(&["status", "--json"])).unwrap();

    let head = page.lines().next().unwrap();
    assert!(head.starts_with(status["server"].as_str().unwrap()) && head.contains("serving"), "{page}");
    let queue = &status["queue"];
    assert_eq!(line(&page, "waiting")[1..3], [queue["waiting"].to_string(), queue["capacity"].to_string()]);
    assert_eq!((&queue["waiting"], &queue["capacity"]), (&2.into(), &2.into()));
    assert!(seconds(line(&page, "waiting")[3].strip_prefix("oldest ").unwrap()) > 0.0, "{page}");
    assert_eq!(line(&page, "running")[1..3], ["2", "2"]);
    assert_eq!(line(&page, "in flight")[1], status["in_flight"].to_string());
    let connections = &status["connections"];
    assert_eq!(line(&page, "connections")[1..3], ["open", "max"].map(|which| connections[which].to_string()));
    assert_eq!(line(&page, "held memory")[2], "512 MiB");
    let kibibytes = queue["held_bytes"].as_f64().unwrap() / 1024.0;
    assert_eq!(line(&page, "held memory")[1], format!("{kibibytes:.1} KiB"), "{queue}");

    for worker in status["workers"].as_array().unwrap() {
        let cells = line(&page, worker["name"].as_str().unwrap());
        assert_eq!(cells[1], worker["running"]["operation"], "{page}");
        let ran_ms = worker["running"]["for_ms"].as_f64().unwrap();
        assert!(seconds(cells[2]) * 1000.0 <= ran_ms + 1.0, "it was looked at before: {page}\n{worker}");
        let jobs: u64 = worker["jobs"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(cells[5], jobs.to_string());
    }

    let hash = line(&page, "hash");
    assert_eq!(hash[1..3], ["50", "1"]);
    assert_eq!(status["requests"]["hash"], serde_json::json!({ "done": 50, "invalid_parameter": 1 }));
    let ratio = status["operations"]["hash"]["estimate"]["median_ratio"].as_f64().unwrap();
    assert_eq!(hash[7..], [format!("{ratio:.2}"), "invalid_parameter 1".to_owned()]);
    for (cell, kind, share) in
        [(3, "queue", 0.5), (4, "queue", 0.99), (5, "service", 0.5), (6, "service", 0.99)]
    {
        let (low, high) = bucket(&status, "hash", kind, share);
        let shown = seconds(hash[cell]);
        assert!((low..=high * 1.01).contains(&shown), "{kind} {share}: {shown} in {low} to {high}: {page}");
    }
    assert_eq!(line(&page, "echo")[1..], ["0", "1", "-", "-", "-", "-", "-", "overloaded 1"]);
    gate.release();
}
