//! `meshlb top`: services, backends and rates, live, in a terminal.

mod draw;
mod model;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::error::CliError;
use crate::api::{Client, ClientError};
use draw::{Palette, draw};
use model::{Action, Key, Model, Sample};

/// How often the agent is asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Keys that may wait.
const KEYS: usize = 64;

/// What a terminal says.
enum Input {
    Key(Key),
    Interrupt,
    Resized,
}

/// Shows the agent until the operator has seen enough.
pub(super) async fn top(agent: &Client) -> Result<(), CliError> {
    if !io::stdout().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    // Whoever cannot be asked at all is told so on the plain screen.
    let first = sample(agent).await?;
    let terminal = ratatui::try_init().map_err(CliError::Output)?;
    let shown = show(agent, first, terminal).await;
    ratatui::try_restore().map_err(CliError::Output)?;
    shown
}

async fn show(agent: &Client, first: Sample, mut terminal: DefaultTerminal) -> Result<(), CliError> {
    let palette = Palette { colours: std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()) };
    let mut inputs = inputs();
    let mut model = Model::default();
    model.take(first);
    let mut tick = interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        terminal.draw(|frame| draw(frame, &model, palette)).map_err(CliError::Output)?;
        tokio::select! {
            _ = tick.tick() => match sample(agent).await {
                Ok(sample) => model.take(sample),
                // It may restart.
                Err(error) => model.message = error.to_string(),
            },
            input = inputs.recv() => match input {
                Some(Input::Key(key)) => {
                    model.message.clear();
                    match model.press(key) {
                        Some(Action::Quit) => return Ok(()),
                        Some(action) => model.message = carry_out(agent, action).await,
                        None => {}
                    }
                }
                Some(Input::Resized) => {}
                Some(Input::Interrupt) | None => return Ok(()),
            },
        }
    }
}

async fn sample(agent: &Client) -> Result<Sample, ClientError> {
    let (status, services, backends) =
        tokio::try_join!(agent.status(), agent.services(), agent.backends(None))?;
    Ok(Sample { at: Instant::now(), status, services, backends })
}

/// Says how it went.
async fn carry_out(agent: &Client, action: Action) -> String {
    let (done, what) = match &action {
        Action::Drain { service, backend } => (agent.drain(service, *backend).await, "drains"),
        Action::Undrain { service, backend } => {
            (agent.undrain(service, *backend).await, "takes new flows again")
        }
        Action::Quit => return String::new(),
    };
    match done {
        Ok(report) => format!("{} of {} {what}", report.backend, report.service),
        Err(error) => error.to_string(),
    }
}

/// Reads the terminal on a thread of its own, which ends with the process.
fn inputs() -> mpsc::Receiver<Input> {
    let (tell, inputs) = mpsc::channel(KEYS);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Some(input) = input(&event)
                && tell.blocking_send(input).is_err()
            {
                return;
            }
        }
    });
    inputs
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all that terminals may say, the rest means nothing here"
)]
fn input(event: &Event) -> Option<Input> {
    let key = match event {
        Event::Resize(..) => return Some(Input::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c')).then_some(Input::Interrupt);
    }
    Some(Input::Key(match key.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc | KeyCode::Left => Key::Back,
        KeyCode::Backspace => Key::Erase,
        KeyCode::Char(letter) => Key::Letter(letter),
        _ => return None,
    }))
}
