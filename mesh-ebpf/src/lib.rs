//! What the kernel programs have in common: the view of a packet.
#![no_std]

pub mod header;
pub mod packet;
