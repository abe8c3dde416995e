//! Signals become orders. SIGTERM and SIGINT drain, a second one of either ends the process at once; SIGHUP reloads;
//! SIGUSR1 reports. In a build with `faults`, SIGUSR2 sticks the bridge.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals as Arrivals;
use tokio::sync::mpsc;
use windlass_actors::Order;

use crate::exit::Exit;
use crate::reload::Reloader;
use crate::systemd::ServiceManager;

/// Handlers in place; what arrives waits to be delivered.
pub(crate) struct Signals(Arrivals);

impl Signals {
    /// Puts the handlers in place. To be called while there is no other thread.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler.
    pub(crate) fn install() -> io::Result<Self> {
        // A handler stands for a moment before it knows what to do, and a signal that comes then is lost. Held back, it
        // comes once all of them know.
        let held_back: SigSet =
            [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1].into_iter().collect();
        let before = held_back.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let signals = Self::register();
        before.thread_set_mask()?;
        signals
    }

    fn register() -> io::Result<Self> {
        let arrivals = Arrivals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        let told_to_end = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag down, then raises it; the second one finds it up.
            let status = i32::from(Exit::DrainIncomplete.status());
            flag::register_conditional_shutdown(signal, status, Arc::clone(&told_to_end))?;
            flag::register(signal, Arc::clone(&told_to_end))?;
        }
        #[cfg(feature = "faults")]
        arrivals.add_signal(signal_hook::consts::SIGUSR2)?;
        Ok(Self(arrivals))
    }

    /// Delivers what has arrived and what will, from a thread of its own, where a configuration file may be read
    /// without holding up the I/O threads.
    ///
    /// # Errors
    ///
    /// When the system does not give the thread.
    pub(crate) fn deliver(
        mut self,
        orders: mpsc::Sender<Order>,
        mut reloader: Reloader,
        manager: Arc<ServiceManager>,
    ) -> io::Result<()> {
        thread::Builder::new().name("windlass-signal".to_owned()).spawn(move || {
            for signal in self.0.forever() {
                let order = match signal {
                    SIGTERM => Order::Drain { why: "SIGTERM" },
                    SIGINT => Order::Drain { why: "SIGINT" },
                    SIGUSR1 => Order::Report,
                    #[cfg(feature = "faults")]
                    signal_hook::consts::SIGUSR2 => Order::Stick,
                    _ => {
                        manager.reloading();
                        let reload = reloader.reload();
                        let refused = reload.is_none();
                        let gone = reload.is_some_and(|reload| {
                            orders.blocking_send(Order::Reload(Box::new(reload))).is_err()
                        });
                        manager.reloaded(refused);
                        if gone {
                            return;
                        }
                        continue;
                    }
                };
                // A supervisor that drains takes no more orders; the handlers that end the process stay.
                if orders.blocking_send(order).is_err() {
                    return;
                }
            }
        })?;
        Ok(())
    }
}
