//! Types as C declares them, tags and help included.

use super::declaration::Declaration;
use super::tags::Tags;
use super::types::{Kind, Member, Type};

impl Declaration {
    /// Key and value as a C author would write them.
    pub fn as_c(&self) -> String {
        let key = declare(&self.key.ty, "key", 0, Words::All);
        let value = declare(&self.value.ty, "value", 0, Words::All);
        let (key_tags, value_tags) = (as_c(&self.key_tags()), as_c(&self.value_tags()));
        format!("{key}{key_tags};\n{value}{value_tags};\n")
    }
}

impl Type {
    /// As C declares it, without what stands beside it in words, and without the
    /// names in an enum of a name.
    pub(super) fn as_c(&self, name: &str) -> String {
        format!("{};\n", declare(self, name, 0, Words::Layout))
    }
}

/// What is written of a type.
#[derive(Clone, Copy, PartialEq)]
enum Words {
    All,
    /// No tags, and no names of an enum that has a name: the same type may have
    /// learnt more of them.
    Layout,
}

/// `__u64 name`, or a struct with its members.
fn declare(ty: &Type, name: &str, depth: usize, words: Words) -> String {
    let (indent, inner) = ("\t".repeat(depth), "\t".repeat(depth + 1));
    let space = if name.is_empty() { "" } else { " " };
    let block = |keyword, lines: String| {
        let head = head(keyword, &ty.name);
        format!("{indent}{head} {{\n{lines}{indent}}}{space}{name}")
    };
    let member = |member: &Member| declare_member(member, depth + 1, words);
    match &ty.kind {
        Kind::Struct(members) => block("struct", members.iter().map(member).collect()),
        Kind::Union(members) => block("union", members.iter().map(member).collect()),
        Kind::Array { element, len } => declare(element, &format!("{name}[{len}]"), depth, words),
        Kind::Pointer => format!("{indent}void *{name}"),
        Kind::Enum { variants, .. }
            if !variants.is_empty() && (words == Words::All || ty.name.is_empty()) =>
        {
            let variants = variants.iter();
            let lines = variants.map(|it| format!("{inner}{} = {},\n", it.name, it.value));
            block("enum", lines.collect())
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

fn declare_member(member: &Member, depth: usize, words: Words) -> String {
    let name = match member.place.bits {
        Some(bits) => format!("{} : {bits}", member.name),
        None => member.name.clone(),
    };
    let declared = declare(&member.place.ty, name.trim_start(), depth, words);
    match words {
        Words::All => format!("{declared}{};\n", as_c(&member.tags)),
        Words::Layout => format!("{declared};\n"),
    }
}

/// The macros of `ktally.bpf.h` that left these tags.
fn as_c(tags: &Tags) -> String {
    let helps = [
        ("COUNTER", &tags.counter),
        ("GAUGE", &tags.gauge),
        ("MAXIMUM", &tags.maximum),
        ("MINIMUM", &tags.minimum),
        ("HISTOGRAM", &tags.histogram),
    ];
    let helps = helps.into_iter();
    let mut macros: String = helps
        .filter_map(|(name, help)| Some(format!(" {name}({:?})", help.as_ref()?)))
        .collect();
    macros.extend(tags.decoder.as_ref().map(|it| format!(" AS({})", it.tag())));
    macros.extend(tags.unit.as_ref().map(|it| format!(" UNIT({})", it.name())));
    macros.extend(tags.with.as_ref().map(|it| format!(" WITH({it})")));
    macros.extend(tags.hidden.then(|| " HIDDEN".to_owned()));
    macros
}
