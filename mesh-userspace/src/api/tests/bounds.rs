//! A loop that hangs, and clients that do.

use std::mem::forget;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::agent::{PATIENCE, refused, served, served_with, usual};
use crate::agent::Command;
use crate::api::failure::Failure;
use crate::api::{AgentHandle, ClientError, Readiness, Timeouts};

const SHORT: Duration = Duration::from_millis(50);

/// Never answers and never drops the way back.
fn hang(command: Command) {
    forget(command);
}

fn unanswered<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    let (status, body) = refused(result);
    assert_eq!(status, 503);
    body.error
}

#[tokio::test]
async fn a_hanging_loop_is_given_up() {
    let timeouts = Timeouts { command: SHORT, reload: PATIENCE };
    let served = served_with(timeouts, hang);
    let error = unanswered(served.client().services().await);
    assert_eq!(error, "the agent did not answer within 50ms");
}

#[tokio::test]
async fn a_reload_has_its_own_timeout() {
    let timeouts = Timeouts { command: PATIENCE, reload: SHORT };
    let served = served_with(timeouts, hang);
    let error = unanswered(served.client().reload().await);
    assert_eq!(error, "the agent did not answer within 50ms");
}

#[tokio::test]
async fn a_full_queue_of_commands_is_given_up_too() {
    let (commands, _never_received) = mpsc::channel(1);
    let (_, ready) = watch::channel(Readiness::Ready);
    let agent = AgentHandle::new(commands, ready).with_timeouts(Timeouts { command: SHORT, reload: SHORT });
    for _ in 0..3 {
        assert_eq!(agent.ask(Command::Status).await, Err(Failure::no_answer(SHORT)));
    }
}

#[tokio::test]
async fn a_reply_that_is_dropped_is_an_error_at_once() {
    let served = served(drop);
    assert_eq!(unanswered(served.client().status().await), "the agent is stopping");
}

#[tokio::test]
async fn silent_clients_do_not_keep_the_server_from_stopping() {
    let served = served(usual);
    let mut silent = UnixStream::connect(&served.socket).await.unwrap();
    silent.write_all(b"GET /v1/status HTTP/1.1\r\n").await.unwrap();
    served.client().status().await.unwrap();
    served.shutdown.cancel();
    timeout(PATIENCE, served.server).await.unwrap().unwrap().unwrap();
    assert!(!served.socket.exists());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_room() {
    let served = served(usual);
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(asked(&served.socket).await);
    }
    let mut waiting = UnixStream::connect(&served.socket).await.unwrap();
    waiting.write_all(REQUEST).await.unwrap();
    timeout(SHORT, waiting.read_u8()).await.unwrap_err();
    drop(held);
    timeout(PATIENCE, waiting.read_u8()).await.unwrap().unwrap();
}

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: any\r\n\r\n";

/// A connection that has been answered, so that it was certainly accepted, and stays open.
async fn asked(socket: &std::path::Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    stream.read_u8().await.unwrap();
    stream
}
