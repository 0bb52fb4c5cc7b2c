//! Types as C declares them, tags and help included.

use std::fmt::Write;
use std::sync::Arc;

use super::declaration::Declaration;
use super::tags::Tags;
use super::types::{Kind, Member, Place, Type};

impl Declaration {
    /// Key and value as a C author would write them.
    pub fn as_c(&self) -> String {
        let mut c = String::new();
        for (what, place, tags) in [
            ("key", &self.key, self.key_tags()),
            ("value", &self.value, self.value_tags()),
        ] {
            let declared = declare(&place.ty, what, 0);
            let _ = writeln!(c, "{declared}{};", tags_as_c(&tags));
        }
        c
    }
}

impl Type {
    /// As C declares it, without what stands beside it in words, and without the
    /// names in an enum of a name.
    pub(super) fn as_c(&self, name: &str) -> String {
        format!("{};\n", declare(&bare(self), name, 0))
    }
}

/// Without tags.
fn bare(ty: &Type) -> Type {
    let members = |members: &[Member]| -> Vec<Member> {
        let bare = |member: &Member| Member {
            name: member.name.clone(),
            place: Place {
                ty: Arc::new(bare(&member.place.ty)),
                ..member.place.clone()
            },
            tags: Tags::default(),
        };
        members.iter().map(bare).collect()
    };
    let kind = match &ty.kind {
        Kind::Struct(of) => Kind::Struct(members(of)),
        Kind::Union(of) => Kind::Union(members(of)),
        Kind::Array { element, len } => Kind::Array {
            element: Arc::new(bare(element)),
            len: *len,
        },
        // The same type may have learnt names.
        Kind::Enum { signed, .. } if !ty.name.is_empty() => Kind::Enum {
            signed: *signed,
            variants: Vec::new(),
        },
        kind => kind.clone(),
    };
    Type { kind, ..ty.clone() }
}

/// `__u64 name`, or a struct with its members.
fn declare(ty: &Type, name: &str, depth: usize) -> String {
    let indent = "\t".repeat(depth);
    let space = if name.is_empty() { "" } else { " " };
    match &ty.kind {
        Kind::Struct(members) | Kind::Union(members) => {
            let keyword = match ty.kind {
                Kind::Struct(_) => "struct",
                _ => "union",
            };
            let head = head(keyword, &ty.name);
            let members: String = members
                .iter()
                .map(|member| declare_member(member, depth + 1))
                .collect();
            format!("{indent}{head} {{\n{members}{indent}}}{space}{name}")
        }
        Kind::Array { element, len } => declare(element, &format!("{name}[{len}]"), depth),
        Kind::Pointer => format!("{indent}void *{name}"),
        Kind::Enum { variants, .. } if !variants.is_empty() => {
            let inner = "\t".repeat(depth + 1);
            let variants: String = variants
                .iter()
                .map(|it| format!("{inner}{} = {},\n", it.name, it.value))
                .collect();
            let head = head("enum", &ty.name);
            format!("{indent}{head} {{\n{variants}{indent}}}{space}{name}")
        }
        Kind::Opaque => format!("{indent}char{space}{name}[{}] /* no type */", ty.size),
        _ => format!("{indent}{}{space}{name}", ty.name),
    }
}

fn head(keyword: &str, name: &str) -> String {
    match name.split_once(' ') {
        None if name.is_empty() => keyword.to_owned(),
        Some((first, _)) if first == keyword => name.to_owned(),
        // Known by its typedef, or a section.
        _ => format!("{keyword} /* {name} */"),
    }
}

fn declare_member(member: &Member, depth: usize) -> String {
    let name = match member.place.bits {
        Some(bits) => format!("{} : {bits}", member.name),
        None => member.name.clone(),
    };
    let name = name.trim_start();
    let declared = declare(&member.place.ty, name, depth);
    format!("{declared}{};\n", tags_as_c(&member.tags))
}

/// The macros of `ktally.bpf.h` that left these tags.
fn tags_as_c(tags: &Tags) -> String {
    let mut macros = Vec::new();
    for (name, help) in [
        ("COUNTER", &tags.counter),
        ("GAUGE", &tags.gauge),
        ("HISTOGRAM", &tags.histogram),
    ] {
        macros.extend(help.as_ref().map(|help| format!("{name}({help:?})")));
    }
    macros.extend(tags.decoder.as_ref().map(|it| format!("AS({})", it.tag())));
    macros.extend(tags.unit.as_ref().map(|it| format!("UNIT({})", it.name())));
    macros.extend(tags.with.as_ref().map(|it| format!("WITH({it})")));
    macros.extend(tags.hidden.then(|| "HIDDEN".to_owned()));
    macros.iter().map(|text| format!(" {text}")).collect()
}
