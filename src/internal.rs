//! The program's own BPF helpers, as the build generates them from
//! `src/bpf/internal/`: the skeleton of each, and its object. The object is for
//! helpers that work on the map of another program: libbpf gives a map that
//! reuses a descriptor the name of the other, and then a skeleton does not find it.

include!(concat!(env!("OUT_DIR"), "/internal.rs"));
