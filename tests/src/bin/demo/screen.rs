//! What the demo says: bars that move in a terminal, lines elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tally::{BACKENDS, Tally};
use crate::traffic::{Log, RATE};

/// Between two pictures, and between two lines.
const PICTURE: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(1);

/// What a picture shows: the requests that began within the last second.
const WINDOW: Duration = Duration::from_secs(1);

/// Where the demo speaks.
#[derive(Debug)]
pub(crate) struct Screen {
    /// None unless stdout is a terminal.
    bars: Option<MultiProgress>,
    opened: Instant,
}

/// The live display; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Live {
    stop: Option<Sender<()>>,
    painter: Option<JoinHandle<()>>,
}

impl Screen {
    pub(crate) fn open() -> Self {
        let terminal = io::stdout().is_terminal();
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self { bars, opened: Instant::now() }
    }

    pub(crate) const fn is_terminal(&self) -> bool {
        self.bars.is_some()
    }

    /// Announces a phase.
    pub(crate) fn title(&self, title: &str) -> Result<()> {
        self.say(&format!("[{:5.1} s] {title}", self.opened.elapsed().as_secs_f64()))
    }

    /// Says something, above the bars.
    pub(crate) fn say(&self, text: &str) -> Result<()> {
        match &self.bars {
            Some(bars) => Ok(bars.suspend(|| writeln!(io::stdout(), "{text}"))?),
            None => Ok(writeln!(io::stdout(), "{text}")?),
        }
    }

    /// Shows how requests spread, until the value is dropped.
    pub(crate) fn follow(&self, log: &Arc<Log>) -> Result<Live> {
        let (stop, stopped) = channel();
        let (log, bars) = (Arc::clone(log), self.bars.clone().map(Bars::new).transpose()?);
        let pause = if bars.is_some() { PICTURE } else { LINE };
        let painter = thread::spawn(move || {
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                show(&last_second(&log), bars.as_ref());
            }
        });
        Ok(Live { stop: Some(stop), painter: Some(painter) })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A painter that panicked has said so itself.
        let _ = self.painter.take().map(JoinHandle::join);
    }
}

/// One bar for each backend, and one for failures.
struct Bars {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Bars {
    fn new(all: MultiProgress) -> Result<Self> {
        let style = ProgressStyle::with_template("  {prefix:10} {bar:50} {pos:>4}/s")?.progress_chars("█▌ ");
        let names = (1..=BACKENDS).map(|number| format!("backend-{number}"));
        let bar = |name: String| {
            let bar = all.add(ProgressBar::new(RATE.into()));
            bar.with_style(style.clone()).with_prefix(name)
        };
        let bars = names.chain(["failed".to_owned()]).map(bar).collect();
        Ok(Self { all, bars })
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // A terminal that is gone needs no clearing.
        let _ = self.all.clear();
    }
}

fn last_second(log: &Log) -> Tally {
    let now = Instant::now();
    log.tally(now.checked_sub(WINDOW).unwrap_or(now), now)
}

fn show(tally: &Tally, bars: Option<&Bars>) {
    let numbers = tally.answered.into_iter().chain([tally.failed()]);
    match bars {
        Some(bars) => bars.bars.iter().zip(numbers).for_each(|(bar, number)| bar.set_position(number)),
        None => {
            let [first, second, third] = tally.answered;
            let failed = tally.failed();
            // Whoever closed the pipe is told by the next phase.
            let _ = writeln!(
                io::stdout(),
                "  backend-1 {first:3}/s  backend-2 {second:3}/s  backend-3 {third:3}/s  failed {failed:3}/s"
            );
        }
    }
}
