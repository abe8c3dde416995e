//! Looking in by the admin door, header by header, and reading its metrics strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::PATIENCE;

/// An answer of the admin door.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The status code.
    pub status: u16,
    /// The head as it came, in small letters.
    pub head: String,
    /// The body.
    pub body: String,
}

/// GET of a path, with an ordinary Host.
#[track_caller]
pub fn look(host_port: &str, path: &str) -> Looked {
    ask(host_port, &format!("GET {path} HTTP/1.1\r\nhost: {host_port}\r\n\r\n"))
}

/// Sends these bytes and reads the answer to its end.
#[track_caller]
pub fn ask(host_port: &str, request: &str) -> Looked {
    let mut stream = TcpStream::connect(host_port).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and an orderly end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    Looked { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// `/status.json`.
#[track_caller]
pub fn status(host_port: &str) -> Value {
    let looked = look(host_port, "/status.json");
    assert_eq!(looked.status, 200, "{looked:?}");
    serde_json::from_str(&looked.body).unwrap()
}

/// `/metrics`, read.
#[track_caller]
pub fn metrics(host_port: &str) -> Metrics {
    let looked = look(host_port, "/metrics");
    assert_eq!(looked.status, 200, "{looked:?}");
    Metrics::read(&looked.body)
}

/// Samples of the Prometheus text format.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Value by the sample as it is written: `name{label="value"}`.
    pub samples: BTreeMap<String, f64>,
    /// Type by the name of the family.
    pub families: BTreeMap<String, String>,
}

impl Metrics {
    /// Reads the format strictly (text format 0.0.4): a family's HELP and TYPE stand once and before its samples,
    /// samples stand together, none stands twice, and histograms add up.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut read = Self::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("a help text");
                assert!(helped.insert(name.to_owned()) && !words.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped.contains(name), "no HELP before {line}");
                assert!(read.families.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                family = name.to_owned();
            } else {
                let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
                let name = sample.split_once('{').map_or(sample, |(name, _)| name);
                let base = match read.families[&family].as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|suffix| name.strip_suffix(suffix))
                        .expect("a sample of a histogram"),
                    _ => name,
                };
                assert_eq!(base, family, "a sample away from its family");
                let value = value.parse::<f64>().expect("a number");
                assert!(read.samples.insert(sample.to_owned(), value).is_none(), "twice: {line}");
                check_labels(&sample[name.len()..]);
            }
        }
        read.check_histograms();
        read
    }

    /// One sample; 0 where there is none.
    pub fn value(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or(0.0)
    }

    /// All samples of a family that have another value than 0: labels and value.
    pub fn nonzero(&self, family: &str) -> BTreeMap<String, f64> {
        let of_it = self.samples.iter().filter_map(|(sample, value)| {
            let labels = sample.strip_prefix(family)?.strip_prefix('{')?.strip_suffix('}')?;
            (*value != 0.0).then(|| (labels.replace('"', ""), *value))
        });
        of_it.collect()
    }

    fn check_histograms(&self) {
        for (family, _) in self.families.iter().filter(|(_, kind)| *kind == "histogram") {
            let prefix = format!("{family}_count");
            for (sample, count) in self.samples.iter().filter(|(sample, _)| sample.starts_with(&prefix)) {
                let labels = sample[prefix.len()..].trim_matches(['{', '}']);
                let mut buckets: Vec<(f64, f64)> = self
                    .samples
                    .iter()
                    .filter_map(|(sample, value)| {
                        let rest = sample.strip_prefix(&format!("{family}_bucket{{{labels},le=\""))?;
                        Some((rest.strip_suffix("\"}")?.replace("+Inf", "inf").parse().unwrap(), *value))
                    })
                    .collect();
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{sample}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{sample}");
            }
        }
    }
}

/// `{name="value",…}` with values that need no escapes, as all of this daemon's are.
#[track_caller]
fn check_labels(labels: &str) {
    let Some(inner) = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        assert!(labels.is_empty(), "{labels}");
        return;
    };
    for pair in inner.split(',') {
        let (name, value) = pair.split_once('=').expect("a label");
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{labels}");
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("a quoted value");
        assert!(!value.contains(['"', '\\', '\n']), "{labels}");
    }
}
