//! What types say of their members: names, places, and how they are shown.

use crate::schema::KernelBtf;
use crate::schema::walk::{Id, Node, Part, Shape};

/// The members of a struct; those of anonymous members are its own.
pub(super) fn flat(kernel: &KernelBtf, id: Id) -> Vec<Part> {
    let mut found = Vec::new();
    add_flat(kernel, id, 0, 0, &mut found);
    found
}

fn add_flat(kernel: &KernelBtf, id: Id, bits: usize, depth: usize, found: &mut Vec<Part>) {
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return;
    }
    for member in kernel.members(id) {
        let bit_offset = bits + member.bit_offset;
        if member.name.is_empty() {
            add_flat(kernel, member.ty, bit_offset, depth + 1, found);
        } else {
            found.push(Part {
                bit_offset,
                ..member
            });
        }
    }
}

/// How a type of this name is shown.
pub(super) fn decoder_of_name(name: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 11] = [
        ("dev_t", "dev"),
        ("gfp_t", "gfp"),
        ("blk_opf_t", "hex"),
        ("__be16", "port"),
        ("__be32", "ipv4"),
        ("kuid_t", "uid"),
        ("uid_t", "uid"),
        ("kgid_t", "gid"),
        ("gid_t", "gid"),
        ("pid_t", "pid"),
        ("__kernel_dev_t", "dev"),
    ];
    let found = KNOWN.iter().find(|(known, _)| *known == name);
    Some(found?.1)
}

/// How the type says that it is shown: by its shape, or a name on the way to it.
pub(super) fn decoder_of(kernel: &KernelBtf, node: &Node, names: &[String]) -> Option<String> {
    let decoder = match &node.shape {
        Shape::Enum { name, .. } if !name.is_empty() => format!("enum:{name}"),
        Shape::Pointer(to) if kernel.node(*to).shape == Shape::Function => "ksym".to_owned(),
        Shape::Pointer(_) => "hex".to_owned(),
        Shape::Bool => "bool".to_owned(),
        _ => names.iter().find_map(|it| decoder_of_name(it))?.to_owned(),
    };
    Some(decoder)
}
