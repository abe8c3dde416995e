//! `fault-panic`, `fault-stuck` and `fault-slow`: operations that misbehave, to show that the daemon contains them.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Operation, OperationError, Output, Parameter,
    ParameterKind, Resultant, Secrecy,
};

use super::SMALL_STRETCH;

/// The most that `fault-stuck` can be asked to be stuck.
const STUCK_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a fault does when it is run.
type Deed = fn(&Arguments, &mut JobContext<'_>) -> Result<(), OperationError>;

struct Fault {
    declaration: Declaration,
    deed: Deed,
}

fn declaration(
    name: &'static str,
    about: &'static str,
    parameters: Vec<Parameter>,
    stretch_max: Duration,
) -> Declaration {
    Declaration {
        name,
        about,
        parameters,
        limits: Vec::new(),
        result: Resultant::Text,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max,
    }
}

pub(super) fn panic_declaration() -> Declaration {
    declaration("fault-panic", "panics", Vec::new(), SMALL_STRETCH)
}

pub(super) fn stuck_declaration() -> Declaration {
    declaration("fault-stuck", "never looks at its stop flag", vec![how_long()], STUCK_MAX)
}

pub(super) fn slow_declaration() -> Declaration {
    declaration("fault-slow", "takes far longer than it says", vec![how_long()], SMALL_STRETCH)
}

fn how_long() -> Parameter {
    Parameter {
        name: "for",
        kind: ParameterKind::Duration { min: Duration::ZERO, max: STUCK_MAX },
        default: Some("1h".to_owned()),
        required: false,
        about: "how long",
    }
}

fn time(arguments: &Arguments) -> Duration {
    arguments.duration("for").expect("the parameter has a default")
}

/// Waits for a signal that nobody gives.
fn wait(time: Duration) {
    let never = Mutex::new(());
    let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
    let _ended = Condvar::new().wait_timeout_while(guard, time, |()| true);
}

pub(super) fn build_panic(declaration: Declaration) -> Arc<dyn Operation> {
    let deed: Deed = |_, _| panic!("fault-panic was called");
    Arc::new(Fault { declaration, deed })
}

pub(super) fn build_stuck(declaration: Declaration) -> Arc<dyn Operation> {
    // Stuck like a job behind a lock, without heating the room.
    let deed: Deed = |arguments, _| {
        wait(time(arguments));
        Ok(())
    };
    Arc::new(Fault { declaration, deed })
}

pub(super) fn build_slow(declaration: Declaration) -> Arc<dyn Operation> {
    let deed: Deed = |arguments, context| {
        context.stop.repeat_for(time(arguments), || wait(Duration::from_millis(1)))?;
        Ok(())
    };
    Arc::new(Fault { declaration, deed })
}

impl Operation for Fault {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// What a harmless operation would say; being wrong is the point.
    fn estimate(&self, _arguments: &Arguments, _input_bytes: u64) -> Result<Estimate, OperationError> {
        Ok(Estimate { cpu: Duration::from_micros(10), output_bytes: 0, work_bytes: 0 })
    }

    fn run(
        &self,
        arguments: &Arguments,
        _input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        (self.deed)(arguments, context)?;
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
