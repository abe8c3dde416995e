//! What a worker lends to a running operation: a stop flag, work areas, a budget for the output.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::{Arguments, Input, Operation, OperationError, Output};
use crate::dispatch::{HeldBytes, StopFlag};

/// Why running work has to end.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Stop {
    /// The client cancelled or left, or the drain is over.
    #[error("cancelled while running")]
    Cancelled,
    /// The deadline passed.
    #[error("the deadline passed while running")]
    DeadlineExceeded,
}

/// Lent to [`Operation::run`]. The fields are apart so that a work area can be borrowed while the stop flag is
/// looked at.
pub struct JobContext<'a> {
    /// Whether to go on.
    pub stop: StopCheck<'a>,
    /// Memory that the worker keeps between jobs.
    pub areas: &'a mut WorkAreas,
    /// How large the output may become.
    pub output: OutputBudget<'a>,
}

/// The stop flag, the deadline and the end of a drain in one look.
#[derive(Clone, Copy)]
pub struct StopCheck<'a> {
    flag: &'a StopFlag,
    everything: &'a AtomicBool,
    deadline: Instant,
    /// Who measures how far the looks are apart, if anybody does.
    stretches: Option<&'a Stretches>,
}

/// How much CPU time this thread spent before each look at a stop flag since the one before.
struct Stretches {
    looked_at: Cell<Duration>,
    between_looks: RefCell<Vec<Duration>>,
}

impl Stretches {
    fn begin() -> Self {
        Self { looked_at: Cell::new(Self::now()), between_looks: RefCell::default() }
    }

    /// CPU time of this thread: what others do on the machine does not count.
    fn now() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("CPU time is not negative")
    }

    fn look(&self) {
        let now = Self::now();
        let stretch = now.saturating_sub(self.looked_at.replace(now));
        self.between_looks.borrow_mut().push(stretch);
    }
}

impl<'a> StopCheck<'a> {
    pub(crate) fn new(flag: &'a StopFlag, everything: &'a AtomicBool, deadline: Instant) -> Self {
        Self { flag, everything, deadline, stretches: None }
    }

    /// Whether to go on; some 30 ns, so once every 100 µs of work costs nothing.
    ///
    /// # Errors
    ///
    /// Why the work has to end now.
    pub fn check(&self) -> Result<(), Stop> {
        if let Some(stretches) = self.stretches {
            stretches.look();
        }
        if self.flag.is_raised() || self.everything.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(Stop::DeadlineExceeded);
        }
        Ok(())
    }

    /// Calls `step` until `busy` has passed, looking at the stop flag in between. For operations that are asked to
    /// take a time, because they do not see the clock.
    ///
    /// # Errors
    ///
    /// Why the work had to end before.
    pub fn repeat_for(&self, busy: Duration, mut step: impl FnMut()) -> Result<(), Stop> {
        let end = Instant::now() + busy;
        while Instant::now() < end {
            self.check()?;
            step();
        }
        Ok(())
    }
}

/// Memory that is kept between jobs, one of each type per worker, because allocating it anew costs more than using
/// it (argon2 +6 %, zstd at 64 KiB +10 %).
pub trait WorkArea: Any + Send {
    /// A fresh area.
    fn new() -> Self
    where
        Self: Sized;

    /// What the area occupies now, bytes.
    fn bytes(&self) -> u64;

    /// The area as [`Any`], so that it can be found by type.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// The areas of one worker.
#[derive(Default)]
pub struct WorkAreas(Vec<(TypeId, Box<dyn WorkArea>)>);

impl WorkAreas {
    /// The area of this type, made on first use.
    ///
    /// # Panics
    ///
    /// When an area's `as_any` returns something other than itself.
    pub fn area<T: WorkArea>(&mut self) -> &mut T {
        let id = TypeId::of::<T>();
        let place = self.0.iter().position(|(seen, _)| *seen == id).unwrap_or_else(|| {
            self.0.push((id, Box::new(T::new())));
            self.0.len() - 1
        });
        self.0[place].1.as_any().downcast_mut().expect("an area is filed under its own type")
    }

    /// Gives up the areas that together exceed `bytes_max`, largest first.
    pub fn shrink_to(&mut self, bytes_max: u64) {
        while self.bytes() > bytes_max {
            let largest = (0..self.0.len()).max_by_key(|place| self.0[*place].1.bytes());
            match largest {
                Some(place) => drop(self.0.swap_remove(place)),
                None => return,
            }
        }
    }

    /// What they occupy together, bytes.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, area)| area.bytes()).sum()
    }
}

/// The bytes of output that are reserved, and how far that may grow.
pub struct OutputBudget<'a> {
    held: &'a mut HeldBytes,
    input_bytes: u64,
    output_bytes_max: u64,
}

impl<'a> OutputBudget<'a> {
    pub(crate) fn new(held: &'a mut HeldBytes, input_bytes: u64, output_bytes_max: u64) -> Self {
        Self { held, input_bytes, output_bytes_max }
    }

    /// Makes room for an output of `total` bytes in all, before it is made. Never waits.
    ///
    /// # Errors
    ///
    /// `TooLarge` when no answer may be that large, `Overloaded` when the daemon holds too much at the moment.
    pub fn reserve(&mut self, total: u64) -> Result<(), OperationError> {
        if total > self.output_bytes_max {
            return Err(OperationError::TooLarge(format!(
                "the output is larger than the {} bytes that this connection can be answered",
                self.output_bytes_max
            )));
        }
        self.held.try_grow_to(self.input_bytes + total).map_err(|refusal| {
            OperationError::Overloaded(format!("no room for an output of {total} bytes: {refusal}"))
        })
    }

    /// The largest output that may be reserved, bytes.
    pub fn bytes_max(&self) -> u64 {
        self.output_bytes_max
    }
}

/// Checks arguments, estimates and runs an operation on this thread, without a daemon: for tests and benchmarks of
/// operations.
///
/// # Errors
///
/// What a client would be answered.
pub fn run_alone(
    operation: &dyn Operation,
    parameters: &[(&str, &str)],
    input: impl Into<Input>,
    deadline: Instant,
) -> Result<Output, OperationError> {
    alone(operation, parameters, input.into(), deadline, None)
}

/// The same without a deadline.
///
/// # Errors
///
/// What a client would be answered.
pub fn run_in_peace(
    operation: &dyn Operation,
    parameters: &[(&str, &str)],
    input: impl Into<Input>,
) -> Result<Output, OperationError> {
    run_alone(operation, parameters, input, never())
}

/// Later than any operation takes.
fn never() -> Instant {
    Instant::now() + Duration::from_secs(24 * 3600)
}

/// Runs an operation like [`run_alone`] and measures for how long it did not look at its stop flag, in CPU time of this
/// thread, each time: the largest is what [`Declaration::stretch_max`](super::Declaration::stretch_max) promises.
///
/// # Errors
///
/// What a client would be answered.
///
/// # Panics
///
/// Where there is no clock of a thread's CPU time.
pub fn stretches(
    operation: &dyn Operation,
    parameters: &[(&str, &str)],
    input: impl Into<Input>,
) -> Result<Vec<Duration>, OperationError> {
    let input = input.into();
    let stretches = Stretches::begin();
    alone(operation, parameters, input, never(), Some(&stretches))?;
    stretches.look();
    Ok(stretches.between_looks.into_inner())
}

fn alone(
    operation: &dyn Operation,
    parameters: &[(&str, &str)],
    mut input: Input,
    deadline: Instant,
    stretches: Option<&Stretches>,
) -> Result<Output, OperationError> {
    let arguments = Arguments::check(operation.declaration(), parameters)
        .map_err(|error| OperationError::InvalidParameter(error.to_string()))?;
    operation.estimate(&arguments, input.len() as u64)?;
    let flag = StopFlag::default();
    let everything = AtomicBool::new(false);
    let mut held = HeldBytes::unbounded();
    let mut context = JobContext {
        stop: StopCheck { stretches, ..StopCheck::new(&flag, &everything, deadline) },
        areas: &mut WorkAreas::default(),
        output: OutputBudget::new(&mut held, input.len() as u64, u64::MAX / 2),
    };
    operation.run(&arguments, &mut input, &mut context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_between_two_looks() {
        let (flag, everything) = (StopFlag::default(), AtomicBool::new(false));
        let stretches = Stretches::begin();
        let deadline = Instant::now() + Duration::from_secs(3600);
        let stop = StopCheck { stretches: Some(&stretches), ..StopCheck::new(&flag, &everything, deadline) };
        let work = |milliseconds| {
            let end = Stretches::now() + Duration::from_millis(milliseconds);
            while Stretches::now() < end {}
            stop.check().unwrap();
        };
        [2, 8, 2].into_iter().for_each(work);
        let found = stretches.between_looks.into_inner();
        assert!(found.iter().zip([2, 8, 2]).all(|(found, spent)| found.as_millis() >= spent), "{found:?}");
        assert_eq!(found.len(), 3);
    }
}
