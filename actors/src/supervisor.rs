//! Owns: every other actor, and the phase they are in. Receives: orders (drain, reload, report), the ends of
//! listeners. Sends: the phase, observations of it. Ends when: a drain has ended. Never: serves a request itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::cpu::{Pool, PoolError, Recruiter, Workers, thread_name};
use crate::dispatch::{Bridge, Budget, Clients, Failure, post};
use crate::io::{
    BindError, BoundListener, Census, Door, FrontDoor, IoWorld, Listener, ListenerError, REFUSALS_MAX,
};
use crate::lifecycle::{Lifecycle, Phase};
use crate::overrun::{self, LOOK_EVERY};
use crate::pulse::Pulse;
use crate::settings::{DrainSettings, ListenSource, PoolSettings, Settings};
use crate::telemetry::{Metrics, Observer, add, nanos};
use crate::tidy::Tidy;

/// Restarts of listeners within [`RESTART_WINDOW`] before the daemon gives up, so that systemd starts it afresh.
const RESTARTS_MAX: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// How often a drain says what it is still waiting for.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// After the end of the grace, for the last answers to be written and read.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// All that is decided before anything is started.
pub struct Plan {
    /// What a reload may change.
    pub settings: Settings,
    /// The CPU world.
    pub pool: PoolSettings,
    /// Where to listen for the native protocol.
    pub listen: Vec<ListenSource>,
    /// Where to listen for others.
    pub doors: Vec<DoorPlan>,
    /// Names of all operations that the program knows, in the order of their
    /// [`OperationIndex`](crate::operation::OperationIndex).
    pub operations: Vec<&'static str>,
    /// What the daemon calls itself.
    pub server: String,
}

/// Another protocol, and where it is spoken.
pub struct DoorPlan {
    /// Speaks it.
    pub door: Arc<dyn FrontDoor>,
    /// Where to listen for it.
    pub listen: Vec<ListenSource>,
}

/// A daemon that could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The CPU threads cannot be started.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The runtime does not take a socket.
    #[error("cannot start listening: {0}")]
    Listen(String),
}

/// What the supervisor is told to do.
pub enum Order {
    /// Finish what was accepted and end.
    Drain {
        /// For the log, such as the signal's name.
        why: &'static str,
    },
    /// Take this from now on.
    Reload(Box<Reload>),
    /// Log what every worker is doing.
    Report,
    /// Take no job any more, as a bridge with a lost wake-up would: for the tests of the watchdog.
    #[cfg(feature = "faults")]
    Stick,
}

/// What a reload puts in force, as one.
pub struct Reload {
    /// For requests that are admitted from now on.
    pub settings: Settings,
    /// The threads to compute with, from [`Supervisor::recruiter`]; `None` keeps those there are.
    pub pool: Option<Pool>,
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything accepted was finished.
    Clean,
    /// `drain.timeout` passed before.
    Incomplete,
    /// Listeners failed too often; what had been accepted was finished.
    Failed,
}

/// What the supervisor tells the one who started it, for the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A phase was entered.
    Entered(Phase),
    /// A drain goes on. Told as each phase of it begins, and then again and again.
    Waiting {
        /// Connections that are not closed yet.
        connections: usize,
        /// Requests that wait or run.
        requests: usize,
        /// Until the current phase ends.
        left: Duration,
        /// Until the drain is over, however it goes: the rest of this phase and all that may follow it.
        over_in: Duration,
    },
}

/// A socket, and what is spoken there.
struct Entrance {
    source: ListenSource,
    door: Door,
}

/// The actor that starts, watches and ends all others.
pub struct Supervisor {
    world: Arc<IoWorld>,
    lifecycle: Lifecycle,
    /// Each ends with its place in `entrances`.
    listeners: JoinSet<(usize, Result<(), ListenerError>)>,
    entrances: Vec<Entrance>,
    /// Where each of the entrances is, as the client writes it.
    addresses: Vec<String>,
    restarts: Restarts,
}

impl Supervisor {
    /// Binds every address, starts the workers, then the listeners. Has to be called on the I/O runtime.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be had; nothing is left running then.
    pub fn start(plan: Plan) -> Result<Self, StartError> {
        let native = plan.listen.into_iter().map(|source| Entrance { source, door: Door::Native });
        let others = plan.doors.into_iter().flat_map(|DoorPlan { door, listen }| {
            let entrance = move |source| Entrance { source, door: Door::Other(Arc::clone(&door)) };
            listen.into_iter().map(entrance)
        });
        let mut entrances: Vec<Entrance> = native.chain(others).collect();
        let bound = entrances
            .iter()
            .map(|entrance| BoundListener::bind(&entrance.source))
            .collect::<Result<Vec<BoundListener>, BindError>>()?;
        for (bound, entrance) in std::iter::zip(&bound, &mut entrances) {
            // A listener that is started again stands where clients know it, also where the system chose the port.
            if let ListenSource::Address(address) = &mut entrance.source {
                *address = bound.local_address();
            }
        }
        let addresses: Vec<String> = std::iter::zip(&bound, &entrances)
            .map(|(bound, entrance)| entrance.door.name(&bound.local_address()))
            .collect();
        let n_workers = plan.pool.threads.get();
        let metrics = Arc::new(Metrics::new(plan.operations, Instant::now()));
        let budget = Budget::new(crate::cpu::job_bytes_max(&plan.pool), metrics.operations.len());
        let bridge = Arc::new(Bridge::new(n_workers, budget));
        let (post, postman) = post();
        let workers = Workers::start(&plan.pool, bridge, post, Arc::clone(&metrics))?;
        tokio::spawn(postman.deliver());
        let census = Arc::new(Census::default());
        let (lifecycle, phase) = Lifecycle::new(Arc::clone(&census));
        let world = Arc::new(IoWorld {
            settings: ArcSwap::from_pointee(plan.settings),
            workers,
            metrics,
            phase,
            census,
            clients: Clients::default(),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            connection_numbers: AtomicU64::new(0),
            server: plan.server,
            http_hint: addresses
                .iter()
                .find(|address| address.starts_with("http://"))
                .map(|address| format!("; it is spoken at {address}/"))
                .unwrap_or_default(),
        });
        let mut supervisor = Self {
            world,
            lifecycle,
            listeners: JoinSet::new(),
            entrances,
            addresses,
            restarts: Restarts::default(),
        };
        for (place, listener) in bound.into_iter().enumerate() {
            supervisor.listen(place, listener).map_err(|error| StartError::Listen(error.to_string()))?;
        }
        Ok(supervisor)
    }

    /// The addresses that are listened on, with the ports that the system chose: `tcp://HOST:PORT`, `unix:///PATH`,
    /// or the scheme of another door in place of `tcp`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// A window to look in by, for any thread.
    pub fn observer(&self) -> Observer {
        Observer::new(Arc::clone(&self.world))
    }

    /// Builds the CPU threads that a reload asks for.
    pub fn recruiter(&self) -> Recruiter {
        Recruiter::new(Arc::clone(&self.world.workers))
    }

    /// Serves until a drain has ended. A closed `orders` channel is an order to drain.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut observe: impl FnMut(Observation),
    ) -> Ending {
        let mut tidy = Tidy::default();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let failed = loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Drain { why }) => {
                        tracing::info!(why, "draining");
                        break false;
                    }
                    None => break false,
                    Some(Order::Reload(reload)) => self.reload(*reload),
                    Some(Order::Report) => self.report(),
                    #[cfg(feature = "faults")]
                    Some(Order::Stick) => self.world.workers.bridge.stick(),
                },
                _ = looks.tick() => {
                    let metrics = &self.world.metrics;
                    overrun::look(metrics, metrics.started_at.elapsed());
                    tidy.look(self.world.workers.bridge.taken());
                    self.world.workers.forget_old(Instant::now());
                }
                Some(ended) = self.listeners.join_next() => {
                    if !self.restart(ended) {
                        tracing::error!(
                            restarts = RESTARTS_MAX, within_seconds = RESTART_WINDOW.as_secs(),
                            "listeners fail too often; draining to be started afresh"
                        );
                        break true;
                    }
                }
            }
        };
        let ending = self.drain(&mut orders, &mut observe).await;
        if failed && ending == Ending::Clean { Ending::Failed } else { ending }
    }

    /// How the workers are, for a watchdog.
    pub fn pulse(&self) -> Pulse {
        Pulse::new(Arc::clone(&self.world))
    }

    fn listen(&mut self, place: usize, bound: BoundListener) -> Result<(), ListenerError> {
        tracing::info!(address = self.addresses[place], "listening");
        let door = self.entrances[place].door.clone();
        let listener = Listener::new(Arc::clone(&self.world), door, bound)?;
        self.listeners.spawn(async move { (place, listener.run().await) });
        Ok(())
    }

    /// Starts a listener again that has ended by itself. Whether that may still be tried.
    fn restart(&mut self, ended: Result<(usize, Result<(), ListenerError>), tokio::task::JoinError>) -> bool {
        let place = match ended {
            Ok((place, result)) => {
                let address = &self.addresses[place];
                let error = result.err().map(|error| error.to_string());
                tracing::error!(address, error, "a listener ended; starting it again");
                place
            }
            Err(error) => {
                // Its address went with it; the daemon cannot serve all of its addresses any more.
                tracing::error!(%error, "a listener panicked; this is a bug");
                return false;
            }
        };
        add(&self.world.metrics.listener_restarts, 1);
        while self.restarts.allows(Instant::now()) {
            let listening = BoundListener::bind(&self.entrances[place].source)
                .map_err(|error| error.to_string())
                .and_then(|bound| self.listen(place, bound).map_err(|error| error.to_string()));
            match listening {
                Ok(()) => return true,
                Err(error) => {
                    let address = &self.addresses[place];
                    tracing::error!(address, error, "the listener cannot be started again");
                }
            }
        }
        false
    }

    fn reload(&self, Reload { settings, pool }: Reload) {
        self.world.settings.store(Arc::new(settings));
        if let Some(pool) = pool {
            self.world.workers.take_over(pool);
        }
        add(&self.world.metrics.reloads, 1);
        tracing::info!("new settings are in force; requests keep the ones that they were admitted under");
    }

    /// SIGUSR1: one line for each worker.
    fn report(&self) {
        let metrics = &self.world.metrics;
        let uptime = Instant::now() - metrics.started_at;
        let roster = metrics.crews.roster();
        let crews = roster.leaving.iter().map(|crew| (crew, true)).chain([(&roster.current, false)]);
        let workers = crews.flat_map(|(crew, leaving)| {
            crew.workers()
                .iter()
                .enumerate()
                .map(move |(index, worker)| (thread_name(index), worker, leaving))
        });
        for (name, worker, leaving) in workers {
            match worker.running() {
                Some(running) => tracing::info!(
                    worker = name,
                    leaving,
                    operation = metrics.operations.get(usize::from(running.operation.0)),
                    client = %running.client,
                    connection = running.client.connection(),
                    for_ms =
                        u64::try_from(uptime.saturating_sub(running.since).as_millis()).unwrap_or(u64::MAX),
                    "worker is busy"
                ),
                None if leaving => {}
                None => tracing::info!(worker = name, "worker is idle"),
            }
        }
        let bridge = &self.world.workers.bridge;
        tracing::info!(
            connections = self.world.census.open(),
            waiting = bridge.waiting_jobs(),
            admitted = bridge.admission.slots(),
            held_bytes = bridge.admission.held_bytes(),
            work_bytes = bridge.budget.work_bytes(),
            "daemon"
        );
    }

    async fn drain(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        observe: &mut impl FnMut(Observation),
    ) -> Ending {
        let drain = self.world.settings.load().drain.clone();
        if !drain.quiet.is_zero() {
            self.enter(Phase::Quiet, observe);
            self.quiet(&drain, observe).await;
        }
        // Nobody is listened to any more; what still comes over the channel must not hold its senders up.
        orders.close();

        self.enter(Phase::Draining, observe);
        let begun_at = Instant::now();
        let after = drain.cancel_grace + LAST_WORDS;
        if self.emptied(begun_at + drain.timeout, after, observe).await {
            tracing::info!(took_ms = millis(begun_at.elapsed()), "drained");
            return Ending::Clean;
        }

        self.enter(Phase::Cancelling, observe);
        tracing::warn!(
            timeout_ms = millis(drain.timeout),
            requests = self.world.workers.bridge.admission.slots(),
            "drain.timeout passed; stopping what is left"
        );
        let bridge = &self.world.workers.bridge;
        bridge.stop_everything();
        bridge.fail_waiting(&Failure { retry_safe: true, ..Failure::drain_over() });
        if !self.emptied(Instant::now() + drain.cancel_grace, LAST_WORDS, observe).await {
            self.enter(Phase::Over, observe);
            tracing::error!(
                grace_ms = millis(drain.cancel_grace),
                connections = self.world.census.open(),
                "drain.cancel_grace passed; answering for what still runs"
            );
            self.emptied(Instant::now() + LAST_WORDS, Duration::ZERO, observe).await;
        }
        Ending::Incomplete
    }

    fn enter(&self, phase: Phase, observe: &mut impl FnMut(Observation)) {
        let metrics = &self.world.metrics;
        metrics.phase_entered.store(nanos(metrics.started_at.elapsed()), Ordering::Relaxed);
        self.lifecycle.advance(phase);
        observe(Observation::Entered(phase));
    }

    /// Serves on for as long as `drain.quiet` says.
    async fn quiet(&self, drain: &DrainSettings, observe: &mut impl FnMut(Observation)) {
        let deadline = Instant::now() + drain.quiet;
        let after = drain.timeout + drain.cancel_grace + LAST_WORDS;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return;
            }
            self.tell_waiting(deadline - now, after, observe);
            tokio::time::sleep_until(deadline.min(now + REPORT_EVERY).into()).await;
        }
    }

    fn tell_waiting(&self, left: Duration, after: Duration, observe: &mut impl FnMut(Observation)) {
        observe(Observation::Waiting {
            connections: self.world.census.open(),
            requests: self.world.workers.bridge.admission.slots(),
            left,
            over_in: left + after,
        });
    }

    /// Waits until nobody is connected any more, at most until `deadline`, and says now and then for whom. `after` is
    /// what the drain may take beyond `deadline`.
    async fn emptied(
        &mut self,
        deadline: Instant,
        after: Duration,
        observe: &mut impl FnMut(Observation),
    ) -> bool {
        self.tell_waiting(deadline.saturating_duration_since(Instant::now()), after, observe);
        let Self { world, listeners, .. } = self;
        let all_gone = async {
            // A listener hands over its backlog before it ends, so the census is complete only after the last.
            while listeners.join_next().await.is_some() {}
            world.census.empty().await;
        };
        tokio::pin!(all_gone);
        loop {
            let wake = deadline.min(Instant::now() + REPORT_EVERY);
            if tokio::time::timeout_at(wake.into(), &mut all_gone).await.is_ok() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let (connections, requests) = (world.census.open(), world.workers.bridge.admission.slots());
            tracing::info!(
                connections,
                requests,
                left_ms = millis(left),
                "still waiting for requests in flight"
            );
            observe(Observation::Waiting { connections, requests, left, over_in: left + after });
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// When listeners were restarted lately.
#[derive(Default)]
struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// Whether one more restart is within the limit; counts it if so.
    fn allows(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) > RESTART_WINDOW) {
            self.0.pop_front();
        }
        let allowed = self.0.len() < RESTARTS_MAX;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }
}
