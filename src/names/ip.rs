//! Addresses and ports, which are in network order wherever the kernel keeps
//! them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

/// Four bytes, the first of them lowest in `number`.
pub(super) fn ipv4(number: u128) -> Option<String> {
    let bytes = u32::try_from(number).ok()?.to_le_bytes();
    Some(Ipv4Addr::from(bytes).to_string())
}

/// Sixteen bytes; an IPv4 address that is mapped into them shows as such.
pub(super) fn ip(number: u128) -> Option<String> {
    let address = Ipv6Addr::from(number.to_le_bytes());
    Some(address.to_canonical().to_string())
}

/// A port's number.
pub(super) fn port(number: u128) -> Option<String> {
    let port = u16::from_be(u16::try_from(number).ok()?);
    Some(port.to_string())
}

/// What [`ipv4`] shows, back to a number.
pub(super) fn ipv4_number(text: &str) -> Result<u32> {
    let address: Ipv4Addr = text.parse().context("write an address like 192.0.2.1")?;
    Ok(u32::from_le_bytes(address.octets()))
}

/// What [`ip`] shows, back to a number.
pub(super) fn ip_number(text: &str) -> Result<u128> {
    let address: IpAddr = text
        .parse()
        .context("write an address like 192.0.2.1 or 2001:db8::1")?;
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    Ok(u128::from_le_bytes(address.octets()))
}

/// A port's number as the kernel has it.
pub(super) fn port_number(text: &str) -> Result<u16> {
    let port: u16 = text
        .parse()
        .ok()
        .context("a port is a number from 0 to 65535")?;
    Ok(port.to_be())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families() {
        let bytes = |address: &str| ip_number(address).unwrap();
        assert_eq!(
            ipv4(u32::from_le_bytes([127, 0, 0, 1]).into()).as_deref(),
            Some("127.0.0.1")
        );
        assert_eq!(ipv4(1 << 32), None);
        assert_eq!(ip(bytes("::1")).as_deref(), Some("::1"));
        assert_eq!(ip(bytes("2001:db8::2")).as_deref(), Some("2001:db8::2"));
        assert_eq!(ip(bytes("::ffff:192.0.2.1")).as_deref(), Some("192.0.2.1"));
        assert_eq!(bytes("192.0.2.1"), bytes("::ffff:192.0.2.1"));
        assert!(ip_number("192.0.2").is_err() && ipv4_number("::1").is_err());
        // Other ways of putting one into the other are addresses of their own.
        assert_eq!(ip(bytes("::")).as_deref(), Some("::"));
        assert_eq!(ip(bytes("::192.0.2.1")).as_deref(), Some("::c000:201"));
    }

    #[test]
    fn ports_there_and_back() {
        assert_eq!(port_number("443").unwrap().to_ne_bytes(), [1, 0xbb]);
        let port_443 = u16::from_ne_bytes([1, 0xbb]);
        assert_eq!(port(port_443.into()).as_deref(), Some("443"));
        assert_eq!(port(1 << 16), None);
        for bad in ["", "http", "-1", "65536"] {
            assert!(port_number(bad).is_err(), "{bad:?}");
        }
    }
}
