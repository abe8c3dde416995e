//! The actors of Windlass: who runs, who waits, who answers. Knows no concrete operation and no configuration file.
//!
//! ```text
//! bytes ─► Frame ─► Request ─► Permit ─► Job ─► Intake ─► Worker ─► Output ─► Reply ─► Frame ─► bytes
//! └───── I/O world (io/) ───────────────────────┘└─ CPU world (cpu/) ─┘└──── I/O world (io/) ────┘
//! ```
//!
//! The I/O world never computes and never blocks. The CPU world never awaits and never sees a socket. They meet only
//! in `dispatch/`. A daemon is started with [`Supervisor::start`] and lives in [`Supervisor::run`].

pub mod operation;
pub mod settings;
pub mod units;

mod awake;
mod lifecycle;
mod overrun;
mod pulse;
mod supervisor;
mod sync;
mod tidy;

mod cpu;
mod dispatch;
mod io;
mod telemetry;

pub use cpu::{Pool, PoolError, Recruiter};
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use dispatch::bench;
pub use dispatch::{Class, Failure};
pub use io::{
    Alarm, Answered, BindError, FrontDoor, Hall, Head, Impatience, LINGER, Rang, Stream, Ticket, Unwritten,
    look_out,
};
pub use lifecycle::Phase;
pub use pulse::{Pulse, Sketch, Stall};
pub use supervisor::{DoorPlan, Ending, Observation, Order, Plan, Reload, StartError, Supervisor};
pub use telemetry::{
    AccuracySnapshot, DoorSnapshot, HistogramSnapshot, JobsSnapshot, Observer, QueueSnapshot,
    RequestsSnapshot, RunningSnapshot, Snapshot, WorkerSnapshot,
};
