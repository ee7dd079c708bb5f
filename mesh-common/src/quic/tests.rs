//! Connection ids that the draft and another implementation of AES make are read as what they were made of.

extern crate std;
use super::*;
use ::aes::{
    Aes128,
    cipher::{BlockCipherEncrypt as _, KeyInit as _},
};
use proptest::prelude::*;
use std::{vec, vec::Vec};

/// The key of the draft's examples.
const KEY: u128 = 0x8f95_f092_4576_5f80_2569_34e5_0c66_207f;

fn hex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// What the balancer makes of a connection id: its codepoint, and the server id's bytes.
fn read(parameters: &Parameters, id: &[u8]) -> (u8, [u64; 2]) {
    let config = Config::new(parameters);
    let mut bytes = [0; 24];
    bytes[..config.block_length()].copy_from_slice(&id[1..=config.block_length()]);
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    (rotation(id[0]), config.server_id([word(0), word(8), word(16)]))
}

fn check(codepoint: u8, server_id: &str, nonce: &str, key: Option<u128>, id: &str) {
    let length = |text: &str| u8::try_from(text.len() / 2).unwrap();
    let key = key.map(|key| Key(key.to_be_bytes()));
    let parameters = Parameters { server_id_length: length(server_id), nonce_length: length(nonce), key };
    let wanted = ServerIdKey::new(0, 0, &hex(server_id)).id;
    assert_eq!(read(&parameters, &hex(id)), (codepoint, wanted), "{id}");
}

#[test]
fn the_drafts_plain_id_is_read() {
    // Appendix B.1; its second example has an odd number of digits.
    check(0, "c4605e", "4504cc4f", None, "07c4605e4504cc4f");
}

#[test]
fn the_drafts_encrypted_ids_are_read() {
    // Appendix B.2: three passes suffice, four are needed (odd and even), one pass.
    check(0, "ed793a", "ee080dbf", Some(KEY), "0720b1d07b359d3c");
    check(1, "ed793a51d49b8f5fab65", "ee080dbf48", Some(KEY), "2fcc381bc74cb4fbad2823a3d1f8fed2");
    check(2, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", Some(KEY), "504dd2d05a7b0de9b2b9907afb5ecf8cc3");
    // The table says rotation 3, the id 0.
    check(0, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", Some(KEY), "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc");
}

/// The server's side of the four passes, byte by byte as the draft tells it (§5.4.2).
fn encrypt_in_four_passes(key: [u8; 16], plain: &[u8]) -> Vec<u8> {
    let (length, odd) = (plain.len(), plain.len() % 2 == 1);
    let half = length.div_ceil(2);
    let (mut left, mut right) = (plain[..half].to_vec(), plain[length - half..].to_vec());
    let clear = |left: &mut Vec<u8>, right: &mut Vec<u8>| {
        if odd {
            left[half - 1] &= 0xf0;
            right[0] &= 0x0f;
        }
    };
    clear(&mut left, &mut right);
    for pass in 1..=4u8 {
        let (from, to) = if pass % 2 == 1 { (&left, &mut right) } else { (&right, &mut left) };
        let mut block = [0; 16];
        block[..half].copy_from_slice(from);
        (block[14], block[15]) = (u8::try_from(length).unwrap(), pass);
        let mut block = block.into();
        Aes128::new(&key.into()).encrypt_block(&mut block);
        to.iter_mut().zip(block).for_each(|(byte, noise)| *byte ^= noise);
        clear(&mut left, &mut right);
    }
    if odd {
        let middle = left.pop().unwrap() | right.remove(0);
        left.push(middle);
    }
    [left, right].concat()
}

#[test]
fn the_tests_own_server_makes_the_drafts_example() {
    // §5.4.2.4, whose step 10 has two digits transposed.
    let key = 0xfdf7_26a9_893e_c05c_0632_d395_6680_baf0_u128.to_be_bytes();
    assert_eq!(encrypt_in_four_passes(key, &hex("31441a9c69c275")), hex("67947d29be054a"));
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let key = prop::option::of(any::<[u8; 16]>().prop_map(Key));
    let fits = |(id, nonce, _): &(u8, u8, _)| id + nonce <= LONGEST_BLOCK;
    (1..=LONGEST_SERVER_ID, NONCES, key)
        .prop_filter("fits a connection id", fits)
        .prop_map(|(server_id_length, nonce_length, key)| Parameters { server_id_length, nonce_length, key })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_id_that_a_server_makes_is_read(
        parameters in parameters(), bytes: [u8; 19], octet: u8, extra in prop::collection::vec(any::<u8>(), 0..3)
    ) {
        let (id_length, nonce_length) = (parameters.server_id_length.into(), usize::from(parameters.nonce_length));
        let plain = &bytes[..id_length + nonce_length];
        let block = match parameters.key {
            None => plain.to_vec(),
            Some(Key(key)) if plain.len() == 16 => {
                let mut block: [u8; 16] = plain.try_into().unwrap();
                Aes128::new(&key.into()).encrypt_block((&mut block).into());
                block.to_vec()
            }
            Some(Key(key)) => encrypt_in_four_passes(key, plain),
        };
        let id = [vec![octet], block, extra].concat();
        let wanted = ServerIdKey::new(0, 0, &plain[..id_length]).id;
        prop_assert_eq!(read(&parameters, &id), (octet >> 5, wanted));
    }

    #[test]
    fn parameters_come_back(parameters in parameters()) {
        prop_assert_eq!(Config::new(&parameters).parameters(), Some(parameters));
    }
}

#[test]
fn initial_and_0rtt_packets_are_told_by_version() {
    const V1: u32 = 1;
    const V2: u32 = 0x6b33_43cf;
    let chosen = |version| [0xc0, 0xd0, 0xe0, 0xf0].map(|first| is_client_chosen(first, version));
    assert_eq!(chosen(V1), [true, true, false, false], "Initial, 0-RTT, Handshake, Retry");
    assert_eq!(chosen(V2), [false, true, true, false], "Retry, Initial, 0-RTT, Handshake");
    assert_eq!(chosen(0x1a2a_3a4a), [false; 4]);
    // The fixed bit may have any value (RFC 9287), and the last four bits are protected.
    assert!(is_client_chosen(0x8f, V1) && !is_client_chosen(0xaf, V1));
}

#[test]
fn every_way_and_codepoint_has_a_counter_of_its_own() {
    assert!(Routed::counters().map(|(way, rotation)| way.counter(rotation)).eq(0..Routed::COUNTERS));
}

#[test]
fn keys_are_not_shown() {
    let parameters = Parameters { server_id_length: 1, nonce_length: 4, key: Some(Key(KEY.to_be_bytes())) };
    let shown = std::format!("{parameters:?}");
    assert!(shown.ends_with("key: Some(Key(…)) }"), "{shown}");
}
