//! HTTP/1.1 as a client, for probes and for registries: one request per connection.

#[cfg(test)]
pub(crate) mod authority;
pub(crate) mod tls;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// How we name ourselves.
pub(crate) const AGENT: &str = concat!("meshlb/", env!("CARGO_PKG_VERSION"));

/// What keeps a connection open while its answer is read; dropping it closes the connection.
pub(crate) type Open = AbortOnDropHandle<hyper::Result<()>>;

/// Sends a request and waits for the head of the answer.
pub(crate) async fn send<S, B>(stream: S, request: Request<B>) -> hyper::Result<(Response<Incoming>, Open)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    Ok((sender.send_request(request).await?, connection))
}

/// The cause of an error that says most.
pub(crate) fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    error.source().map_or(error, innermost)
}
