//! `echo`: the way there and back, through a worker.

use std::sync::Arc;
use std::time::Duration;

use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Operation, OperationError, Output, Parameter,
    ParameterKind, Resultant, Secrecy,
};

use super::SMALL_STRETCH;

struct Echo {
    declaration: Declaration,
}

pub(super) fn declaration() -> Declaration {
    Declaration {
        name: "echo",
        about: "returns the input, after an optional wait that occupies no worker",
        parameters: vec![Parameter {
            name: "delay",
            kind: ParameterKind::Duration { min: Duration::ZERO, max: Duration::from_secs(600) },
            default: None,
            required: false,
            about: "how long the request waits before a worker takes it",
        }],
        limits: Vec::new(),
        result: Resultant::Binary,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: SMALL_STRETCH,
    }
}

pub(super) fn build(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(Echo { declaration })
}

impl Operation for Echo {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// The output shares the memory of the input, which is held already.
    fn estimate(&self, _arguments: &Arguments, _input_bytes: u64) -> Result<Estimate, OperationError> {
        Ok(Estimate { cpu: Duration::from_micros(1), output_bytes: 0, work_bytes: 0 })
    }

    fn hold(&self, arguments: &Arguments) -> Option<Duration> {
        arguments.duration("delay").filter(|delay| !delay.is_zero())
    }

    fn run(
        &self,
        _arguments: &Arguments,
        input: &mut Input,
        _context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        // The worker has just looked whether to begin, and there is nothing to stop.
        Ok(input.take().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use windlass_actors::operation::run_alone;

    use super::*;

    #[test]
    fn the_input_comes_back_without_a_copy() {
        let sent = Bytes::from(vec![7; 100_000]);
        let echo = build(declaration());
        let deadline = Instant::now() + Duration::from_secs(10);
        let Output(back) = run_alone(&*echo, &[], Input::Shared(sent.clone()), deadline).unwrap();
        assert_eq!(back, sent);
        assert_eq!(back.as_ptr(), sent.as_ptr());
    }

    #[test]
    fn a_delay_is_a_hold_and_no_delay_is_none() {
        let echo = build(declaration());
        let hold = |given: &[(&str, &str)]| echo.hold(&Arguments::check(echo.declaration(), given).unwrap());
        assert_eq!(hold(&[("delay", "100ms")]), Some(Duration::from_millis(100)));
        assert_eq!(hold(&[("delay", "0s")]), None);
        assert_eq!(hold(&[]), None);
        assert!(Arguments::check(echo.declaration(), &[("delay", "11m")]).is_err());
    }
}
