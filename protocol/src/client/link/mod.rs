//! One connection of the pipelined client: what waits on it, and the two tasks that move its bytes.
//!
//! - **Owns**: the socket's halves (one task each), the requests in flight, the bytes to be sent.
//! - **Receives**: frames of the daemon; requests of callers, through [`Link::work`] and its siblings.
//! - **Sends**: each caller its one answer.
//! - **Ends when**: the daemon ends the stream, a rule is broken, or the client is dropped.
//! - **Never**: connects, or tries anything twice.

mod state;

use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;

use self::state::{Pending, Phase, State};
use super::address::Address;
use super::decoder::Decoder;
use super::error::{CallError, Failure};
use super::options::Options;
use super::outgoing::{Outgoing, SLICES_MAX};
use super::question::Answer;
use super::request::{Terms, Totals};
use super::session::{Event, interpret};
use super::socket::{Greeted, Reader, Writer, greet};
use crate::frame::Kind;

/// Pongs are not queued behind more small frames than this, bytes: a daemon that asks without reading gets none.
const PONG_BACKLOG_BYTES: usize = 64 * 1024;

/// How long the end of the stream is waited for once nothing can be written any more.
const LAST_WORDS: Duration = Duration::from_secs(5);

pub(super) struct Link {
    pub(super) terms: Terms,
    address: Address,
    /// One permit per request that the daemon may have unanswered; held until its final answer.
    places: Arc<Semaphore>,
    state: Mutex<State>,
    /// There is something to send.
    wake: Notify,
    tasks: OnceLock<[AbortHandle; 2]>,
}

/// The right to one answer; dropped before it came, it tells the daemon to stop.
pub(super) struct Ticket {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Result<Answer, CallError>>,
    answered: bool,
}

impl Ticket {
    /// Waits for the answer. Cancel safety: dropping the future drops the ticket, which sends Cancel.
    pub(super) async fn wait(mut self) -> Result<Answer, CallError> {
        let answer = (&mut self.answer).await;
        self.answered = true;
        answer.unwrap_or_else(|_| Err(self.link.lost("the client was dropped")))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            self.link.abandon(self.id);
        }
    }
}

impl Link {
    /// Opens a connection. Cancel safety: dropping the future closes it.
    pub(super) async fn open(
        address: &Address,
        options: &Options,
        patience: Duration,
    ) -> Result<Arc<Self>, CallError> {
        let Greeted { reader, writer, decoder, terms } = greet(address, options, patience).await?;
        let places = terms.in_flight_max.min(options.in_flight_max).max(1) as usize;
        let link = Arc::new(Self {
            terms,
            address: address.clone(),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            state: Mutex::new(State::new()),
            wake: Notify::new(),
            tasks: OnceLock::new(),
        });
        let writing = tokio::spawn(Arc::clone(&link).write(writer)).abort_handle();
        let reading = tokio::spawn(Arc::clone(&link).read(reader, decoder, writing.clone())).abort_handle();
        link.tasks.set([reading, writing]).expect("a link is started once");
        Ok(link)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().phase == Phase::Open
    }

    /// Waits until one more request may be unanswered. Cancel safety: may be dropped at any time.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_| CallError::draining("the connection ended while the request waited for a place"))
    }

    /// Says Close; what is in flight is still answered. `None` when the connection is ending already.
    pub(super) fn close(&self) -> Option<oneshot::Receiver<Result<Totals, CallError>>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.phase != Phase::Open {
            return None;
        }
        state.phase = Phase::Leaving;
        state.closing = Some(sender);
        let opened_at = state.opened_at;
        state.outgoing.close(opened_at);
        drop(state);
        self.places.close();
        self.wake.notify_one();
        Some(receiver)
    }

    /// Ends the tasks and with them the connection; whoever waits is told.
    pub(super) fn abort(&self) {
        self.tasks.get().into_iter().flatten().for_each(AbortHandle::abort);
        self.end(|| self.lost("the client was dropped"));
    }

    /// Queues what `put` appends: a request that was checked against the terms and has a place, or a question that
    /// needs none.
    pub(super) fn queue(
        self: &Arc<Self>,
        place: Option<OwnedSemaphorePermit>,
        put: impl FnOnce(&mut Outgoing, u64),
    ) -> Result<Ticket, CallError> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Err(CallError::draining("the connection is ending; the request was not sent"));
        }
        let id = state.id_next;
        state.id_next += 1;
        let wake = state.outgoing.is_empty();
        put(&mut state.outgoing, id);
        state.pending.insert(id, Pending { answer: Some(sender), place });
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(Ticket { link: Arc::clone(self), id, answer, answered: false })
    }

    /// The caller has left: its place is kept until the daemon's final answer.
    fn abandon(&self, id: u64) {
        let mut state = self.state();
        let Some(pending) = state.pending.get_mut(&id) else { return };
        pending.answer = None;
        if pending.place.is_some() {
            state.outgoing.bare(Kind::Cancel, id, &[]);
            drop(state);
            self.wake.notify_one();
        }
    }

    async fn write(self: Arc<Self>, mut writer: Writer) {
        let mut batch = Outgoing::default();
        loop {
            self.take(&mut batch).await;
            while !batch.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let used = batch.slices(&mut slices);
                match writer.write_vectored(&slices[..used]).await {
                    Ok(sent) if sent > 0 => batch.advance(sent),
                    // The daemon's last words are still to be read; only when they do not come is it over here.
                    failed => {
                        self.leave();
                        let _ended = tokio::time::timeout(LAST_WORDS, self.ended()).await;
                        let reason =
                            failed.map_or_else(|error| error.to_string(), |_| "write zero".to_owned());
                        self.end(|| self.lost(&reason));
                        return;
                    }
                }
            }
        }
    }

    /// Exchanges what waits to be sent for the empty `batch`, as soon as there is something.
    async fn take(&self, batch: &mut Outgoing) {
        loop {
            {
                let mut state = self.state();
                if !state.outgoing.is_empty() {
                    state.id_sent = state.id_next - 1;
                    std::mem::swap(&mut state.outgoing, batch);
                    return;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Returns when the connection has ended.
    async fn ended(&self) {
        while self.state().phase != Phase::Ended {
            self.wake.notified().await;
        }
    }

    /// Reads until the end of the stream, concludes everything, and ends the task that writes.
    async fn read(self: Arc<Self>, mut reader: Reader, mut decoder: Decoder, writing: AbortHandle) {
        let error = loop {
            if let Err(reason) = self.digest(&mut decoder) {
                break CallError::Protocol { address: self.address.clone(), reason };
            }
            match reader.read_buf(decoder.room()).await {
                Ok(0) if decoder.is_partial() => break self.lost("it ended in the middle of a frame"),
                Ok(0) => break self.lost("the daemon ended it"),
                Ok(_) => {}
                Err(error) => break self.lost(&error.to_string()),
            }
        };
        self.end(|| error.clone());
        writing.abort();
    }

    /// Hands out every complete frame.
    fn digest(&self, decoder: &mut Decoder) -> Result<(), String> {
        let mut state = self.state();
        while let Some(frame) = decoder.next()? {
            match interpret(frame)? {
                Event::Reply { id, times, body } => {
                    state.conclude(id, || Ok(Answer::Response(times.with(body))))?;
                }
                Event::Failure { id, failure } => {
                    state.conclude(id, || Err(CallError::Failure(failure)))?;
                }
                Event::Answer { id, body } => {
                    state.conclude(id, || Ok(Answer::Bytes(body.into_bytes())))?;
                }
                Event::Ping { id, body } => {
                    if state.closing.is_none() && state.outgoing.tail_bytes() < PONG_BACKLOG_BYTES {
                        state.outgoing.bare(Kind::Pong, id, body.as_slice());
                        self.wake.notify_one();
                    }
                }
                Event::GoAway { last_id } => {
                    state.go_away(last_id);
                    self.places.close();
                }
                Event::Broken(failure) => {
                    state.leave();
                    // What it says of the connection does not say that a request was not started.
                    state.broken = Some(CallError::Failure(Failure { retry_safe: false, ..failure }));
                    self.places.close();
                }
                Event::Closed(totals) => match state.closing.take() {
                    Some(closing) => drop(closing.send(Ok(totals))),
                    None => return Err("a Closed without a Close".to_owned()),
                },
                Event::Welcome(_) => return Err("a second Welcome".to_owned()),
                Event::Nothing => {}
            }
        }
        Ok(())
    }

    fn leave(&self) {
        self.state().leave();
        self.places.close();
    }

    /// Concludes everything: what was sent with `error`, what was not with the news that it was not.
    fn end(&self, error: impl Fn() -> CallError) {
        let (unanswered, closing, sent, broken) = {
            let mut state = self.state();
            state.phase = Phase::Ended;
            (std::mem::take(&mut state.pending), state.closing.take(), state.id_sent, state.broken.take())
        };
        self.places.close();
        let error = || broken.clone().unwrap_or_else(&error);
        if let Some(closing) = closing {
            drop(closing.send(Err(error())));
        }
        for (id, pending) in unanswered {
            let Some(answer) = pending.answer else { continue };
            let unsent = || CallError::draining("the connection ended before the request was sent");
            drop(answer.send(Err(if id > sent { unsent() } else { error() })));
        }
        self.wake.notify_one();
    }

    fn lost(&self, reason: &str) -> CallError {
        CallError::ConnectionLost { address: self.address.clone(), reason: reason.to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }
}
