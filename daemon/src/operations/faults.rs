//! `fault-panic` and `fault-stuck`: operations that misbehave, to show that the daemon contains them.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Operation, OperationError, Output, Parameter,
    ParameterKind, Resultant, Secrecy,
};

use super::SMALL_STRETCH;

/// The most that `fault-stuck` can be asked to be stuck.
const STUCK_MAX: Duration = Duration::from_secs(24 * 3600);

struct FaultPanic {
    declaration: Declaration,
}

struct FaultStuck {
    declaration: Declaration,
}

pub(super) fn panic_declaration() -> Declaration {
    Declaration {
        name: "fault-panic",
        about: "panics",
        parameters: Vec::new(),
        limits: Vec::new(),
        result: Resultant::Text,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: SMALL_STRETCH,
    }
}

pub(super) fn stuck_declaration() -> Declaration {
    Declaration {
        name: "fault-stuck",
        about: "never looks at its stop flag",
        parameters: vec![Parameter {
            name: "for",
            kind: ParameterKind::Duration { min: Duration::ZERO, max: STUCK_MAX },
            default: Some("1h".to_owned()),
            required: false,
            about: "how long",
        }],
        limits: Vec::new(),
        result: Resultant::Text,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: STUCK_MAX,
    }
}

pub(super) fn build_panic(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(FaultPanic { declaration })
}

pub(super) fn build_stuck(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(FaultStuck { declaration })
}

/// What a harmless operation would say; being wrong is the point.
const ESTIMATE: Estimate = Estimate { cpu: Duration::from_micros(10), output_bytes: 0, work_bytes: 0 };

impl Operation for FaultPanic {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn estimate(&self, _arguments: &Arguments, _input_bytes: u64) -> Result<Estimate, OperationError> {
        Ok(ESTIMATE)
    }

    fn run(
        &self,
        _arguments: &Arguments,
        _input: &mut Input,
        _context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        panic!("fault-panic was called")
    }
}

impl Operation for FaultStuck {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn estimate(&self, _arguments: &Arguments, _input_bytes: u64) -> Result<Estimate, OperationError> {
        Ok(ESTIMATE)
    }

    /// Waits for a signal that nobody gives: stuck like a job behind a lock, without heating the room.
    fn run(
        &self,
        arguments: &Arguments,
        _input: &mut Input,
        _context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        let stuck = arguments.duration("for").expect("the parameter has a default");
        let never = Mutex::new(());
        let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
        let _ended = Condvar::new().wait_timeout_while(guard, stuck, |()| true);
        Ok(Output::from(&b""[..]))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Instant;

    use windlass_actors::operation::run_alone;

    use super::*;

    #[test]
    fn panic_panics_with_its_name() {
        let fault = build_panic(panic_declaration());
        let payload = catch_unwind(AssertUnwindSafe(|| run_alone(&*fault, &[], Vec::new(), Instant::now())))
            .unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"fault-panic was called"));
    }

    #[test]
    fn stuck_ignores_a_deadline_in_the_past() {
        let start = Instant::now();
        let fault = build_stuck(stuck_declaration());
        run_alone(&*fault, &[("for", "50ms")], Vec::new(), start).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}
