//! What the exporter reads of others: names in labels, and requests.

use std::net::IpAddr;

use ktally::export::{View, is_host_of, labels, takes_gzip};
use proptest::prelude::*;

use crate::USUAL;
use crate::hold::hold;

/// A label's value, by the rules of the format: `\\`, `\"` and `\n` are escapes.
fn unescaped(text: &str) -> Option<String> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        value.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            },
            '"' | '\n' => return None,
            c => c,
        });
    }
    Some(value)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), r#"[\\"\n,={} a]{0,12}"#]
}

#[test]
fn labels_are_read_back() {
    hold(USUAL, (name(), name()), |(a, b)| {
        let text = labels(&[("a", &*a), ("b", &*b)]);
        prop_assert!(!text.contains('\n'));
        let rest = text.strip_prefix("a=").unwrap();
        // The first quote that no backslash escapes ends the value.
        let mut is_escaped = false;
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let is_end = *c == '"' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            is_end
        });
        let (first, second) = rest.split_at(end.unwrap().0 + 1);
        prop_assert_eq!(unescaped(first), Some(a));
        prop_assert_eq!(unescaped(second.strip_prefix(",b=").unwrap()), Some(b));
        Ok(())
    });
}

#[test]
fn a_query_is_understood_or_refused() {
    let words = "(tally|by|where|sort|top|every|detail|total|x)?";
    let cases = (words, name(), r"[a-z%0-9&=+;,.<>~!-]{0,40}");
    hold(USUAL, cases, |(word, value, any)| {
        for query in [
            &value,
            &any,
            &format!("{word}={value}&{any}"),
            &format!("{word}={any}"),
        ] {
            if let Err(error) = View::parse(query) {
                prop_assert!(!error.to_string().is_empty());
            }
            takes_gzip(query);
        }
        Ok(())
    });
}

/// Of names, only those that are known; of addresses, every one.
#[test]
fn no_other_host_passes() {
    let hosts = prop_oneof![
        name(),
        r"[a-z0-9.:\[\]%-]{0,30}",
        r"(localhost|127\.0\.0\.1|\[::1\]|db1)[a-z.:]{0,9}",
    ];
    hold(
        USUAL,
        (hosts, any::<IpAddr>(), any::<u16>()),
        |(host, address, port)| {
            if is_host_of(&host, &["db1".to_owned()]) {
                let host = host.to_ascii_lowercase();
                let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                    Some((name, _)) => name,
                    None => host.split(':').next().unwrap(),
                };
                let is_known = ["localhost", "db1"].contains(&name);
                prop_assert!(is_known || name.parse::<IpAddr>().is_ok(), "{}", host);
            }
            let shown = match address {
                IpAddr::V4(address) => format!("{address}:{port}"),
                IpAddr::V6(address) => format!("[{address}]:{port}"),
            };
            prop_assert!(is_host_of(&shown, &[]), "{}", shown);
            Ok(())
        },
    );
}
