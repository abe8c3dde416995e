//! `windlass top`: what runs and waits, live, in a terminal. Fed by the native status, like `windlass status`.

mod figures;
mod view;

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{Address, SUBJECT_STATUS};

use crate::catalogue;
use crate::exit::{Exit, Problem};
use crate::units;
use figures::Past;

/// Keys that were pressed and not looked at yet; people are slow.
const KEYS_MAX: usize = 16;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Pause between two looks
    #[arg(long, default_value = "1s", value_parser = units::duration)]
    interval: Duration,
}

/// What a person wants.
enum Wish {
    Quit,
    /// The terminal has another size.
    Redraw,
}

pub(crate) async fn run(address: &Address, arguments: &Arguments) -> Result<Exit, Problem> {
    if arguments.interval < Duration::from_millis(100) {
        return Err(Problem::new(Exit::Usage, "--interval: at least 100ms"));
    }
    if !io::stdout().is_terminal() {
        return Err(Problem::new(
            Exit::Usage,
            "top draws on a terminal, which standard output is not; see 'status'",
        ));
    }
    // A daemon that is not there is said once, on the ordinary screen.
    let client = crate::connect(&address.clone().into(), crate::options()).await?;
    let wishes = listen().map_err(|error| Problem::from_output("the terminal", &error))?;
    let mut terminal = ratatui::try_init().map_err(|error| Problem::from_output("the terminal", &error))?;
    let watched = watch(&mut terminal, address, client, arguments.interval, wishes).await;
    ratatui::restore();
    watched.map_err(|error| Problem::from_output("the terminal", &error))?;
    Ok(Exit::Done)
}

/// Looks and draws until the person has seen enough.
async fn watch(
    terminal: &mut DefaultTerminal,
    address: &Address,
    client: Client,
    interval: Duration,
    mut wishes: mpsc::Receiver<Wish>,
) -> io::Result<()> {
    let mut client = Some(client);
    let mut past = Past::default();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => match look(address, &mut client).await {
                Ok(status) => past.add(status),
                Err(problem) => past.lose(problem.message().to_owned()),
            },
            wish = wishes.recv() => match wish {
                Some(Wish::Redraw) => {}
                Some(Wish::Quit) | None => return Ok(()),
            },
        }
        terminal.draw(|frame| view::draw(frame, address, &past))?;
    }
}

/// Asks for the status, on a new connection if the last one is gone.
async fn look(address: &Address, client: &mut Option<Client>) -> Result<serde_json::Value, Problem> {
    let connected = match client.take() {
        Some(client) => client,
        None => crate::connect(&address.clone().into(), crate::options()).await?,
    };
    let status = catalogue::json(&connected, &address.clone().into(), SUBJECT_STATUS, "the status").await?;
    *client = Some(connected);
    Ok(status)
}

/// Reads keys on a thread of its own, which ends with the process.
fn listen() -> io::Result<mpsc::Receiver<Wish>> {
    let (wishes, listened) = mpsc::channel(KEYS_MAX);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Ok(event) = event::read() {
            if let Some(wish) = wish(&event)
                && wishes.blocking_send(wish).is_err()
            {
                return;
            }
        }
    })?;
    Ok(listened)
}

fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Resize(..) => Some(Wish::Redraw),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
            _ => None,
        },
        _ => None,
    }
}
