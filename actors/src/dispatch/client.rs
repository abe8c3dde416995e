//! For whom work is done: how much of it waits, and how much CPU time was given.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Class;
use super::backlog::{Backlog, Band, Load, Outlook, Withdrawn, nanos};

/// Whom CPU time is shared between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ClientKey {
    /// A connection by its number.
    Connection(u64),
    /// An IP address.
    Address(IpAddr),
    /// A user at the other end of a Unix socket.
    Uid(u32),
}

impl ClientKey {
    /// The number of the connection, if it is one.
    pub(crate) fn connection(self) -> Option<u64> {
        if let Self::Connection(number) = self { Some(number) } else { None }
    }
}

impl std::fmt::Display for ClientKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(number) => write!(formatter, "connection {number}"),
            Self::Address(address) => address.fmt(formatter),
            Self::Uid(uid) => write!(formatter, "uid {uid}"),
        }
    }
}

/// Who was refused comes in again when the wait is shorter than the longest by one part in this many.
const AGAIN: u32 = 8;

/// What wait it is that lets them in again who were refused although they bear this one.
pub(super) fn again(wait_max: Duration) -> Duration {
    wait_max - wait_max / AGAIN
}

/// A request that may have to wait.
pub(crate) struct Bid<'a> {
    pub(crate) class: Class,
    pub(crate) outlook: &'a Outlook,
    /// The longest that it bears to wait.
    pub(crate) wait_max: Duration,
    pub(crate) now: Instant,
}

/// One of those between whom CPU time is shared. Batches carry it, so that it lives as long as its work.
pub(crate) struct Client {
    pub(crate) key: ClientKey,
    backlog: Arc<Backlog>,
    /// By class and band.
    waiting: [[Load; 2]; 2],
    /// Batches that wait, by class.
    n_waiting: [AtomicUsize; 2],
    /// By class, nanoseconds of virtual time: where the client's next job starts. Touched under the schedule's lock
    /// alone.
    next: [AtomicU64; 2],
    /// By class, nanoseconds: the longest that a request would have waited which was refused because that was too
    /// little; 0 once one that bears no more has come in.
    refused: [AtomicU64; 2],
}

impl Client {
    pub(crate) fn new(key: ClientKey, backlog: &Arc<Backlog>) -> Arc<Self> {
        let (waiting, n_waiting, next, refused) = Default::default();
        Arc::new(Self { key, backlog: Arc::clone(backlog), waiting, n_waiting, next, refused })
    }

    /// Where its work is counted with that of all.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Whether a request of this class was refused lately for how long it would have waited.
    pub(crate) fn was_refused(&self, class: Class) -> bool {
        self.refused[class as usize].load(Ordering::Relaxed) > 0
    }

    /// Whether a request that would wait for so long may come in; if not, after what time it may.
    ///
    /// Who was refused comes in again only when some room has been made, so that the time it is told is long enough to
    /// be true, and that not each job that ends lets in one of many who ask all the time. A request of
    /// another class, or with clearly more time than any that was refused, is not one of those.
    ///
    /// Who comes back may be known by nothing, as from a connection of its own. So while the daemon is under pressure
    /// all are held to that; whoever has little before it does not come near it.
    pub(crate) fn may_wait(&self, bid: &Bid<'_>) -> Result<(), Duration> {
        let Bid { class, outlook, wait_max, now } = *bid;
        let again = again(wait_max);
        let is_one_of = |refused: u64| refused > 0 && nanos(again) <= refused;
        let own = self.refused[class as usize].load(Ordering::Relaxed);
        let of_all = self.backlog.refused(class, now);
        let is_held = is_one_of(own) || is_one_of(of_all);
        if outlook.wait > if is_held { again } else { wait_max } {
            self.refused[class as usize].store(own.max(nanos(wait_max)).max(1), Ordering::Relaxed);
            self.backlog.note_refused(class, wait_max, is_held, now);
            return Err(outlook.back_in(again));
        }
        if is_one_of(own) {
            self.refused[class as usize].store(0, Ordering::Relaxed);
        }
        // That one who has little before it came in says nothing of the others.
        if is_one_of(of_all) && nanos(outlook.wait) > of_all / 2 {
            self.backlog.note_room(class);
        }
        Ok(())
    }

    /// A batch of its work has come to wait.
    pub(crate) fn enters(&self, class: Class, cpu: Duration) {
        self.waiting[class as usize][Band::of(cpu) as usize].add(cpu);
        let first = self.n_waiting[class as usize].fetch_add(1, Ordering::Relaxed) == 0;
        self.backlog.enters(class, cpu, first);
    }

    /// A batch of its work does not wait any more.
    pub(crate) fn leaves(&self, class: Class, cpu: Duration) {
        self.waiting[class as usize][Band::of(cpu) as usize].subtract(cpu);
        let last = self.n_waiting[class as usize].fetch_sub(1, Ordering::Relaxed) == 1;
        self.backlog.leaves(class, cpu, last);
    }

    /// Nobody waits any more for work that is still here.
    pub(super) fn withdraws(&self, work: Withdrawn) {
        self.waiting[work.class as usize][Band::of(work.cpu) as usize].withdraw(work.cpu);
        self.backlog.withdraws(work);
    }

    /// Withdrawn work was found by a worker, or answered.
    pub(super) fn withdrawn_has_left(&self, work: Withdrawn) {
        self.waiting[work.class as usize][Band::of(work.cpu) as usize].withdrawn_has_left(work.cpu);
        self.backlog.withdrawn_has_left(work);
    }

    /// Estimated CPU time of what waits for it in one class, by band.
    pub(super) fn waiting(&self, class: Class) -> [Duration; 2] {
        self.waiting[class as usize].each_ref().map(Load::live)
    }

    /// Whether more than so many batches of it wait in one class.
    pub(super) fn has_more_than(&self, class: Class, n: usize) -> bool {
        self.n_waiting[class as usize].load(Ordering::Relaxed) > n
    }

    /// Where its next job starts in the virtual time of a class, nanoseconds.
    pub(super) fn next(&self, class: Class) -> u64 {
        self.next[class as usize].load(Ordering::Relaxed)
    }

    pub(super) fn set_next(&self, class: Class, next: u64) {
        self.next[class as usize].store(next, Ordering::Relaxed);
    }
}

/// Those who are one client over several connections. Only the I/O world asks here.
#[derive(Default)]
pub(crate) struct Clients {
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    clients: HashMap<ClientKey, Weak<Client>>,
    /// Once there are more, those who have gone are forgotten.
    tidy_at: usize,
}

/// Entries from which on it pays to look for those who have gone.
const TIDY_MIN: usize = 64;

impl Clients {
    /// The client of this key: always a new one for a connection, one and the same for those who share a key.
    pub(crate) fn find(&self, key: ClientKey, backlog: &Arc<Backlog>) -> Arc<Client> {
        if matches!(key, ClientKey::Connection(_)) {
            return Client::new(key, backlog);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = shared.clients.get(&key).and_then(Weak::upgrade) {
            return client;
        }
        if shared.clients.len() >= shared.tidy_at {
            shared.clients.retain(|_, client| client.strong_count() > 0);
            shared.tidy_at = TIDY_MIN.max(2 * shared.clients.len());
        }
        let client = Client::new(key, backlog);
        shared.clients.insert(key, Arc::downgrade(&client));
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_key_is_one_client_and_those_who_left_are_forgotten() {
        let (clients, backlog) = (Clients::default(), Arc::new(Backlog::new(0)));
        let one = clients.find(ClientKey::Uid(1), &backlog);
        assert!(Arc::ptr_eq(&one, &clients.find(ClientKey::Uid(1), &backlog)));
        assert!(!Arc::ptr_eq(&one, &clients.find(ClientKey::Uid(2), &backlog)));
        for uid in 0..10_000 {
            clients.find(ClientKey::Uid(uid), &backlog);
        }
        assert!(clients.shared.lock().unwrap().clients.len() <= 2 * TIDY_MIN);
        assert!(Arc::ptr_eq(&one, &clients.find(ClientKey::Uid(1), &backlog)));
    }

    const MS: Duration = Duration::from_millis(1);

    /// Asks for something that would wait for so long, and bears to wait for so long.
    fn may_wait(client: &Client, class: Class, [wait, wait_max]: [u32; 2], now: Instant) -> Result<(), u128> {
        let outlook = Outlook::undisturbed(wait * MS);
        let bid = Bid { class, outlook: &outlook, wait_max: wait_max * MS, now };
        client.may_wait(&bid).map_err(|after| after.as_millis())
    }

    #[test]
    fn who_was_refused_comes_in_again_after_the_time_that_was_told() {
        let backlog = Arc::new(Backlog::new(0));
        let client = Client::new(ClientKey::Uid(1), &backlog);
        let now = Instant::now();
        let may_wait = |wait| may_wait(&client, Class::Interactive, [wait, 800], now);
        assert_eq!(may_wait(800), Ok(()));
        assert_eq!(may_wait(801), Err(101));
        assert_eq!(may_wait(701), Err(1));
        assert_eq!(may_wait(700), Ok(()));
        assert_eq!(may_wait(800), Ok(()), "it is as any other now");
    }

    #[test]
    fn who_was_refused_comes_in_no_sooner_by_another_connection() {
        let backlog = Arc::new(Backlog::new(0));
        let new = |number| Client::new(ClientKey::Connection(number), &backlog);
        let now = Instant::now();
        let ask = |client: &Client, wait, at| may_wait(client, Class::Interactive, [wait, 800], at);
        let known = new(0);
        assert_eq!(ask(&known, 800, now), Ok(()));
        assert_eq!(ask(&new(1), 801, now), Err(101));
        assert_eq!(ask(&new(2), 701, now), Err(1));
        assert_eq!(ask(&new(3), 100, now), Ok(()), "whoever has little before it");
        assert_eq!(ask(&new(4), 701, now), Err(1), "makes no room for the others");
        assert_eq!(ask(&known, 701, now), Err(1));
        assert_eq!(may_wait(&new(5), Class::Batch, [800, 800], now), Ok(()), "another class");
        assert_eq!(may_wait(&new(6), Class::Interactive, [8000, 8000], now), Ok(()), "more time");
        assert_eq!(ask(&new(7), 700, now), Ok(()), "there is room again");
        assert_eq!(ask(&new(8), 800, now), Ok(()), "for all");
        assert_eq!(ask(&new(9), 801, now), Err(101));
        assert_eq!(ask(&new(10), 800, now + 2 * Duration::from_secs(1)), Ok(()), "nobody asks any more");
    }

    #[test]
    fn a_refusal_is_nothing_to_the_other_class_nor_to_those_who_have_more_time() {
        let backlog = Arc::new(Backlog::new(0));
        let client = Client::new(ClientKey::Uid(1), &backlog);
        let now = Instant::now();
        let may_wait = |class, wait, wait_max| may_wait(&client, class, [wait, wait_max], now).is_ok();
        assert!(!may_wait(Class::Interactive, 900, 800));
        assert!(may_wait(Class::Batch, 800, 800));
        assert!(may_wait(Class::Interactive, 8000, 8000));
        assert!(
            !may_wait(Class::Interactive, 750, 800),
            "those who come in have more time than who was refused"
        );
        assert!(!may_wait(Class::Interactive, 400, 400), "and those with less time have not");
        assert!(!may_wait(Class::Interactive, 800, 810), "nor those with about as much");
        assert!(may_wait(Class::Interactive, 700, 800));
        assert!(may_wait(Class::Interactive, 800, 800), "when one came in, all may");
    }

    #[test]
    fn what_waits_is_counted_by_class_and_withdrawn_once() {
        let backlog = Arc::new(Backlog::new(0));
        let client = Client::new(ClientKey::Uid(1), &backlog);
        let (short, long) = (Duration::from_micros(10), Duration::from_millis(10));
        client.enters(Class::Interactive, short);
        client.enters(Class::Interactive, long);
        assert_eq!(client.waiting(Class::Interactive), [short, long]);
        assert_eq!(client.waiting(Class::Batch), [Duration::ZERO; 2]);
        let withdrawn = Withdrawn { class: Class::Interactive, cpu: long, restricted: None };
        client.withdraws(withdrawn);
        assert_eq!(client.waiting(Class::Interactive), [short, Duration::ZERO]);
        assert_eq!(backlog.waiting(Class::Interactive), short);
        client.leaves(Class::Interactive, long);
        client.withdrawn_has_left(withdrawn);
        assert_eq!(client.waiting(Class::Interactive), [short, Duration::ZERO]);
        client.leaves(Class::Interactive, short);
        assert_eq!(backlog.waiting(Class::Interactive), Duration::ZERO);
    }
}
