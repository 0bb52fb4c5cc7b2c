//! The records of tracepoints, as tracefs describes them.

use super::field::{Base, Field, Read, Stored, TEXT};

/// The fields of a `format` of tracefs, without those that all records have.
pub(crate) fn fields(format: &str) -> Vec<Field> {
    let lines = format.lines().map(str::trim);
    let lines = lines.filter_map(|line| line.strip_prefix("field:"));
    lines.filter_map(field).collect()
}

/// `unsigned short common_type; offset:0; size:2; signed:0;`
fn field(line: &str) -> Option<Field> {
    let mut parts = line.split(';').map(str::trim);
    let declaration = parts.next()?;
    let number = |part: Option<&str>, what: &str| part?.strip_prefix(what)?.parse().ok();
    let offset: u32 = number(parts.next(), "offset:")?;
    let size = number(parts.next(), "size:")? as usize;
    let signed = number(parts.next(), "signed:") == Some(1);
    let (ty, name) = declaration.rsplit_once([' ', '*'])?;
    let is_array = name.ends_with(']');
    let name = name.split('[').next().unwrap_or(name);
    if name.starts_with("common_") {
        return None;
    }
    let is_char = ty.trim_end() == "char";
    let is_string = ty.contains("char") && declaration.contains('*');
    let (read, stored, offsets) = match () {
        () if ty.starts_with("__data_loc char") => {
            (Read::RecordString, Stored::Text(TEXT), vec![offset])
        }
        () if is_array && is_char => (
            Read::String,
            Stored::Text(size.clamp(1, TEXT)),
            vec![offset],
        ),
        () if is_string => (Read::String, Stored::Text(TEXT), vec![offset, 0]),
        () if is_array => (
            Read::Bytes,
            Stored::Bytes(size.clamp(1, TEXT)),
            vec![offset],
        ),
        () if !matches!(size, 1 | 2 | 4 | 8) => return None,
        () if signed => (Read::Number, Stored::Signed(size), vec![offset]),
        () => (Read::Number, Stored::Unsigned(size), vec![offset]),
    };
    let is_part = read == Read::Number && signed && size < 8;
    Some(Field {
        read,
        stored,
        offsets,
        size,
        bits: if is_part { 8 * size as u8 } else { 0 },
        decoder: decoder(ty).filter(|_| read == Read::Number),
        c_type: declaration.trim_end_matches(name).trim().to_owned(),
        ..Field::of_base(name, Base::Context, 8, "")
    })
}

fn decoder(ty: &str) -> Option<String> {
    let decoder = match ty.trim() {
        "pid_t" => "pid",
        "dev_t" => "dev",
        "gfp_t" => "hex",
        "uid_t" => "uid",
        "gid_t" => "gid",
        "bool" => "bool",
        _ if ty.contains('*') => "hex",
        _ => return None,
    };
    Some(decoder.to_owned())
}
