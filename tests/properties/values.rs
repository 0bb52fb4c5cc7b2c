//! Decoding and parsing: each other's reverse.

use ktally::names::HostNames;
use ktally::schema::{LeftOut, Place, Streamed, Tags, Value, parse};
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::USUAL;
use crate::hold::hold;
use crate::shape::{any_value, exact_value};

fn read(place: &Place, text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; place.ty.size];
    let (tags, labels) = (Tags::default(), HostNames::new());
    parse(place, &tags, text, LeftOut::Refused, &labels, &mut bytes)
        .map(|()| bytes)
        .map_err(|error| format!("{error:#}"))
}

/// As a user would type it: bytes as they are, all else as JSON.
fn typed(value: &Value<'_>) -> String {
    match value {
        Value::Bytes(_) => value.to_string(),
        value => serde_json::to_string(value).unwrap(),
    }
}

/// `a.b=1,c=[2,3]`
fn by_fields(value: &Value<'_>, path: &str, fields: &mut Vec<String>) {
    match value {
        Value::Fields(inner) if !inner.is_empty() => {
            for (name, value) in inner {
                let dot = if path.is_empty() { "" } else { "." };
                by_fields(value, &format!("{path}{dot}{name}"), fields);
            }
        }
        value => fields.push(format!("{path}={}", typed(value))),
    }
}

#[test]
fn every_run_of_bytes_has_a_value() {
    let cases = any_value();
    hold(USUAL, cases, |(ty, bytes)| {
        let place = Place::whole(ty);
        let value = place.decode(&bytes);
        let json = serde_json::to_string(&value).unwrap();
        prop_assert!(serde_json::from_str::<Json>(&json).is_ok(), "{}", json);
        let (tags, labels) = (Tags::default(), HostNames::new());
        let streamed = Streamed {
            place: &place,
            tags: &tags,
            bytes: &bytes,
            names: &labels,
        };
        prop_assert_eq!(serde_json::to_string(&streamed).unwrap(), json);
        let _ = value.to_string();
        let sum = Value::sum(vec![value.clone(), value.clone()]);
        prop_assert!(serde_json::to_string(&sum).is_ok());
        // What lies past the end has a value, too.
        let cut = &bytes[..bytes.len() / 2];
        prop_assert!(serde_json::to_string(&place.decode(cut)).is_ok());
        Ok(())
    });
}

/// What was read back from what was printed prints the same.
#[test]
fn what_is_printed_means_itself() {
    let cases = any_value();
    hold(USUAL, cases, |(ty, bytes)| {
        let place = Place::whole(ty);
        let value = place.decode(&bytes);
        let printed = typed(&value);
        if let Ok(again) = read(&place, &printed) {
            prop_assert_eq!(typed(&place.decode(&again)), printed);
        }
        Ok(())
    });
}

#[test]
fn parse_is_the_reverse_of_print() {
    let cases = exact_value();
    hold(USUAL, cases, |(ty, bytes)| {
        let place = Place::whole(ty);
        let value = place.decode(&bytes);
        let printed = typed(&value);
        prop_assert_eq!(read(&place, &printed), Ok(bytes.clone()), "{}", printed);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(read(&place, &format!("hex:{hex}")), Ok(bytes));
        Ok(())
    });
}

#[test]
fn parse_is_the_reverse_of_fields() {
    let cases = exact_value();
    hold(USUAL, cases, |(ty, bytes)| {
        let place = Place::whole(ty);
        let value = place.decode(&bytes);
        if let Value::Fields(inner) = &value
            && !inner.is_empty()
        {
            let mut fields = Vec::new();
            by_fields(&value, "", &mut fields);
            let text = fields.join(",");
            prop_assert_eq!(read(&place, &text), Ok(bytes), "{}", text);
        }
        Ok(())
    });
}

/// A mistake is an error, and never more than that.
#[test]
fn any_text_is_read_or_refused() {
    let cases = (
        any_value(),
        prop_oneof![any::<String>(), r#"[a-z0-9m.,=:"\[\]{}\\ -]{0,40}"#],
        any::<prop::sample::Index>(),
    );
    hold(USUAL, cases, |((ty, bytes), text, cut)| {
        let place = Place::whole(ty);
        let _ = read(&place, &text);
        // What was nearly right.
        let mut printed = typed(&place.decode(&bytes));
        let at = (0..=cut.index(printed.len() + 1))
            .rev()
            .find(|at| printed.is_char_boundary(*at))
            .unwrap();
        printed.insert_str(at, &text);
        let _ = read(&place, &printed);
        let _ = read(&place, &printed[..at]);
        let _ = read(&place, &format!("m1={text}"));
        let _ = read(&place, &format!("hex:{text}"));
        Ok(())
    });
}
