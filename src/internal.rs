//! The program's own BPF helpers, as the build made them from
//! `src/bpf/internal/`: a skeleton each, and the object itself for those that
//! are loaded with a map of somebody else, whose name no skeleton knows.

include!(concat!(env!("OUT_DIR"), "/internal.rs"));
