//! One process and its operator.

pub mod args;
pub mod config;
pub mod exit;
pub mod http;
pub mod log;
pub mod operations;

mod admin;
mod catalogue;
mod doors;
#[cfg(feature = "generate")]
mod generate;
mod guard;
mod reload;
mod runtime;
mod signals;
mod systemd;
mod watchdog;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::sync::mpsc;
use windlass_actors::{DoorPlan, Ending, Plan, StartError, Supervisor};

use admin::{Admin, AdminError};
use args::Arguments;
use config::{Config, Machine, Sources};
use doors::{Activated, Doors};
use exit::Exit;
use guard::Hosts;
use http::Http;
use reload::Reloader;
use signals::Signals;
use systemd::ServiceManager;
use watchdog::Watchdog;

/// Orders from signals that the supervisor has not taken yet; they are few and it is quick.
const ORDERS_MAX: usize = 16;

/// The whole life of windlassd. Everything is decided before a port is bound.
pub fn main() -> ExitCode {
    // First of all, so that a signal during the start ends it as cleanly as one later.
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return say(Exit::Failed, format_args!("cannot handle signals: {error}")),
    };
    #[cfg(feature = "generate")]
    if let Some(done) = generate::asked_for::<Arguments>("8") {
        return done;
    }
    let arguments = Arguments::parse();
    let sources = Sources::new(arguments.config.clone(), env::vars_os(), arguments.set.clone());
    let machine = Machine::here();
    let config = match catalogue::load(&sources, &machine) {
        Ok(_) if arguments.check => return checked(&sources),
        Ok(config) if arguments.print_config => return printed(&config),
        Ok(config) => config,
        Err(problems) => return say(Exit::BadConfiguration, format_args!("{problems}")),
    };
    let mut doors = match Activated::take().and_then(|activated| Doors::new(&config.listen, activated)) {
        Ok(doors) => doors,
        Err(error) => return say(Exit::BadConfiguration, format_args!("{error}")),
    };
    let journal_stream = env::var("JOURNAL_STREAM").ok();
    let (log, _flushed_at_the_end) = match log::init(&config.log, journal_stream.as_deref()) {
        Ok(log) => log,
        Err(error) => return say(Exit::BadConfiguration, format_args!("{error}")),
    };
    runtime::prepare_process(&config);
    for key in &doors.replaced {
        tracing::warn!(key, "not used: the service manager hands over other sockets, by windlass*.socket");
    }
    let io = match runtime::start(&config.io, machine.cores) {
        Ok(io) => io,
        Err(error) => {
            tracing::error!(%error, "cannot start the I/O threads");
            return Exit::Failed.into();
        }
    };

    // Before all else, so that it can be seen that the daemon is starting.
    let hosts = Hosts::new(&config.listen.http_hosts);
    let start = |source| Admin::start(source, hosts.clone(), log.clone());
    let admin = match doors.admin.take().map(start).transpose() {
        Ok(admin) => admin,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return match error {
                AdminError::Bind(_) => Exit::CannotBind.into(),
                AdminError::Thread(_) => Exit::Failed.into(),
            };
        }
    };

    let exit = io.block_on(async {
        let manager = Arc::new(ServiceManager::default());
        let supervisor = match Supervisor::start(plan(&config, doors, hosts)) {
            Ok(supervisor) => supervisor,
            Err(error) => return cannot_start(&error),
        };
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let reloader = Reloader::new(sources, config, log, supervisor.recruiter());
        if let Err(error) = signals.deliver(orders, reloader, Arc::clone(&manager)) {
            tracing::error!(%error, "cannot start the signal thread");
            return Exit::Failed;
        }
        if let Some(admin) = &admin {
            admin.show(supervisor.observer());
        }
        manager.ready();
        let watchdog = Watchdog::new(supervisor.pulse(), Arc::clone(&manager), systemd::watchdog_interval());
        tokio::spawn(watchdog.run());
        tracing::info!(addresses = ?supervisor.addresses(), "ready");
        match supervisor.run(taken, |observation| manager.observe(observation)).await {
            Ending::Clean => Exit::Drained,
            Ending::Incomplete => Exit::DrainIncomplete,
            Ending::Failed => Exit::Failed,
        }
    });
    // Last of all, so that the end can be watched.
    if let Some(admin) = admin {
        admin.close();
    }
    tracing::info!(status = exit.status(), "ended");
    // Connections and workers that are left have been answered for; nothing waits for them.
    io.shutdown_background();
    exit.into()
}

fn plan(config: &Config, doors: Doors, hosts: Hosts) -> Plan {
    Plan {
        settings: config.settings.clone(),
        pool: config.cpu.clone(),
        listen: doors.native,
        doors: vec![DoorPlan { door: Arc::new(Http::new(hosts)), listen: doors.http }],
        operations: catalogue::names(),
        server: concat!("windlassd/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn cannot_start(error: &StartError) -> Exit {
    tracing::error!(%error, "cannot start");
    match error {
        StartError::Bind(_) | StartError::Listen(_) => Exit::CannotBind,
        StartError::Pool(_) => Exit::Failed,
    }
}

#[allow(clippy::print_stdout, reason = "the answer to --check")]
fn checked(sources: &Sources) -> ExitCode {
    match sources.file() {
        Some(file) => println!("{}: the configuration holds", file.display()),
        None => println!("the built-in configuration holds"),
    }
    Exit::Drained.into()
}

#[allow(clippy::print_stdout, reason = "the answer to --print-config")]
fn printed(config: &Config) -> ExitCode {
    print!("{}", config.print());
    Exit::Drained.into()
}

#[allow(clippy::print_stderr, reason = "there is no log yet; standard error is where the operator looks")]
fn say(exit: Exit, message: std::fmt::Arguments<'_>) -> ExitCode {
    eprintln!("windlassd: {message}");
    exit.into()
}
