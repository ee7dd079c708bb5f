//! Backends to probe: small, real, on a port that the kernel chooses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Answers every request with the same bytes and closes; ends when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: AbortOnDropHandle<()>,
}

impl Server {
    pub(super) async fn start(answer: &'static str) -> Self {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), answer).await
    }

    pub(super) async fn start_on(address: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let task = tokio::spawn(serve(listener, answer, Arc::clone(&requests)));
        Self { address, requests, task: AbortOnDropHandle::new(task) }
    }

    /// Closes the port; when this returns, nothing listens there.
    pub(super) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// The heads of the requests so far; empty for a connection that was closed without one.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, answer: &'static str, requests: Arc<Mutex<Vec<String>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        requests.lock().unwrap().push(head);
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
    String::from_utf8(head).unwrap()
}

/// A port of our own where nothing listens.
pub(super) struct ClosedPort {
    pub(super) address: SocketAddr,
    _socket: TcpSocket,
}

impl ClosedPort {
    pub(super) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }
}
