//! The rows of the benchmark, in the order in which they are measured.

mod beside;
mod connections;
mod drain;
mod jobs;
mod memory;
mod rest;
mod scaling;
mod trivial;

use std::time::Duration;

use crate::figures::{Against, Contestant, Figure, Row, Sample, Sense, Target, Weight};
use crate::load::{Address, Native, Protocol, Shape, closed_loop};
use crate::trouble::Result;
use crate::work::Work;

/// What all measurements of a run share.
pub(crate) struct Bench {
    /// How long a simple measurement takes.
    pub(crate) unit: Duration,
    /// The job that takes 5 ms of a core of its own.
    pub(crate) burn: Work,
    /// How long connections rest before their memory is looked at.
    pub(crate) settle: Duration,
    /// Connections of the rows about many of them; what one process's descriptors allow.
    pub(crate) many: usize,
}

/// All rows.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = trivial::rows();
    rows.extend(jobs::rows());
    rows.extend(beside::rows());
    rows.push(memory::row());
    rows.extend(rest::rows());
    rows.push(scaling::row());
    rows.push(connections::row());
    rows.push(drain::row());
    rows
}

const RATE: Figure = Figure { name: "rate", unit: "requests/s" };
const CLIENT: Figure = Figure { name: "client", unit: "µs of the load generator per request" };

fn contestant(name: &'static str, measure: impl Fn(&Bench) -> Result<Sample> + 'static) -> Contestant {
    Contestant { name, measure: Box::new(measure) }
}

fn must(who: &'static str, figure: &'static str, sense: Sense, against: Against) -> Target {
    Target { weight: Weight::Must, who, figure, sense, against }
}

fn goal(who: &'static str, figure: &'static str, sense: Sense, against: Against) -> Target {
    Target { weight: Weight::Goal, who, figure, sense, against }
}

/// Windlass's requests for a job.
fn native(work: Work, body: Vec<u8>) -> Native {
    let (operation, parameters) = work.operation();
    let parameters: Vec<(&str, &str)> =
        parameters.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Native::work(operation, &parameters, body)
}

/// Windlass's HTTP target for a job.
fn target(work: Work) -> String {
    let (operation, parameters) = work.operation();
    let query: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
    match query.is_empty() {
        true => format!("/v1/call/{operation}"),
        false => format!("/v1/call/{operation}?{}", query.join("&")),
    }
}

/// Requests per second in a closed loop, and what each cost the load generator.
fn throughput(protocol: &dyn Protocol, address: &Address, shape: Shape) -> Result<Sample> {
    let tally = closed_loop(protocol, address, shape, None)?;
    let rate = tally.per_second();
    let client = tally.client_cpu.as_secs_f64() * 1e6 / (rate * tally.elapsed.as_secs_f64());
    Ok(Sample::of("rate", rate).and("client", client))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters of a title that a picture has room for.
    const TITLE_MAX: usize = 96;

    #[test]
    fn targets_are_about_those_who_are_measured_and_titles_fit_the_picture() {
        for row in all() {
            let is_here = |name: &str| row.contestants.iter().any(|contestant| contestant.name == name);
            for target in &row.targets {
                assert!(is_here(target.who), "{}: {}", row.name, target.who);
                assert!(row.figures.iter().any(|figure| figure.name == target.figure), "{}", target.figure);
                if let Against::Peer(peer, _) = target.against {
                    assert!(is_here(peer), "{}: {peer}", row.name);
                }
            }
            assert!(row.title.chars().count() <= TITLE_MAX, "{}", row.title);
        }
    }
}
