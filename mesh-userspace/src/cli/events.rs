//! `meshlb events`, once or for as long as somebody watches.

use std::io::Write;
use std::time::Duration;

use tokio::time::sleep;

use super::args::EventsArgs;
use super::error::CliError;
use super::output::Output;
use super::{names, screens};
use crate::api::{Client, ClientError};
use crate::events::Event;

/// How often a watcher asks for more.
const PAUSE: Duration = Duration::from_millis(500);

/// As many events as the agent has.
const ALL: usize = usize::MAX;

/// Prints what happened, and goes on if that is wanted.
pub(super) async fn events<W: Write>(
    agent: &Client,
    arguments: &EventsArgs,
    output: &mut Output<W>,
) -> Result<(), CliError> {
    let EventsArgs { since, service, limit, follow } = arguments;
    let service = &names::service_if_any(agent, service.as_deref()).await?;
    // Asked for first: what happens in between is in the list, and not told twice.
    let newest = newest(agent).await?;
    let first = agent.events(None, *since, service.as_deref(), *limit).await?;
    if !follow {
        return output.show(&first, |list| screens::events(list));
    }
    let mut after = first.last().map_or(newest, |last| last.sequence.max(newest));
    print(&first, output)?;
    let mut is_away = false;
    loop {
        sleep(PAUSE).await;
        match more(agent, after, service.as_deref(), is_away).await {
            Ok(more) => {
                after = more.last().map_or(after, |last| last.sequence);
                print(&more, output)?;
                is_away = false;
            }
            // It restarts: what happens meanwhile is told when it is back.
            Err(
                ClientError::NoSocket { .. } | ClientError::Refused { .. } | ClientError::Connection { .. },
            ) => is_away = true,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The number of the last event of all; 0 if there is none.
async fn newest(agent: &Client) -> Result<u64, ClientError> {
    Ok(agent.events(None, None, None, 1).await?.last().map_or(0, |last| last.sequence))
}

/// What happened since. An agent that has lost its memory while it was away counts from the beginning.
async fn more(
    agent: &Client,
    after: u64,
    service: Option<&str>,
    was_away: bool,
) -> Result<Vec<Event>, ClientError> {
    let forgot = was_away && newest(agent).await? < after;
    agent.events(Some(if forgot { 0 } else { after }), None, service, ALL).await
}

fn print<W: Write>(events: &[Event], output: &mut Output<W>) -> Result<(), CliError> {
    events.iter().try_for_each(|event| output.line(event, screens::event))
}
