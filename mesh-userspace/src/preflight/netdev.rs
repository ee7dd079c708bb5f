//! What XDP an interface's driver can, as the kernel's `netdev` family says (kernel 6.3).
//!
//! Nothing is attached to find out: that may reset a link.

use std::io;

use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator, ParseableParametrized,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// Of `include/uapi/linux/netdev.h`: the command, its attributes, and bits of `enum netdev_xdp_act`.
const DEV_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
const BASIC: u64 = 1;
const NDO_XMIT: u64 = 4;
const RX_SG: u64 = 32;

/// What XDP a driver can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features(u64);

impl Features {
    /// Runs programs that pass, drop and send back.
    pub(super) const fn runs_programs(self) -> bool {
        self.0 & BASIC != 0
    }

    /// Sends what programs of other interfaces redirect to it.
    pub(super) const fn sends_redirected(self) -> bool {
        self.0 & NDO_XMIT != 0
    }

    /// Gives programs packets in several buffers.
    pub(super) const fn has_fragments(self) -> bool {
        self.0 & RX_SG != 0
    }
}

#[cfg(test)]
impl From<u64> for Features {
    fn from(bits: u64) -> Self {
        Self(bits)
    }
}

/// Asks the kernel; `None`: it is older than that, or does not know.
pub(super) fn features(ifindex: u32) -> Option<Features> {
    ask(ifindex).ok().flatten()
}

fn ask(ifindex: u32) -> io::Result<Option<Features>> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    let family =
        GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName("netdev".into())] };
    let Some(answer) = exchange(&socket, GenlMessage::from_payload(family))? else { return Ok(None) };
    let family = |fact: &GenlCtrlAttrs| if let GenlCtrlAttrs::FamilyId(id) = fact { Some(*id) } else { None };
    let id = answer.payload.nlas.iter().find_map(family);
    let Some(id) = id else { return Ok(None) };
    let mut question = GenlMessage::from_payload(Device { ifindex, features: None });
    question.set_resolved_family_id(id);
    Ok(exchange(&socket, question)?.and_then(|answer| answer.payload.features).map(Features))
}

/// One question, one answer; a refusal is none.
fn exchange<F>(socket: &Socket, question: GenlMessage<F>) -> io::Result<Option<GenlMessage<F>>>
where
    GenlMessage<F>: NetlinkSerializable + NetlinkDeserializable,
    NetlinkPayload<GenlMessage<F>>: From<GenlMessage<F>>,
    F: GenlFamily + std::fmt::Debug,
{
    let mut message = NetlinkMessage::from(question);
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<GenlMessage<F>>::deserialize(&bytes).map_err(io::Error::other)?;
    Ok(if let NetlinkPayload::InnerMessage(answer) = answer.payload { Some(answer) } else { None })
}

/// A device, in a question or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Device {
    ifindex: u32,
    features: Option<u64>,
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Device {
    fn attribute(&self) -> DefaultNla {
        DefaultNla::new(IFINDEX, self.ifindex.to_ne_bytes().to_vec())
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.attribute().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attribute().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(bytes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self { ifindex: 0, features: None };
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute?;
            match attribute.kind() {
                IFINDEX => device.ifindex = attribute.value().try_into().map_or(0, u32::from_ne_bytes),
                XDP_FEATURES => device.features = attribute.value().try_into().ok().map(u64::from_ne_bytes),
                _ => {}
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let features = DefaultNla::new(XDP_FEATURES, 0x23_u64.to_ne_bytes().to_vec());
        let device = Device { ifindex: 7, features: None };
        let mut bytes = vec![0; device.buffer_len() + features.buffer_len()];
        let (first, second) = bytes.split_at_mut(device.buffer_len());
        device.emit(first);
        features.emit(second);
        let read = Device::parse_with_param(&bytes, GenlHeader { cmd: DEV_GET, version: 1 }).unwrap();
        assert_eq!(read, Device { ifindex: 7, features: Some(0x23) });
        let can = Features(0x23);
        assert!(can.runs_programs() && can.has_fragments() && !can.sends_redirected());
    }

    #[test]
    fn nobody_can_say_of_an_interface_that_is_not_there() {
        assert_eq!(features(u32::MAX >> 1), None);
    }

    #[test]
    fn the_loopback_runs_no_native_programs() {
        // Interface 1 is `lo` in every namespace; a kernel before 6.3 says nothing.
        assert!(features(1).is_none_or(|can| !can.runs_programs()));
    }
}
