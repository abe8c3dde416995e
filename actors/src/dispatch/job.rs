//! Requests that were admitted, on their way to a worker. A job that is dropped answers.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backlog::Running;
use super::budget::RunPermit;
use super::client::Client;
use super::few::Few;
use super::post::Letter;
use super::reply::{Answer, Answers, PendingReplies, Replies, ReplySender, reply_channel};
use super::stop::{StopFlag, StopFlags};
use super::{Admission, Failure, HeldBytes, Refusal, Slot};
use crate::operation::{Arguments, Entry, Estimate, Input, OperationIndex};
use crate::settings::Settings;

/// Most jobs of a batch: the bits of the word that their stop flags share.
pub(crate) const BATCH_JOBS_MAX: usize = 32;

/// Longest estimated run of a batch of several jobs; a heavier job travels alone.
pub(crate) const BATCH_CPU_MAX: Duration = Duration::from_micros(200);

/// Longest estimated run of a batch for which finished answers to others may wait.
const LIGHT_MAX: Duration = Duration::from_micros(20);

/// Who waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Somebody waits for the answer.
    Interactive,
    /// May wait behind interactive work, within its share.
    Batch,
}

/// An admitted request. Its permit travels with the work: what it holds here, its slot with its batch.
pub(crate) struct Job {
    pub(crate) id: u64,
    /// Place in the catalogue of the batch's settings.
    pub(crate) entry: usize,
    pub(crate) arguments: Arguments,
    pub(crate) input: Input,
    /// When it was given to the bridge, after its body had arrived and any hold was over, or began to wait again.
    pub(crate) queued_at: Instant,
    pub(crate) deadline: Instant,
    pub(crate) cost: Cost,
    pub(crate) held: HeldBytes,
    pub(crate) stop: StopFlag,
}

/// What a connection knows of a request when it is complete.
pub(crate) struct Admitted {
    pub(crate) id: u64,
    pub(crate) entry: usize,
    pub(crate) arguments: Arguments,
    pub(crate) input: Input,
    pub(crate) deadline: Instant,
    pub(crate) cost: Cost,
    pub(crate) held: HeldBytes,
}

/// What a request is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// As the operation says it, without a look at this machine.
    pub(crate) estimate: Estimate,
    /// Time on one core, as this machine has taught it.
    pub(crate) cpu: Duration,
    /// Whether it has taught enough to be believed against a request.
    pub(crate) is_known: bool,
}

impl Cost {
    /// What it takes at least, for what is decided against a request: what such jobs take here, less what they differ
    /// by; before that is known the shorter of the two opinions.
    pub(crate) fn cpu_least(&self) -> Duration {
        if self.is_known { self.cpu - self.cpu / DIFFER } else { self.cpu.min(self.estimate.cpu) }
    }

    /// The longer of the two opinions.
    pub(crate) fn cpu_most(&self) -> Duration {
        self.cpu.max(self.estimate.cpu)
    }
}

/// Jobs that are estimated alike differ by one part in this many.
const DIFFER: u32 = 10;

/// What a batch may have to wait for besides a worker. Batches of equal need can run, or not, all alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Another job of its operation may have to end.
    pub(crate) concurrency: Option<OperationIndex>,
    /// Working memory, bytes.
    pub(crate) work_bytes: u64,
}

/// Memory is reserved in steps of an eighth of the power of two below it, so that similar needs are equal.
fn in_steps(bytes: u64) -> u64 {
    match bytes.checked_ilog2() {
        Some(log) => bytes.checked_next_multiple_of(1 << log.saturating_sub(3)).unwrap_or(bytes),
        None => 0,
    }
}

/// A job is given up when less than this part of what it takes at least is left until its deadline, where that is only
/// an opinion.
const HOPE: (u32, u32) = (3, 4);

impl Job {
    /// Whether it cannot end before its deadline any more.
    pub(crate) fn is_hopeless(&self, now: Instant) -> bool {
        // As it mostly is, and quickly told.
        let by_estimate = now.checked_add(self.cost.cpu_most());
        if by_estimate.is_some_and(|end| end <= self.deadline) {
            return false;
        }
        let (part, of) = if self.cost.is_known { (1, 1) } else { HOPE };
        self.deadline.saturating_duration_since(now) < self.cost.cpu_least() / of * part
    }

    /// Whether it will not be started.
    fn is_lost(&self, now: Instant, wait_max: Duration) -> bool {
        self.stop.is_raised()
            || now >= self.deadline
            || self.is_hopeless(now)
            || now > self.queued_at + wait_max
    }

    fn answer(self, failure: Failure) -> Answer {
        let _may_start = self.stop.start();
        Answer::failed(self.id, failure, self.held)
    }
}

/// Jobs of one connection and class that cross the bridge as one message and come back as one reply. Each keeps its
/// own permit, stop flag and deadline.
///
/// It is one piece of memory, which the I/O world makes, which carries a job there and its answer back, and which the
/// I/O world frees.
///
/// Dropping a batch answers every job in it that has no answer yet; that is the safety net, not a way to end one.
pub(crate) struct Batch(Box<Content>);

/// What a [`Batch`] is.
pub(crate) struct Content {
    pub(crate) settings: Arc<Settings>,
    pub(crate) class: Class,
    /// Largest answer that the connection can carry, bytes.
    pub(crate) output_bytes_max: u64,
    cpu: Duration,
    /// What the operations said that its jobs would take.
    estimated: Duration,
    work_bytes: u64,
    flags: StopFlags,
    /// One for each job that has no answer yet, and until they are sent for those that have one: a fraction of a
    /// millisecond later than each would be freed by itself.
    slot: Option<Slot>,
    jobs: Few<Job>,
    /// The job that was taken out and has no answer yet.
    current: Option<u64>,
    answers: Few<Answer>,
    reply: Option<ReplySender>,
    /// While it runs.
    occupied: Option<Occupied>,
}

/// What a batch occupies while it runs. Given up before its last answers are sent, so that whoever has them finds a
/// daemon that has ended the work.
pub(super) struct Occupied {
    pub(super) _permit: RunPermit,
    pub(super) running: Running,
}

impl Batch {
    /// An empty batch and the place where its answers will come.
    pub(crate) fn new(
        settings: Arc<Settings>,
        client: Arc<Client>,
        class: Class,
        output_bytes_max: u64,
    ) -> (Self, PendingReplies) {
        let (reply, pending) = reply_channel();
        let batch = Self(Box::new(Content {
            settings,
            class,
            output_bytes_max,
            cpu: Duration::ZERO,
            estimated: Duration::ZERO,
            work_bytes: 0,
            flags: StopFlags::new(client, class),
            slot: None,
            jobs: Few::default(),
            current: None,
            answers: Few::default(),
            reply: Some(reply),
            occupied: None,
        }));
        (batch, pending)
    }

    /// Whose work it is.
    pub(crate) fn client(&self) -> &Arc<Client> {
        self.flags.client()
    }

    /// Whether a job fits beside what is in the batch. A job that may have to wait for memory or for others of its
    /// operation travels alone, so that nothing light waits with it, and so does one that may be shared.
    pub(crate) fn takes(&self, cost: &Cost, entry: &Entry) -> bool {
        self.jobs.is_empty()
            || (self.jobs.len() < BATCH_JOBS_MAX
                && cost.estimate.work_bytes == 0
                && self.work_bytes == 0
                && entry.concurrency_max.is_none()
                && self.concurrency_limited().is_none()
                && !entry.coalesces()
                && !self.first().is_some_and(|(_, entry)| entry.coalesces())
                && self.cpu + cost.cpu <= BATCH_CPU_MAX)
    }

    /// Whether no other job fits beside what is in the batch.
    pub(crate) fn is_full(&self) -> bool {
        self.jobs.len() == BATCH_JOBS_MAX
            || self.cpu >= BATCH_CPU_MAX
            || self.work_bytes > 0
            || self.first().is_some_and(|(_, entry)| entry.concurrency_max.is_some() || entry.coalesces())
    }

    /// Takes the slot of a job that is about to be added.
    ///
    /// # Errors
    ///
    /// When as many as `limit` requests wait and run.
    pub(crate) fn take_slot(&mut self, admission: &Arc<Admission>, limit: usize) -> Result<(), Refusal> {
        match &mut self.slot {
            Some(slots) => slots.grow(limit),
            slot => admission.enter(limit).map(|taken| *slot = Some(taken)),
        }
    }

    /// Adds a job; [`Batch::takes`] has been asked, and its slot is taken. Returns its stop flag.
    pub(crate) fn push(&mut self, request: Admitted, queued_at: Instant) -> StopFlag {
        debug_assert!(self.jobs.len() < BATCH_JOBS_MAX, "the caller asks first");
        self.work_bytes = self.work_bytes.max(in_steps(request.cost.estimate.work_bytes));
        let restricted = self.restricts(&self.settings.catalogue.entries()[request.entry]);
        let stop = self.flags.add(request.cost.cpu, restricted);
        self.cpu = self.cpu.saturating_add(request.cost.cpu);
        self.estimated = self.estimated.saturating_add(request.cost.estimate.cpu);
        let Admitted { id, entry, arguments, input, deadline, cost, held } = request;
        let job = Job { id, entry, arguments, input, queued_at, deadline, cost, held, stop: stop.clone() };
        // One job, as clients send that take turns, or probably many.
        self.jobs.push(job, BATCH_JOBS_MAX - 1);
        stop
    }

    /// When its first job was given to the bridge.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.jobs.front().map(|job| job.queued_at)
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Estimated time on one core of what is left.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu
    }

    /// Whether it takes no more than a moment, by either opinion of its cost.
    pub(crate) fn is_light(&self) -> bool {
        self.cpu.max(self.estimated) <= LIGHT_MAX
    }

    /// Working memory that its jobs need, one after the other, bytes.
    pub(crate) fn work_bytes(&self) -> u64 {
        self.work_bytes
    }

    /// The operation of a batch that is alone because its operation's concurrency is limited.
    pub(crate) fn concurrency_limited(&self) -> Option<&Entry> {
        let (_, entry) = self.first()?;
        entry.concurrency_max.map(|_| entry)
    }

    /// The next job and its operation.
    pub(crate) fn first(&self) -> Option<(&Job, &Entry)> {
        let job = self.jobs.front()?;
        Some((job, &self.settings.catalogue.entries()[job.entry]))
    }

    /// What it may have to wait for besides a worker.
    pub(crate) fn need(&self) -> Need {
        let concurrency = self.concurrency_limited().map(|entry| entry.index);
        Need { concurrency, work_bytes: self.work_bytes }
    }

    /// The operation of a batch that may have to wait for more than a worker.
    pub(crate) fn restricted(&self) -> Option<&Entry> {
        let (_, entry) = self.first()?;
        self.restricts(entry).map(|_| entry)
    }

    fn restricts(&self, entry: &Entry) -> Option<OperationIndex> {
        (self.work_bytes > 0 || entry.concurrency_max.is_some()).then_some(entry.index)
    }

    /// It runs from now on.
    pub(super) fn occupy(&mut self, occupied: Occupied) {
        self.occupied = Some(occupied);
    }

    /// The run of another batch does the work of its only job from now on.
    pub(crate) fn board(&mut self) {
        debug_assert!(self.jobs.len() == 1, "what may be shared travels alone");
        self.vacate();
        self.jobs.iter().for_each(|job| job.stop.board());
    }

    /// That run came to nothing: the job waits again, from `now` on, as if it had come then.
    pub(crate) fn unboard(&mut self, now: Instant) {
        for job in self.jobs.iter_mut() {
            job.queued_at = now;
            job.stop.unboard();
        }
    }

    /// It does not run any more, or not yet again.
    pub(crate) fn vacate(&mut self) {
        if let Some(occupied) = self.occupied.take() {
            self.client().backlog().has_run(&occupied.running);
        }
    }

    /// Whether none of its jobs will be started.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        self.jobs.iter().all(|job| job.is_lost(now, self.settings.queue.wait_max))
    }

    /// Whether nobody waits any more for any of its jobs.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.jobs.iter().all(|job| job.stop.is_raised())
    }

    /// The operations of the jobs that are left.
    pub(crate) fn operations(&self) -> impl Iterator<Item = OperationIndex> {
        self.jobs.iter().map(|job| self.settings.catalogue.entries()[job.entry].index)
    }

    /// Takes the next job out to be run; its answer is owed through [`Batch::answer`].
    pub(crate) fn next(&mut self) -> Option<Job> {
        let Job { id, cost, .. } = self.jobs.front()?;
        let (id, cpu) = (*id, cost.cpu);
        self.cpu = self.cpu.saturating_sub(cpu);
        self.current = Some(id);
        self.jobs.pop()
    }

    /// Keeps the answer of the job taken last.
    pub(crate) fn answer(&mut self, answer: Answer) {
        debug_assert_eq!(self.current, Some(answer.id), "the answer of the job taken last");
        self.current = None;
        let with_this = self.jobs.len() + 1;
        self.answers.push(answer, with_this);
    }

    /// Sends the answers there are; those of the jobs that are left will come by a reply of their own.
    pub(crate) fn send_done(&mut self) {
        let answers = Box::new(std::mem::take(&mut self.answers));
        if let Some(slots) = &mut self.slot {
            slots.free(answers.len());
        }
        let (reply, pending) = reply_channel();
        if let Some(sender) = self.reply.replace(reply) {
            sender.send(Replies { answers: Answers::Some(answers), rest: Some(pending) });
        }
    }

    /// Answers every job that is left.
    pub(crate) fn fail(mut self, failure: &Failure) {
        self.fail_rest(failure);
    }

    /// Ends it: gives up what it occupies, and says what is to be delivered. Whoever has the answers then finds a daemon
    /// that has ended the work.
    pub(crate) fn seal(mut self) -> Option<Letter> {
        self.close();
        let sender = self.reply.take()?;
        Some(Letter::new(sender, Replies { answers: Answers::All(self), rest: None }))
    }

    fn close(&mut self) {
        self.vacate();
        self.fail_rest(&Failure::lost());
        if let Some(id) = self.current.take() {
            self.answers.push(Answer::failed(id, Failure::lost(), HeldBytes::unbounded()), 1);
        }
        drop(self.slot.take());
    }

    fn fail_rest(&mut self, failure: &Failure) {
        let Content { jobs, answers, .. } = &mut *self.0;
        while let Some(job) = jobs.pop() {
            answers.push(job.answer(failure.clone()), jobs.len() + 1);
        }
    }

    /// The answers, once it is sealed.
    pub(super) fn answers(&self) -> &Few<Answer> {
        &self.answers
    }

    /// Takes the next answer out, once it is sealed.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.pop()
    }
}

impl Deref for Batch {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.0
    }
}

impl DerefMut for Batch {
    fn deref_mut(&mut self) -> &mut Content {
        &mut self.0
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let Some(sender) = self.reply.take() else { return };
        self.close();
        let answers = Box::new(std::mem::take(&mut self.answers));
        sender.send(Replies { answers: Answers::Some(answers), rest: None });
    }
}
