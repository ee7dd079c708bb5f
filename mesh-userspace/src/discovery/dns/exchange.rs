//! One question to one name server: over UDP, and again over TCP if the answer does not fit (RFC 1035 §4.2).
//!
//! Without EDNS, which not every server understands: answers of more than 512 bytes come over TCP, which all have to
//! speak (RFC 7766 §5).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::{self, Reading};
use super::error::ExchangeError;
use super::question::Question;

/// A question over UDP is sent so often within its time.
const SENDINGS: u32 = 3;

/// Longer than any datagram that is answered with: bytes.
const LONGEST_DATAGRAM: usize = 65_536;

/// Asks a server, which has to answer within the time.
pub(super) async fn ask(
    server: SocketAddr,
    question: &Question,
    within: Duration,
) -> Result<Reading, ExchangeError> {
    let asked = async {
        let query = Query::new(question)?;
        let message = query.over_udp(server, within / SENDINGS).await?;
        let message = if message.metadata.truncation { query.over_tcp(server).await? } else { message };
        answer::read(question, &message)
    };
    timeout(within, asked).await.unwrap_or(Err(ExchangeError::TimedOut(within)))
}

/// A question as it is sent.
struct Query {
    message: Message,
    bytes: Vec<u8>,
}

impl Query {
    fn new(question: &Question) -> Result<Self, ExchangeError> {
        let message = question.message().map_err(ExchangeError::Random)?;
        let bytes = message.to_vec()?;
        Ok(Self { message, bytes })
    }

    /// Sends the question again and again until it is answered.
    async fn over_udp(&self, server: SocketAddr, again: Duration) -> Result<Message, ExchangeError> {
        let any: SocketAddr = if server.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        // Takes the server's datagrams only, and learns that nobody listens there.
        socket.connect(server).await?;
        loop {
            socket.send(&self.bytes).await?;
            if let Ok(answered) = timeout(again, self.receive(&socket)).await {
                return answered;
            }
        }
    }

    async fn receive(&self, socket: &UdpSocket) -> Result<Message, ExchangeError> {
        let mut buffer = vec![0; LONGEST_DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(answer) = self.answer(buffer.get(..length).unwrap_or_default()) {
                return answer;
            }
        }
    }

    async fn over_tcp(&self, server: SocketAddr) -> Result<Message, ExchangeError> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        // In one write: some servers take a lone length for all there is (RFC 7766 §8).
        stream.write_all(&[&length.to_be_bytes()[..], &self.bytes].concat()).await?;
        loop {
            let mut bytes = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut bytes).await?;
            if let Some(answer) = self.answer(&bytes) {
                return answer;
            }
        }
    }

    /// The message, unless it belongs to another question.
    fn answer(&self, bytes: &[u8]) -> Option<Result<Message, ExchangeError>> {
        if !bytes.starts_with(&self.message.metadata.id.to_be_bytes()) {
            return None;
        }
        match Message::from_vec(bytes) {
            Ok(message) => self.is_answered_by(&message).then_some(Ok(message)),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Servers may leave the question out of a refusal.
    fn is_answered_by(&self, message: &Message) -> bool {
        message.metadata.message_type == MessageType::Response
            && (message.queries == self.message.queries || message.queries.is_empty())
    }
}
