//! The last events.

use super::{Event, Happening};
use std::{collections::VecDeque, time::SystemTime};

/// Events that are remembered: some megabytes.
pub(super) const MOST: usize = 10_000;

/// The last events, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Log(VecDeque<Event>);

/// Which events somebody wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Those with a larger number.
    pub after: Option<u64>,
    /// Those that are not older.
    pub since: Option<SystemTime>,
    /// Those about this service.
    pub service: Option<String>,
    /// The last so many of them.
    pub limit: usize,
}

impl Log {
    /// What was remembered before.
    #[must_use]
    pub fn of(events: Vec<Event>) -> Self {
        let mut log = Self(events.into());
        log.forget();
        log
    }

    /// Remembers what happened now, and answers with it as events.
    pub fn note(&mut self, happenings: Vec<Happening>, now: SystemTime) -> Vec<Event> {
        let first = self.0.back().map_or(1, |last| last.sequence + 1);
        let event = |(sequence, what)| Event { sequence, time: now, what };
        let events: Vec<Event> = (first..).zip(happenings).map(event).collect();
        self.0.extend(events.iter().cloned());
        self.forget();
        events
    }

    /// The events that were asked for, oldest first.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Vec<Event> {
        let Question { after, since, service, limit } = question;
        let is_wanted = |event: &&Event| {
            after.is_none_or(|after| event.sequence > after)
                && since.is_none_or(|since| event.time >= since)
                && service.as_ref().is_none_or(|service| event.what.service.as_ref() == Some(service))
        };
        let mut events: Vec<Event> = self.0.iter().rev().filter(is_wanted).take(*limit).cloned().collect();
        events.reverse();
        events
    }

    fn forget(&mut self) {
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }
}
