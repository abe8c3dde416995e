//! One process and its operator.

pub mod args;
pub mod config;
pub mod exit;
pub mod http;
pub mod log;
pub mod operations;
pub mod systemd;

mod admin;
mod catalogue;
mod reload;
mod runtime;
mod signals;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::sync::mpsc;
use windlass_actors::settings::ListenAddress;
use windlass_actors::{DoorPlan, Ending, Observation, Phase, Plan, StartError, Supervisor};

use admin::{Admin, AdminError};
use args::Arguments;
use config::{Config, Machine, Sources};
use exit::Exit;
use http::{Hosts, Http};
use reload::Reloader;
use signals::Signals;

/// Orders from signals that the supervisor has not taken yet; they are few and it is quick.
const ORDERS_MAX: usize = 16;

/// The whole life of windlassd. Everything is decided before a port is bound.
pub fn main() -> ExitCode {
    // First of all, so that a signal during the start ends it as cleanly as one later.
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return say(Exit::Failed, format_args!("cannot handle signals: {error}")),
    };
    let arguments = Arguments::parse();
    let sources = Sources::new(arguments.config.clone(), env::vars_os(), arguments.set.clone());
    let machine = Machine::here();
    let config = match catalogue::load(&sources, &machine) {
        Ok(_) if arguments.check => return checked(&sources),
        Ok(config) if arguments.print_config => return printed(&config),
        Ok(config) => config,
        Err(problems) => return say(Exit::BadConfiguration, format_args!("{problems}")),
    };
    let journal_stream = env::var("JOURNAL_STREAM").ok();
    let (log, _flushed_at_the_end) = match log::init(&config.log, journal_stream.as_deref()) {
        Ok(log) => log,
        Err(error) => return say(Exit::BadConfiguration, format_args!("{error}")),
    };
    runtime::prepare_process(&config);
    let io = match runtime::start(&config.io) {
        Ok(io) => io,
        Err(error) => {
            tracing::error!(%error, "cannot start the I/O threads");
            return Exit::Failed.into();
        }
    };

    // Before all else, so that it can be seen that the daemon is starting.
    let admin = match config.listen.admin.map(|address| Admin::start(address, log.clone())).transpose() {
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
        let supervisor = match Supervisor::start(plan(&config)) {
            Ok(supervisor) => supervisor,
            Err(error) => return cannot_start(&error),
        };
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        if let Err(error) = signals.deliver(orders, Reloader::new(sources, machine, config, log)) {
            tracing::error!(%error, "cannot start the signal thread");
            return Exit::Failed;
        }
        if let Some(admin) = &admin {
            admin.show(supervisor.observer());
        }
        systemd::ready();
        systemd::status("serving");
        tracing::info!(addresses = ?supervisor.addresses(), "ready");
        match supervisor.run(taken, tell_service_manager).await {
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

fn plan(config: &Config) -> Plan {
    Plan {
        settings: config.settings.clone(),
        pool: config.cpu.clone(),
        listen: native_addresses(config),
        doors: vec![http_door(config)],
        operations: catalogue::names(),
        server: concat!("windlassd/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn native_addresses(config: &Config) -> Vec<ListenAddress> {
    let tcp = config.listen.tcp.iter().copied().map(ListenAddress::Tcp);
    tcp.chain(config.listen.unix.iter().cloned().map(ListenAddress::Unix)).collect()
}

fn http_door(config: &Config) -> DoorPlan {
    DoorPlan {
        door: Arc::new(Http::new(Hosts::new(&config.listen.http_hosts))),
        listen: config.listen.http.iter().copied().map(ListenAddress::Tcp).collect(),
    }
}

fn cannot_start(error: &StartError) -> Exit {
    tracing::error!(%error, "cannot start");
    match error {
        StartError::Bind(_) | StartError::Listen(_) => Exit::CannotBind,
        StartError::Pool(_) => Exit::Failed,
    }
}

/// What the supervisor sees, as `systemctl status` shows it.
fn tell_service_manager(observation: Observation) {
    match observation {
        Observation::Entered(phase) => {
            if matches!(phase, Phase::Quiet | Phase::Draining) {
                systemd::stopping();
            }
            systemd::status(phase.name());
        }
        Observation::Waiting { connections, requests, left } => {
            systemd::extend_timeout(left);
            systemd::status(&format!(
                "draining: {requests} requests on {connections} connections, {} s left",
                left.as_secs()
            ));
        }
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
