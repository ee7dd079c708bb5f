//! A server in a registry's place, which answers as a test has it.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_tests::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What is answered to a request.
#[derive(Clone)]
pub(crate) struct Said {
    /// The whole answer, head and body.
    bytes: Vec<u8>,
    /// How long the server takes before the first byte.
    pause: Duration,
    /// How long it takes before the last.
    hold: Duration,
}

impl Said {
    /// An answer with these headers.
    pub(crate) fn new(status: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let text = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
        Self::verbatim(&text)
    }

    /// Bytes that may be no HTTP.
    pub(crate) fn verbatim(bytes: &str) -> Self {
        Self { bytes: bytes.into(), pause: Duration::ZERO, hold: Duration::ZERO }
    }

    /// Slowly.
    pub(crate) fn after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Without an end for a while.
    pub(crate) fn holding(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }
}

/// Answers by the request.
type Script = Box<dyn FnMut(&str) -> Said + Send>;

/// The server, on a port of all addresses of a host; ends when it is dropped.
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    requests: Arc<Mutex<Vec<String>>>,
    cut: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Starts one in a host.
    pub(crate) fn start(host: &Host, port: u16, script: impl FnMut(&str) -> Said + Send + 'static) -> Self {
        let (script, requests) = (Arc::new(Mutex::new(Box::new(script) as Script)), Arc::default());
        let (listening, is_listening) = std::sync::mpsc::channel();
        let (said, heard) = (Arc::clone(&script), Arc::clone(&requests));
        let cut = Arc::<Notify>::default();
        let is_cut = Arc::clone(&cut);
        let task = host.spawn(async move {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap();
            listening.send(()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let served = serve(stream, Arc::clone(&said), Arc::clone(&heard));
                let is_cut = Arc::clone(&is_cut);
                tokio::spawn(async move {
                    tokio::select! {
                        () = served => {}
                        () = is_cut.notified() => {}
                    }
                });
            }
        });
        is_listening.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { script, requests, cut, task: task.unwrap() }
    }

    /// Answers otherwise from now on.
    pub(crate) fn says(&self, script: impl FnMut(&str) -> Said + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Cuts the connections that there are.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>, requests: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !is_whole(&request) && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
    let request = String::from_utf8(request).unwrap();
    let Said { bytes, pause, hold } = script.lock().unwrap()(&request);
    requests.lock().unwrap().push(request);
    tokio::time::sleep(pause).await;
    let (last, first) = bytes.split_last().unwrap();
    let _ = stream.write_all(first).await;
    tokio::time::sleep(hold).await;
    let _ = stream.write_all(&[*last]).await;
}

/// Whether a request has its head, and as much of a body as that says.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
