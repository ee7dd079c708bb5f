//! Waiting for something to become true, with a deadline and a name for it: the only way to wait in a test.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds. The error names `what` was waited for.
pub fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, within, || if condition() { Ok(()) } else { bail!("it does not hold") })
}

/// Waits until `attempt` succeeds and returns its value. The error names `what` was waited for and carries
/// the last attempt's own error.
pub fn until<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= within => {
                return Err(error).with_context(|| format!("waited {within:?} in vain until {what}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let came_true = || {
            looks += 1;
            looks == 3
        };
        eventually("it was looked at three times", Duration::from_secs(5), came_true).unwrap();
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_wait_in_vain_says_for_what_and_why() {
        let error = until::<()>("pigs fly", Duration::ZERO, || bail!("no wings")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("until pigs fly") && text.contains("no wings"), "{text}");
    }
}
