//! Addresses and ports, which are in network order wherever the kernel keeps
//! them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use super::registry::Decode;

/// Four bytes, the first of them lowest in the number.
#[derive(Default)]
pub(super) struct Ipv4;

impl Decode for Ipv4 {
    fn notation(&self, number: u128) -> Option<String> {
        let bytes = u32::try_from(number).ok()?.to_le_bytes();
        Some(Ipv4Addr::from(bytes).to_string())
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        let address: Ipv4Addr = text.parse().context("write an address like 192.0.2.1")?;
        Ok(Some(u32::from_le_bytes(address.octets()).into()))
    }
}

/// Sixteen bytes; an IPv4 address that is mapped into them shows as such.
#[derive(Default)]
pub(super) struct Ip;

impl Decode for Ip {
    fn notation(&self, number: u128) -> Option<String> {
        let address = Ipv6Addr::from(number.to_le_bytes());
        Some(address.to_canonical().to_string())
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        let address: IpAddr = text
            .parse()
            .context("write an address like 192.0.2.1 or 2001:db8::1")?;
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Ok(Some(i128::from_le_bytes(address.octets())))
    }
}

#[derive(Default)]
pub(super) struct Port;

impl Decode for Port {
    fn notation(&self, number: u128) -> Option<String> {
        let port = u16::from_be(u16::try_from(number).ok()?);
        Some(port.to_string())
    }

    fn parse(&self, text: &str) -> Result<Option<i128>> {
        let port: Option<u16> = text.parse().ok();
        let port = port.context("a port is a number from 0 to 65535")?;
        Ok(Some(port.to_be().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(decoder: &dyn Decode, text: &str) -> u128 {
        decoder.parse(text).unwrap().unwrap() as u128
    }

    #[test]
    fn addresses_of_both_families() {
        let v4 = number(&Ipv4, "127.0.0.1");
        assert_eq!(v4.to_le_bytes()[..4], [127, 0, 0, 1]);
        assert_eq!(Ipv4.notation(v4).as_deref(), Some("127.0.0.1"));
        assert_eq!(Ipv4.notation(1 << 32), None);
        for (typed, shown) in [
            ("::1", "::1"),
            ("2001:db8::2", "2001:db8::2"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            // Other ways of putting one into the other are addresses of their own.
            ("::", "::"),
            ("::192.0.2.1", "::c000:201"),
        ] {
            let notation = Ip.notation(number(&Ip, typed));
            assert_eq!(notation.as_deref(), Some(shown));
        }
        assert!(Ip.parse("192.0.2").is_err() && Ipv4.parse("::1").is_err());
    }

    #[test]
    fn ports_there_and_back() {
        let port = number(&Port, "443");
        assert_eq!(port.to_le_bytes()[..2], [1, 0xbb]);
        assert_eq!(Port.notation(port).as_deref(), Some("443"));
        assert_eq!(Port.notation(1 << 16), None);
        for bad in ["", "http", "-1", "65536"] {
            assert!(Port.parse(bad).is_err(), "{bad:?}");
        }
    }
}
