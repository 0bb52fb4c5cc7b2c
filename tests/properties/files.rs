//! What is read back from where others can write: saved maps, and what a pinned
//! instance says of itself.

use ktally::map::saved::{Line, LineCodec, check_head};
use ktally::names::HostNames;
use ktally::schema::Type;
use ktally::tally::Meta;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::USUAL;
use crate::hold::hold;
use crate::shape::{any_value, declaration};

/// Something in the middle, and the rest or not.
fn edit() -> impl Strategy<Value = (Index, String, bool)> {
    let text = prop_oneof![any::<String>(), r#"[a-z0-9.,:"\[\]{}\\ -]{0,9}"#];
    (any::<Index>(), text, any::<bool>())
}

fn edited(line: &str, (at, text, is_cut): &(Index, String, bool)) -> Vec<u8> {
    let (before, after) = line.as_bytes().split_at(at.index(line.len() + 1));
    let after = if *is_cut { &[] } else { after };
    [before, text.as_bytes(), after].concat()
}

#[test]
fn entries_are_restored_as_they_were_saved() {
    let cases = (any_value(), any_value(), any::<[bool; 2]>(), edit());
    hold(USUAL, cases, |((key_type, key), (ty, value), how, edit)| {
        let [raw, per_cpu] = how;
        let codec = LineCodec {
            declaration: &declaration(&key_type, &ty),
            names: &HostNames::new(),
            value_count: per_cpu.then_some(2),
            raw,
        };
        let values = vec![value; codec.value_count.unwrap_or(1)];
        let mut line = Vec::new();
        let written = codec.write(&mut line, &key, values.iter().map(Vec::as_slice));
        prop_assert!(written.is_ok() && line.pop() == Some(b'\n'));
        let line = String::from_utf8(line).unwrap();
        prop_assert!(!line.contains('\n'));
        let read = codec
            .read(line.as_bytes())
            .map_err(|error| error.to_string());
        prop_assert_eq!(read, Ok(Line::Entry(key, values)), "{}", line);
        // Another's entry, or none, but of the right size.
        if let Ok(Line::Entry(key, values)) = codec.read(&edited(&line, &edit)) {
            prop_assert_eq!(key.len(), key_type.size);
            prop_assert!(values.iter().all(|value| value.len() == ty.size));
        }
        Ok(())
    });
}

#[test]
fn any_text_is_a_line_of_a_saved_map_or_none() {
    let number = prop_oneof![Just(json!(1)), any::<u64>().prop_map(|it| json!(it))];
    let cases = (number, ".*", edit());
    hold(USUAL, cases, |(number, text, edit)| {
        let wanted = json!({"ktally_map": 1, "key_size": 4, "declaration": text});
        let found = json!({"ktally_map": number, "key_size": 4, "declaration": text});
        let fits = check_head(found.to_string().as_bytes(), &wanted).is_ok();
        prop_assert_eq!(fits, number == 1);
        let _ = check_head(&edited(&found.to_string(), &edit), &wanted);
        let ty = Type::unsigned(4);
        let codec = LineCodec {
            declaration: &declaration(&ty, &ty),
            names: &HostNames::new(),
            value_count: None,
            raw: false,
        };
        let end = json!({"ktally_map_end": number}).to_string();
        let read = codec.read(end.as_bytes()).unwrap();
        prop_assert_eq!(read, Line::End(number.as_u64().unwrap()));
        let _ = codec.read(&edited(&end, &edit));
        let _ = codec.read(text.as_bytes());
        Ok(())
    });
}

#[test]
fn what_an_instance_says_is_understood_or_refused() {
    let program = (".*", ".*", prop::option::of(".*"), any::<bool>());
    let program = program.prop_map(|(name, section, target, entry)| {
        json!({"name": name, "section": section, "target": target, "entry": entry})
    });
    let numbers = (0..3u64, any::<u64>(), any::<u64>());
    let lists = (vec(program, 0..3), vec(".*", 0..3));
    let cases = (numbers, (".*", ".*"), lists, edit());
    hold(USUAL, cases, |(numbers, words, lists, edit)| {
        let said = json!({
            "ktally": numbers.0,
            "since_ms": numbers.1,
            "attached_at": numbers.2,
            "version": words.0,
            "tally": words.1,
            "programs": lists.0,
            "pins": lists.1,
        });
        let whole = said.to_string();
        for text in [whole.as_bytes(), &edited(&whole, &edit)] {
            if let Ok(meta) = Meta::from_json(&String::from_utf8_lossy(text)) {
                // As `status` shows it.
                let since = humantime::format_rfc3339_millis(meta.since());
                prop_assert!(since.to_string().ends_with('Z'));
            }
        }
        Ok(())
    });
}
