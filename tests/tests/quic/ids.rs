//! Connection ids as a server behind a balancer makes them (draft-ietf-quic-load-balancers-21 §5.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use quinn::{ConnectionId, ConnectionIdGenerator};

/// Bytes of a server id, and of a nonce: together one block of AES.
pub(crate) const SERVER_ID: usize = 2;
const NONCE: usize = 14;

/// What all servers and the balancer know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheme {
    pub(crate) key: Option<[u8; 16]>,
}

impl Scheme {
    /// The balancer's part of it.
    pub(crate) fn config(self, rotation: u8) -> String {
        let digits = |key: [u8; 16]| format!("key = \"{:032x}\"\n", u128::from_be_bytes(key));
        format!(
            "[[service.quic]]\nrotation = {rotation}\nserver_id_length = {SERVER_ID}\nnonce_length = {NONCE}\n{}",
            self.key.map(digits).unwrap_or_default()
        )
    }
}

/// Makes the ids of one server.
pub(crate) struct Ids {
    pub(crate) scheme: Scheme,
    pub(crate) server_id: [u8; SERVER_ID],
    /// The configuration that new ids are of.
    pub(crate) rotation: Arc<AtomicU8>,
    pub(crate) nonce: Arc<AtomicU64>,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut block = [0; SERVER_ID + NONCE];
        block[..SERVER_ID].copy_from_slice(&self.server_id);
        block[SERVER_ID..SERVER_ID + nonce.len()].copy_from_slice(&nonce);
        let mut block = block.into();
        if let Some(key) = self.scheme.key {
            Aes128::new(&key.into()).encrypt_block(&mut block);
        }
        let first = self.rotation.load(Ordering::Relaxed) << 5 | 16;
        ConnectionId::new(&[&[first], block.as_slice()].concat())
    }

    fn cid_len(&self) -> usize {
        1 + SERVER_ID + NONCE
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
