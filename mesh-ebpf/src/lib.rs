//! What the kernel programs have in common: the view of a packet.
#![no_std]

pub mod packet;
