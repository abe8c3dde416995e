//! `spin`: keeps a worker busy for a given time, to see what a loaded daemon does.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Operation, OperationError, Output, Parameter,
    ParameterKind, Resultant, Secrecy,
};

use super::SMALL_STRETCH;

/// Additions and multiplications of one step, some 50 µs on a processor of 2020.
const STEP_ROUNDS: u64 = 40_000;

struct Spin {
    declaration: Declaration,
}

pub(super) fn declaration() -> Declaration {
    Declaration {
        name: "spin",
        about: "keeps a worker busy; a diagnostic for load tests",
        parameters: vec![Parameter {
            name: "for",
            kind: ParameterKind::Duration { min: Duration::ZERO, max: Duration::from_secs(60) },
            default: Some("10ms".to_owned()),
            required: false,
            about: "how long",
        }],
        limits: Vec::new(),
        result: Resultant::Text,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: SMALL_STRETCH,
    }
}

pub(super) fn build(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(Spin { declaration })
}

fn busy(arguments: &Arguments) -> Duration {
    arguments.duration("for").expect("the parameter has a default")
}

fn step() {
    let mut state = black_box(1_u64);
    for round in 0..STEP_ROUNDS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
    }
    black_box(state);
}

impl Operation for Spin {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn estimate(&self, arguments: &Arguments, _input_bytes: u64) -> Result<Estimate, OperationError> {
        Ok(Estimate { cpu: busy(arguments), output_bytes: 0, work_bytes: 0 })
    }

    fn run(
        &self,
        arguments: &Arguments,
        _input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        context.stop.repeat_for(busy(arguments), step)?;
        Ok(Output::from(&b""[..]))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use windlass_actors::operation::{Stop, run_alone};

    use super::*;

    #[test]
    fn the_worker_is_busy_for_the_time_asked() {
        let start = Instant::now();
        let spin = build(declaration());
        let output =
            run_alone(&*spin, &[("for", "30ms")], Vec::new(), start + Duration::from_secs(60)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(output.0.is_empty());
    }

    #[test]
    fn the_deadline_ends_it() {
        let start = Instant::now();
        let spin = build(declaration());
        let ended = run_alone(&*spin, &[("for", "60s")], Vec::new(), start + Duration::from_millis(20));
        assert_eq!(ended, Err(OperationError::Stopped(Stop::DeadlineExceeded)));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn the_estimate_is_the_time_asked() {
        let spin = build(declaration());
        let arguments = Arguments::check(spin.declaration(), &[("for", "2s")]).unwrap();
        assert_eq!(spin.estimate(&arguments, 0).unwrap().cpu, Duration::from_secs(2));
    }
}
