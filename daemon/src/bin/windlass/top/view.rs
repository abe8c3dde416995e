//! How the figures look. Bars and numbers only; colours are the terminal's own, so that they fit its background.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Padding, Paragraph, Row, Sparkline, Table};
use serde_json::Value;
use windlass_protocol::client::Address;

use super::figures::Past;
use crate::reading::{ended, number, plain};
use crate::units::{bytes, count, readable, rounded, span};

/// Lines of the throughput chart and of the limits beside it, frame included.
const UPPER: u16 = 7;

/// Columns of a bar beside a number.
const BAR: usize = 16;

pub(super) fn draw(frame: &mut Frame<'_>, address: &Address, past: &Past) {
    let Some(status) = past.last() else {
        let words = past.lost.as_deref().unwrap_or("asking for the first time");
        return frame.render_widget(Paragraph::new(words), frame.area());
    };
    let n_workers = status["workers"].as_array().map_or(0, Vec::len);
    let workers_height = u16::try_from(n_workers.min(16)).unwrap_or(16) + 2;
    let [head, upper, workers_area, operations_area, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(UPPER),
        Constraint::Length(workers_height),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(60)]).areas(upper);

    header(frame, head, address, past, status);
    throughput(frame, left, past);
    limits(frame, right, status);
    workers(frame, workers_area, past, status);
    operations(frame, operations_area, past, status);
    frame.render_widget(Paragraph::new("q quits").dim(), foot);
}

fn titled(title: impl Into<String>) -> Block<'static> {
    Block::bordered()
        .border_style(Style::new().dim())
        .title(Line::from(format!(" {} ", title.into())).bold())
        .padding(Padding::horizontal(1))
}

fn header(frame: &mut Frame<'_>, area: Rect, address: &Address, past: &Past, status: &Value) {
    let state = status["state"].as_str().unwrap_or("unknown").to_owned();
    let state = match (&past.lost, state.as_str()) {
        (Some(_), _) => Span::from("gone".to_owned()).red().bold(),
        (None, "serving") => Span::from(state).green().bold(),
        (None, _) => Span::from(state).yellow().bold(),
    };
    let uptime = Duration::from_secs_f64(number(status, "/uptime_seconds").max(0.0));
    let mut line = Line::from(vec![
        Span::from(plain(&status["server"])).bold(),
        Span::from("  "),
        state,
        Span::from(format!("  up {}  {address}", span(uptime))).dim(),
    ]);
    if let Some(left) = status["state_left_seconds"].as_f64() {
        line.push_span(Span::from(format!("  {left:.0} s left at most")).yellow());
    }
    if let Some(why) = &past.lost {
        line.push_span(Span::from(format!("  {why}")).red());
    }
    frame.render_widget(Paragraph::new(line), area);
}

fn throughput(frame: &mut Frame<'_>, area: Rect, past: &Past) {
    let rates = past.throughput();
    let now = rates.last().copied().unwrap_or(0.0);
    let block = titled(format!("throughput {}/s", count(now)));
    let width = usize::from(block.inner(area).width);
    let recent: Vec<u64> =
        rates[rates.len().saturating_sub(width)..].iter().map(|rate| rounded(*rate)).collect();
    let chart = Sparkline::default().data(&recent).style(Style::new().fg(Color::Cyan)).block(block);
    frame.render_widget(chart, area);
}

fn limits(frame: &mut Frame<'_>, area: Rect, status: &Value) {
    let of = |pointer: &str| number(status, pointer);
    let meter = |name: &str, value: f64, limit: f64, form: fn(f64) -> String| {
        let share = if limit > 0.0 { value / limit } else { 0.0 };
        Line::from(vec![
            Span::from(format!("{name:<12}")),
            bar(share),
            Span::from(format!(" {} of {}", form(value), form(limit))),
        ])
    };
    let lines = vec![
        meter("waiting", of("/queue/waiting"), of("/queue/capacity"), count),
        meter("held", of("/queue/held_bytes"), of("/queue/held_bytes_max"), bytes),
        meter("work memory", of("/cpu_memory/bytes"), of("/cpu_memory/bytes_max"), bytes),
        meter("connections", of("/connections/open"), of("/connections/max"), count),
        Line::from(format!("in flight   {}", count(of("/in_flight")))),
    ];
    frame.render_widget(Paragraph::new(lines).block(titled("limits")), area);
}

fn workers(frame: &mut Frame<'_>, area: Rect, past: &Past, status: &Value) {
    let all = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<Line<'_>> = all
        .iter()
        .enumerate()
        .map(|(index, worker)| {
            let share = past.utilisation(index);
            let percent = share.map_or("   –".to_owned(), |share| format!("{:3.0}%", share * 100.0));
            let doing = match worker["running"]["operation"].as_str() {
                Some(operation) => {
                    let time = Duration::from_millis(worker["running"]["for_ms"].as_u64().unwrap_or(0));
                    let client = worker["running"].get("client_name");
                    let client = client.map(|client| format!(", {}", plain(client))).unwrap_or_default();
                    Span::from(format!("{operation} for {}{client}", readable(time)))
                }
                None => Span::from("idle").dim(),
            };
            let name = Span::from(format!("{:<16}", plain(&worker["name"])));
            Line::from(vec![name, bar(share.unwrap_or(0.0)), Span::from(format!(" {percent}  ")), doing])
        })
        .collect();
    let busy = all.iter().filter(|worker| !worker["running"].is_null()).count();
    let title = format!("workers {busy} of {} busy", all.len());
    frame.render_widget(Paragraph::new(lines).block(titled(title)), area);
}

fn operations(frame: &mut Frame<'_>, area: Rect, past: &Past, status: &Value) {
    let refusals = status["refusals"].as_object();
    let refused: Vec<String> =
        refusals.into_iter().flatten().map(|(reason, n)| format!("{reason} {}", plain(n))).collect();
    let mut block = titled("operations");
    if !refused.is_empty() {
        let words = format!(" refused: {} ", refused.join(" · "));
        block = block.title_bottom(Line::from(words).yellow());
    }
    let asked = status["requests"].as_object();
    let rows = asked.into_iter().flatten().map(|(operation, _)| {
        let (done, failed) = ended(status, operation);
        let time = |kind, share| {
            let seconds = past.percentile(operation, kind, share);
            seconds.map_or("–".to_owned(), |seconds| readable(Duration::from_secs_f64(seconds)))
        };
        let cells = [
            operation.clone(),
            count(done),
            count(failed),
            past.rate(operation).map_or("–".to_owned(), count),
            time("queue", 0.5),
            time("queue", 0.99),
            time("service", 0.5),
            time("service", 0.99),
        ];
        Row::new(aligned(cells))
    });
    let heads = ["", "done", "failed", "per s", "queue p50", "p99", "service p50", "p99"];
    let widths = [18, 12, 10, 10, 11, 11, 11, 11].map(Constraint::Length);
    let header = Row::new(aligned(heads.map(str::to_owned))).style(Style::new().dim());
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}

/// The first cell is a name, the others are numbers.
fn aligned<const N: usize>(cells: [String; N]) -> Vec<Line<'static>> {
    let side = |place| if place == 0 { Alignment::Left } else { Alignment::Right };
    cells.into_iter().enumerate().map(|(place, cell)| Line::from(cell).alignment(side(place))).collect()
}

fn bar(share: f64) -> Span<'static> {
    let filled = usize::try_from(rounded(share.clamp(0.0, 1.0) * BAR as f64)).unwrap_or(BAR).min(BAR);
    let text = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
    Span::from(text).fg(if share > 0.9 { Color::Yellow } else { Color::Cyan })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_status_is_drawn_on_a_small_terminal() {
        let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(80, 24)).unwrap();
        let mut past = Past::default();
        past.add(serde_json::json!({
            "server": "windlassd\u{1b}[2J", "state": "draining", "state_left_seconds": 12.0, "uptime_seconds": 61.0,
            "workers": [{"name": "windlass-cpu-0", "running": {"operation": "spin", "for_ms": 1500,
                "client_name": "uid 1000"}}],
            "queue": {"waiting": 3, "capacity": 10}, "refusals": {"Overloaded": 7}, "requests": {"spin": {"done": 4}},
        }));
        let address: Address = "tcp://127.0.0.1:1".parse().unwrap();
        terminal.draw(|frame| draw(frame, &address, &past)).unwrap();
        let text: String = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        for words in
            ["draining", "12 s left", "spin for 1.50 s, uid 1000", "3 of 10", "Overloaded 7", "1 of 1 busy"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
